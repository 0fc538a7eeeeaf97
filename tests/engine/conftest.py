"""NIfTI files with any header, however wrong, and grids in all orientations."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat
from nibabel.quaternions import mat2quat

from segreg.engine.phantom import Phantom, make_phantom
from segreg.engine.runtime import Engine
from segreg.kernels import _machines
from tests.engine.gpu_stand_ins import make_cupy, replace_libraries

RawNifti = Callable[..., Path]


def place(linear: Any, origin: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = origin
    return affine


TURNED = euler2mat(0.4, -0.2, 0.3)
AFFINES = {
    "RAS": place(np.diag([2.0, 2.0, 2.0]), (-11.0, -14.0, -9.0)),
    "LAS": place(np.diag([-2.0, 2.0, 2.0]), (13.0, -14.0, -9.0)),
    "LPS": place(np.diag([-2.0, -2.0, 2.0]), (13.0, 15.0, -9.0)),
    "axes swapped": place([[0, 0, 2.0], [-2.0, 0, 0], [0, 2.0, 0]], (-11.0, 15.0, -12.0)),
    "oblique": place(TURNED * [2.0, 2.0, 2.0], (-8.0, -15.0, -10.0)),
    "anisotropic": place(np.diag([1.25, 1.25, 5.0]), (-9.0, -8.0, -20.0)),
    "oblique anisotropic left-handed": place(TURNED * [-1.5, 1.25, 3.0], (10.0, -8.0, -12.0)),
}


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def affine(request: pytest.FixtureRequest) -> np.ndarray:
    return np.array(request.param)


@pytest.fixture(scope="session")
def small_phantom() -> Phantom:
    """An oblique, anisotropic pair of few voxels."""
    return make_phantom((24, 30, 27), (5.0, 4.0, 4.0))


@pytest.fixture(scope="session")
def engine(tiny_package: Path) -> Iterator[Engine]:
    """Moment matching, with a network that has nothing to add."""
    with Engine(tiny_package) as opened:
        yield opened


@pytest.fixture(scope="session")
def looking(looking_package: Path) -> Iterator[Engine]:
    """A network whose answer depends on every voxel it is shown."""
    with Engine(looking_package) as opened:
        yield opened


@pytest.fixture
def raw_nifti(tmp_path: Path) -> RawNifti:
    """Writes a file from an array (x, y, z, ...) and header fields, none of them checked.

    ``qform`` and ``sform`` are (3, 3) or (4, 4); qform keeps only rotation and origin.
    """

    def write(
        name: str = "image.nii",
        array: Any = None,
        *,
        order: str = "<",
        kind: Any = nib.Nifti1Header,
        qform: Any = None,
        sform: Any = None,
        **fields: Any,
    ) -> Path:
        array = np.zeros((4, 5, 6), np.float32) if array is None else np.asarray(array)
        header = kind(endianness=order)
        header.set_data_shape(array.shape)
        header.set_data_dtype(array.dtype)
        header["vox_offset"] = header.sizeof_hdr + 4
        header["scl_slope"], header["scl_inter"] = 1, 0
        header["xyzt_units"] = 2
        if qform is not None:
            header["quatern_b"], header["quatern_c"], header["quatern_d"] = mat2quat(
                np.asarray(qform)[:3, :3]
            )[1:]
            origin = np.asarray(qform)[:3, 3] if np.shape(qform) == (4, 4) else np.zeros(3)
            header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = origin
        if sform is not None:
            for axis, row in zip("xyz", np.asarray(sform), strict=False):
                header[f"srow_{axis}"] = row
        for field, value in fields.items():
            header[field] = value
        content = header.binaryblock + b"\0\0\0\0"
        content += array.astype(array.dtype.newbyteorder(order)).tobytes(order="F")
        path = tmp_path / name
        path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture
def stand_in_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A GPU on host memory; gives its CuPy. Engines are kept for the whole session."""
    cupy = make_cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setenv("SEGREG_CACHE", str(tmp_path_factory.getbasetemp() / "engines"))
    replace_libraries(monkeypatch)
    _machines._cuda_machine.cache_clear()
    yield cupy
    _machines._cuda_machine.cache_clear()
