"""NIfTI-1 and NIfTI-2 single files: everything is checked before a voxel is allocated.

nibabel parses the header, ISA-L inflates and deflates. Arrays have NIfTI's axes reversed,
``(..., z, y, x)``, which is the file's own order in memory: nothing is transposed or copied.
"""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from isal import igzip, igzip_lib, igzip_threaded, isal_zlib
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from segreg.engine.errors import InputError
from segreg.engine.files import replace_file
from segreg.engine.geometry import Affine
from segreg.engine.header import locate

DTYPES = {
    2: np.uint8,
    4: np.int16,
    8: np.int32,
    16: np.float32,
    64: np.float64,
    256: np.int8,
    512: np.uint16,
    768: np.uint32,
    1024: np.int64,
    1280: np.uint64,
}
UNSUPPORTED = {
    1: "1-bit",
    32: "complex",
    128: "RGB colour",
    1536: "128-bit float",
    1792: "complex",
    2048: "complex",
    2304: "RGBA colour",
}
GZIP_MAGIC = b"\x1f\x8b"
MAX_DEFLATE_RATIO = 1032  # deflate cannot pack denser: 258 bytes out of two bits
CHUNK = 4096
LEVEL = 1  # ISA-L's fast level; higher ones gain next to nothing on images
WRITE_THREADS = min(4, os.cpu_count() or 1)
VECTOR_INTENT = 1007
FAULTS = cast(tuple[type[Exception], ...], (EOFError, OSError, isal_zlib.error, igzip_lib.error))


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """A checked header; ``read_array`` fetches the voxels.

    Attributes
    ----------
    name : file name, without its folder (folders may name patients).
    shape : axes reversed, (..., z, y, x).
    affine : (4, 4) voxel (x, y, z) -> RAS mm.
    notes : sentences about contradictions met in the header.
    intent : NIfTI intent code.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    intent: int
    affine: Affine
    notes: tuple[str, ...]
    offset: int
    compressed: bool

    @classmethod
    def open(cls, path: str | Path, *, geometry: str | None = None) -> NiftiFile:
        """Read and check the header of ``path``, and that the file can hold what it promises.

        Parameters
        ----------
        geometry : see :func:`segreg.engine.header.locate`.

        Raises
        ------
        InputError : missing, a folder, empty, not NIfTI, a .hdr/.img pair, truncated, absurd
            sizes, a voxel type that is no number, an unusable affine.
        """
        path = Path(path)
        name = path.name
        size = _check_file(path)
        try:
            with path.open("rb") as file:
                compressed = file.read(2) == GZIP_MAGIC
                file.seek(0)
                start = _inflate(file).read(540) if compressed else file.read(540)
        except FAULTS as error:
            raise _unreadable(name, error) from error
        header = _parse_header(start, name)
        shape, dtype = _check_shape(header, name), _check_dtype(header, name)
        slope, intercept = _check_scaling(header, name)
        offset = _check_offset(header, name)
        affine, notes = locate(header, geometry=geometry, name=name)
        intent = int(header["intent_code"])
        nifti = cls(
            path, name, shape, dtype, slope, intercept, intent, affine, notes, offset, compressed
        )
        nifti._check_size(size)
        return nifti

    @property
    def promised(self) -> int:
        """Bytes the header promises, up to the last voxel."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def read_array(self) -> NDArray[Any]:
        """The voxels, (..., z, y, x), C-contiguous, native byte order, read-only.

        Scaled by scl_slope and scl_inter where the header asks for it: float32, or float64 for
        types that float32 cannot hold.
        """
        try:
            with self.path.open("rb") as file:
                stream = _inflate(file) if self.compressed else file
                content = stream.read(self.promised)
                if self.compressed:
                    stream.read(1)  # reaches the trailer: the checksum is compared only there
        except FAULTS as error:
            raise _unreadable(self.name, error) from error
        except MemoryError as error:
            raise InputError(
                f"{self.name}: its {self.promised:,} bytes do not fit into memory. "
                "Crop or resample the image first."
            ) from error
        if len(content) < self.promised:
            raise self._truncated(len(content))
        count = math.prod(self.shape)
        array = np.frombuffer(content, self.dtype, count, self.offset).reshape(self.shape)
        if not array.dtype.isnative or not array.flags.aligned:
            array = array.astype(array.dtype.newbyteorder("="))
        return self._scale(array)

    def _scale(self, array: NDArray[Any]) -> NDArray[Any]:
        if self.slope != 1 or self.intercept != 0:
            exact = self.dtype.itemsize <= 2 or self.dtype.str[1:] == "f4"
            dtype = np.float32 if exact else np.float64
            with np.errstate(over="ignore", invalid="ignore"):  # check_image counts infinities
                array = np.multiply(array, self.slope, dtype=dtype)
                array += self.intercept
        array.flags.writeable = False
        return array

    def _check_size(self, size: int) -> None:
        """Refuse what the file cannot hold, before anything of that size is allocated."""
        if not self.compressed:
            if size < self.promised:
                raise self._truncated(size)
            return
        if self.promised > size * MAX_DEFLATE_RATIO:
            raise InputError(
                f"{self.name}: the header promises {self.promised:,} bytes, more than {size:,} "
                "compressed bytes can hold. The header is damaged; fetch the file again."
            )
        with self.path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            length = int.from_bytes(file.read(4), "little")
            if length != self.promised % 2**32:
                # Truncated, or legal but unusual (several gzip members, bytes behind the image).
                file.seek(0)
                held = _count_bytes(file, self.promised)
                if held < self.promised:
                    raise self._truncated(held)

    def _truncated(self, held: int) -> InputError:
        return InputError(
            f"{self.name}: expected {self.promised:,} bytes as its header promises, got {held:,}. "
            "The file is truncated; fetch it again."
        )


def write_nifti(path: str | Path, array: NDArray[Any], affine: Affine, *, intent: int = 0) -> None:
    """Write ``array`` (..., z, y, x) to ``path`` (.nii or .nii.gz): whole, or not at all.

    sform, qform and pixdim agree, codes 1, unit mm. NIfTI-1, and NIfTI-2 where a side is longer
    than NIfTI-1 can count.

    Raises
    ------
    InputError : another suffix, or the place refuses the file.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path.name}: expected a name that ends in .nii or .nii.gz.")
    array = np.ascontiguousarray(array)
    long = max(array.shape) > np.iinfo(np.int16).max
    kind: Any = Nifti2Header if long else Nifti1Header
    header = kind()
    header.set_data_shape(array.shape[::-1])
    header.set_data_dtype(array.dtype)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1.0, 0.0)
    header["intent_code"] = intent
    header["vox_offset"] = len(header.binaryblock) + 4
    with replace_file(path) as temporary, _open_for_writing(temporary) as file:
        file.write(header.binaryblock)
        file.write(b"\0\0\0\0")  # no extensions
        file.write(array.data.cast("B"))


def _open_for_writing(path: Path) -> BinaryIO:
    if path.name.endswith(".gz"):
        open_gzip: Callable[..., BinaryIO] = igzip_threaded.open
        return open_gzip(path, "wb", compresslevel=LEVEL, threads=WRITE_THREADS)
    return path.open("wb")


def _inflate(file: BinaryIO) -> io.BufferedIOBase:
    kind: Callable[..., io.BufferedIOBase] = igzip.IGzipFile
    return kind(fileobj=file, mode="rb")


def _count_bytes(file: BinaryIO, limit: int) -> int:
    """Bytes that ``file`` inflates to before it ends or breaks, to within ``CHUNK``; none is kept.

    Counts no further than ``limit``.
    """
    stream, count = _inflate(file), 0
    try:
        while count < limit and (got := len(stream.read1(CHUNK))):
            count += got
    except FAULTS:
        return count  # the fault is why the count was asked for
    return count


def _check_file(path: Path) -> int:
    """Size of the file at ``path``, after the faults that need no look inside."""
    name = path.name
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(f"{name}: no such file. Check the path.") from error
    except OSError as error:
        raise _unreadable(name, error) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise InputError(f"{name}: expected a NIfTI file (.nii, .nii.gz), got {kind}.")
    if name.lower().removesuffix(".gz").endswith((".hdr", ".img")):
        raise InputError(
            f"{name}: expected one NIfTI file, got half of a .hdr/.img pair. "
            "Convert the pair to .nii first, for example with nibabel or SimpleITK."
        )
    if size == 0:
        raise InputError(f"{name}: expected a NIfTI file, got an empty one. Fetch it again.")
    return size


def _unreadable(name: str, error: Exception) -> InputError:
    if isinstance(error, OSError) and error.strerror:  # without the path, which may name a patient
        return InputError(f"{name}: cannot be read ({error.strerror}). Check its permissions.")
    return InputError(f"{name}: the file is damaged ({error}). Fetch it again.")


def _parse_header(start: bytes, name: str) -> Nifti1Header:
    """The header, in whichever version and byte order its first and magic fields say."""
    kinds: tuple[tuple[int, int, type[Nifti1Header]], ...] = (
        (348, 344, Nifti1Header),
        (540, 4, Nifti2Header),
    )
    for size, place, kind in kinds:
        for order, sign in (("little", "<"), ("big", ">")):
            if int.from_bytes(start[:4], cast(Any, order)) != size or len(start) < size:
                continue
            magic = start[place : place + 3]
            if magic in (b"ni1", b"ni2"):
                raise InputError(
                    f"{name}: expected one NIfTI file, got the header of a .hdr/.img pair. "
                    "Convert the pair to .nii first, for example with nibabel or SimpleITK."
                )
            if magic in (b"n+1", b"n+2"):
                return kind(start[:size], endianness=sign, check=False)
    raise InputError(
        f"{name}: expected a NIfTI file (.nii, .nii.gz), got something else. "
        "Convert it to NIfTI first, for example with SimpleITK or dcm2niix."
    )


def _check_shape(header: Nifti1Header, name: str) -> tuple[int, ...]:
    dim = [int(n) for n in header["dim"]]
    if not 2 <= dim[0] <= 7:
        raise InputError(f"{name}: expected an image with 2 or more axes, got {dim[0]}.")
    shape = dim[1 : dim[0] + 1]
    if min(shape) < 1:
        raise InputError(
            f"{name}: expected a positive size on every axis, got {' x '.join(map(str, shape))}. "
            "The header is damaged."
        )
    return tuple(reversed(shape))


def _check_dtype(header: Nifti1Header, name: str) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in DTYPES:
        kind = UNSUPPORTED.get(code, "unknown")
        raise InputError(
            f"{name}: expected voxels that are integers or floats, got {kind} ones (NIfTI type "
            f"{code}). Convert the image to float32, or label maps to int16."
        )
    dtype: np.dtype[Any] = np.dtype(DTYPES[code]).newbyteorder(cast(Any, header.endianness))
    return dtype


def _check_scaling(header: Nifti1Header, name: str) -> tuple[float, float]:
    """(slope, intercept); a slope of 0 or NaN means none, as the standard says."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise InputError(
            f"{name}: expected finite scl_slope and scl_inter, got {slope:g} and {intercept:g}. "
            "Mend the header."
        )
    return slope, intercept


def _check_offset(header: Nifti1Header, name: str) -> int:
    offset, least = float(header["vox_offset"]), len(header.binaryblock) + 4
    if not (least <= offset < 2**53):
        raise InputError(
            f"{name}: expected voxels to start at byte {least} or later (vox_offset), "
            f"got {offset:g}. The header is damaged."
        )
    return int(offset)
