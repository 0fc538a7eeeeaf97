from __future__ import annotations

import gzip
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segreg.engine import nifti
from segreg.engine.errors import InputError
from segreg.engine.nifti import DTYPES, NiftiFile, write_nifti

RawNifti = Callable[..., Path]
ALL_DTYPES = [np.dtype(d).name for d in DTYPES.values()]


def random_array(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, 40, shape)
    return (np.abs(values) if dtype.startswith("u") else values).astype(dtype)


def read(path: Path) -> np.ndarray:
    return NiftiFile.open(path).read_array()


# -- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_reads_what_nibabel_reads(raw_nifti: RawNifti, name: str, order: str, dtype: str) -> None:
    path = raw_nifti(name, random_array(dtype, (5, 3, 4)), order=order)
    array = read(path)
    np.testing.assert_array_equal(array.T, np.asarray(nib.load(path).dataobj))
    assert array.shape == (4, 3, 5)
    assert array.dtype == np.dtype(dtype)
    assert array.flags.c_contiguous
    assert not array.flags.writeable


def test_loading_copies_nothing(raw_nifti: RawNifti) -> None:
    array = read(raw_nifti("a.nii.gz", random_array("float32", (64, 64, 64))))
    owner = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    assert isinstance(owner, bytes)  # what the decompressor filled


@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_nifti2(raw_nifti: RawNifti, order: str) -> None:
    path = raw_nifti(
        "a.nii.gz", random_array("int16", (5, 3, 4)), kind=nib.Nifti2Header, order=order
    )
    np.testing.assert_array_equal(read(path).T, np.asarray(nib.load(path).dataobj))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_scaling_is_applied(raw_nifti: RawNifti, dtype: str, order: str) -> None:
    path = raw_nifti(
        array=random_array(dtype, (5, 3, 4)), order=order, scl_slope=0.25, scl_inter=-3
    )
    array = read(path)
    np.testing.assert_allclose(array.T, nib.load(path).get_fdata(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(array, sitk.GetArrayFromImage(sitk.ReadImage(str(path))), rtol=1e-6)
    assert array.dtype == (np.float64 if dtype in ("int32", "float64") else np.float32)
    assert not array.flags.writeable


@pytest.mark.parametrize("slope", [0, 1, np.nan])
def test_no_scaling_keeps_integers(raw_nifti: RawNifti, slope: float) -> None:
    path = raw_nifti(array=random_array("int16", (5, 3, 4)), scl_slope=slope)
    assert read(path).dtype == np.int16


@pytest.mark.parametrize("offset", [352, 353, 400])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_may_start_later(raw_nifti: RawNifti, offset: int, name: str) -> None:
    data = random_array("float32", (5, 3, 4))
    path = raw_nifti("plain.nii", data, vox_offset=offset)
    content = path.read_bytes()
    content = content[:352] + b"\7" * (offset - 352) + content[352:] + b"behind the image"
    target = path.with_name(name)
    target.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    array = read(target)
    np.testing.assert_array_equal(array.T, data)
    assert array.flags.aligned


def test_several_gzip_members_are_one_file(raw_nifti: RawNifti) -> None:
    data = random_array("int16", (20, 20, 20))
    content = raw_nifti(array=data).read_bytes()
    path = raw_nifti("members.nii.gz")
    members = [content[i : i + 3000] for i in range(0, len(content), 3000)]
    path.write_bytes(b"".join(map(gzip.compress, members)))
    np.testing.assert_array_equal(read(path).T, data)


def test_opening_reads_no_voxels(raw_nifti: RawNifti) -> None:
    path = raw_nifti(array=np.zeros((128, 128, 128), np.float32))
    tracemalloc.start()
    file = NiftiFile.open(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.shape == (128, 128, 128)
    assert peak < 2**20


# -- files that cannot be used ----------------------------------------------------------------


def refuse(path: Path, sentence: str) -> str:
    with pytest.raises(InputError, match=sentence) as caught:
        NiftiFile.open(path).read_array()
    text = str(caught.value)
    assert text.startswith(f"{path.name}: ")
    assert str(path.parent) not in text  # folders may be named after patients
    return text


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    refuse(tmp_path / "a.nii", "no such file. Check the path")
    (tmp_path / "b.nii").mkdir()
    refuse(tmp_path / "b.nii", "got a folder")
    os.mkfifo(tmp_path / "pipe.nii")
    refuse(tmp_path / "pipe.nii", "got no regular file")
    refuse(tmp_path / "b.nii" / ("x" * 300), "cannot be read .File name too long")
    refuse(tmp_path / "b.nii" / "a\0.nii", "no such file")
    (tmp_path / "c.nii").touch()
    refuse(tmp_path / "c.nii" / "a.nii", "no such file")
    refuse(tmp_path / "c.nii", "got an empty one")


@pytest.mark.parametrize("content", [b"x", b"DICM" * 400, b"\x5c\x01\x00\x00" + b"\0" * 400])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.dcm"])
def test_not_nifti(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    refuse(path, "expected a NIfTI file.*got something else. Convert it to NIfTI first")


@pytest.mark.parametrize("length", [2, 5, 12, 60])
def test_gzip_cut_off_in_the_header(raw_nifti: RawNifti, length: int) -> None:
    path = raw_nifti("a.nii.gz", random_array("float32", (20, 20, 20)))
    path.write_bytes(path.read_bytes()[:length])
    refuse(path, "the file is damaged.*Fetch it again")


def test_pairs(raw_nifti: RawNifti) -> None:
    refuse(raw_nifti("a.hdr"), r"half of a \.hdr/\.img pair. Convert the pair to \.nii")
    refuse(raw_nifti("a.img.gz"), r"half of a \.hdr/\.img pair")
    refuse(raw_nifti("a.nii", magic=b"ni1"), r"the header of a \.hdr/\.img pair")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated(raw_nifti: RawNifti, name: str, share: float) -> None:
    path = raw_nifti(name, random_array("float32", (30, 30, 30)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    text = refuse(path, r"expected 108,352 bytes as its header promises, got [\d,]+\. .*truncated")
    held = int(text.split("got ")[1].split(".")[0].replace(",", ""))
    assert 352 <= held < 108352


def test_whole_gzip_of_too_few_voxels(raw_nifti: RawNifti) -> None:
    path = raw_nifti("a.nii.gz", dim=[3, 4, 5, 7, 1, 1, 1, 1])
    refuse(path, "expected 912 bytes as its header promises, got 832")


def test_trailer_that_lies_about_the_length(raw_nifti: RawNifti) -> None:
    path = raw_nifti("a.nii.gz", dim=[3, 4, 5, 7, 1, 1, 1, 1])
    path.write_bytes(path.read_bytes()[:-4] + (912).to_bytes(4, "little"))
    refuse(path, "damaged|got 832")


@pytest.mark.parametrize("place", [0.2, 0.8, None])
def test_damaged_gzip(raw_nifti: RawNifti, place: float | None) -> None:
    path = raw_nifti("a.nii.gz", random_array("float32", (30, 30, 30)))
    content = bytearray(path.read_bytes())
    where = -6 if place is None else int(place * len(content))  # -6: inside the checksum
    content[where] ^= 0xFF
    path.write_bytes(content)
    refuse(path, "damaged")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.nii", r"expected 4,000,000,000,352 bytes .*, got 832"),
        ("a.nii.gz", r"promises 4,000,000,000,352 bytes, more than [\d,]+ compressed bytes can"),
    ],
)
def test_absurd_size_is_refused_before_memory_is_asked_for(
    raw_nifti: RawNifti, name: str, sentence: str
) -> None:
    path = raw_nifti(name, dim=[3, 10000, 10000, 10000, 1, 1, 1, 1])
    tracemalloc.start()
    refuse(path, sentence)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_size_a_gzip_could_hold_but_does_not(raw_nifti: RawNifti) -> None:
    path = raw_nifti("a.nii.gz", random_array("float32", (30, 30, 30)))
    path = raw_nifti(
        "a.nii.gz", random_array("float32", (30, 30, 30)), dim=[3, *[250] * 3, *[1] * 4]
    )
    tracemalloc.start()
    refuse(path, "expected 62,500,352 bytes as its header promises, got 108,352")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_size_beyond_memory(raw_nifti: RawNifti, monkeypatch: pytest.MonkeyPatch) -> None:
    file = NiftiFile.open(raw_nifti("a.nii.gz"))

    class Full:
        def read(self, count: int) -> bytes:
            raise MemoryError

    monkeypatch.setattr(nifti, "_inflate", lambda _: Full())
    with pytest.raises(InputError, match=r"a\.nii\.gz: its 832 bytes do not fit into memory"):
        file.read_array()


@pytest.mark.parametrize(
    ("dim", "sentence"),
    [
        ([3, 4, -5, 6, 1, 1, 1, 1], "positive size on every axis, got 4 x -5 x 6"),
        ([3, 4, 0, 6, 1, 1, 1, 1], "positive size on every axis, got 4 x 0 x 6"),
        ([1, 4, 1, 1, 1, 1, 1, 1], "2 or more axes, got 1"),
        ([0, 4, 5, 6, 1, 1, 1, 1], "2 or more axes, got 0"),
        ([9, 4, 5, 6, 1, 1, 1, 1], "2 or more axes, got 9"),
    ],
)
def test_sizes_that_are_none(raw_nifti: RawNifti, dim: list[int], sentence: str) -> None:
    refuse(raw_nifti(dim=dim), sentence)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, "1-bit"),
        (32, "complex"),
        (128, "RGB"),
        (2304, "RGBA"),
        (1536, "128-bit"),
        (7, "unknown"),
    ],
)
def test_voxels_that_are_no_numbers(raw_nifti: RawNifti, code: int, kind: str) -> None:
    text = refuse(raw_nifti(datatype=code), rf"got {kind}.*\(NIfTI type {code}\)")
    assert "Convert the image to float32" in text


@pytest.mark.parametrize("offset", [0, 348, -1, np.nan, np.inf])
def test_offset_inside_the_header(raw_nifti: RawNifti, offset: float) -> None:
    refuse(raw_nifti(vox_offset=offset), rf"byte 352 or later \(vox_offset\), got {offset:g}")


@pytest.mark.parametrize("scaling", [(np.inf, 0), (2, np.nan), (2, np.inf)])
def test_scaling_that_is_no_number(raw_nifti: RawNifti, scaling: tuple[float, float]) -> None:
    slope, intercept = scaling
    refuse(raw_nifti(scl_slope=slope, scl_inter=intercept), "expected finite scl_slope")


def test_refused_permission(raw_nifti: RawNifti, monkeypatch: pytest.MonkeyPatch) -> None:
    path = raw_nifti()

    def deny(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", deny)
    refuse(path, "cannot be read .Permission denied.. Check its permissions")


def test_sentences_do_not_quote_free_text_of_the_header(raw_nifti: RawNifti) -> None:
    path = raw_nifti(descrip=b"Jane Doe 1970", db_name=b"Doe", datatype=128)
    assert "Doe" not in refuse(path, "RGB")


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_any_damage_is_an_input_error_or_harmless(raw_nifti: RawNifti, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["a.nii", "a.nii.gz"]))
    content = bytearray(raw_nifti(name, random_array("int16", (6, 5, 4))).read_bytes())
    end = min(len(content), 400) - 1
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, end), st.integers(0, 255)), min_size=1, max_size=6)
    ):
        content[place] = value
    path = raw_nifti(name)
    path.write_bytes(content)
    try:
        array = read(path)
    except InputError as error:
        sentence = str(error)
    else:
        sentence = name
        assert array.nbytes < 10 * len(content) * nifti.MAX_DEFLATE_RATIO
    assert sentence.startswith(name)


# -- writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_round_trip(tmp_path: Path, affine: np.ndarray, name: str, dtype: str) -> None:
    path, array = tmp_path / name, random_array(dtype, (4, 3, 5))
    write_nifti(path, array, affine)
    file = NiftiFile.open(path)
    np.testing.assert_array_equal(file.read_array(), array)
    assert file.dtype == array.dtype
    np.testing.assert_allclose(file.affine, affine, atol=1e-4)
    assert file.notes == ()


def test_all_readers_agree_on_the_place(tmp_path: Path, affine: np.ndarray) -> None:
    path, array = tmp_path / "a.nii.gz", random_array("float32", (4, 3, 5))
    write_nifti(path, array, affine)
    header = nib.load(path).header
    for transform in (header.get_sform(), header.get_qform()):
        np.testing.assert_allclose(transform, affine, atol=1e-4)
    np.testing.assert_allclose(
        header.get_zooms(), np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-6
    )
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    corner = image.TransformContinuousIndexToPhysicalPoint((4.0, 2.0, 3.0))
    np.testing.assert_allclose(
        np.multiply(corner, (-1, -1, 1)), (affine @ (4, 2, 3, 1))[:3], atol=1e-4
    )


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_gzip_is_whole_for_any_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(nifti, "WRITE_THREADS", threads)
    array = random_array("float32", (70, 80, 90))  # two blocks and a bit
    write_nifti(tmp_path / "a.nii.gz", array, np.eye(4))
    content = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    assert content[352:] == array.tobytes()
    write_nifti(tmp_path / "b.nii.gz", array, np.eye(4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_side_longer_than_nifti1_counts_becomes_nifti2(tmp_path: Path) -> None:
    path, array = tmp_path / "a.nii.gz", random_array("uint8", (1, 2, 40000))
    write_nifti(path, array, np.eye(4))
    assert isinstance(nib.load(path), nib.Nifti2Image)
    np.testing.assert_array_equal(read(path), array)


@pytest.mark.parametrize("name", ["a.img", "a.mha", "a.gz", "a"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: expected a name that ends in \.nii or"):
        write_nifti(tmp_path / name, np.zeros((2, 2, 2), np.float32), np.eye(4))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_full_disk_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full to write to")
    target = tmp_path / name
    target.write_text("old")
    with pytest.raises(InputError, match="No space left"), nifti.replace_file(target) as temporary:  # noqa: PT012
        temporary.symlink_to("/dev/full")
        with nifti._open_for_writing(temporary) as file:
            file.write(bytes(10_000_000))
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_reading_and_replacing_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    write_nifti(path, random_array("float32", (4, 4, 4)), np.eye(4))
    array = read(path)
    kept = array.copy()
    write_nifti(path, array + 1, np.eye(4))
    np.testing.assert_array_equal(array, kept)
    shutil.rmtree(tmp_path)
    np.testing.assert_array_equal(array, kept)
