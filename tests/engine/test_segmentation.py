"""Segmenting with a network small enough to know its answer: thresholds on the image."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import nibabel.orientations as orientations
import numpy as np
import pytest
from scipy import ndimage

from segreg.engine import segmentation
from segreg.engine.backends import availability
from segreg.engine.bill import make_bill
from segreg.engine.errors import BackendError, InputError, PackageError, PrecisionError
from segreg.engine.machine import processor_flags
from segreg.engine.package import load_package, write_checksums
from segreg.engine.precision import can_run
from segreg.engine.runtime import Engine
from segreg.engine.segmentation import Segmenter, normalise, resample
from segreg.engine.verification import check_backends
from segreg.engine.volume import Volume
from tests.conftest import threshold_network, write_segmenting_package

Build = Callable[..., Segmenter]
SHAPE = (9, 26, 31)


def truth(shape: tuple[int, int, int] = SHAPE, shift: int = 0) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[2:7, 4 + shift : 12 + shift, 5:14] = 4
    labels[3:6, 15 : 21 + shift, 16:27] = 9
    return labels


def image(labels: np.ndarray, affine: Any = None, spacing: Any = (4.0, 1.5, 1.5)) -> Volume:
    """100 in label 4, 200 in label 9, with a little structure."""
    values = np.array([0, 0, 0, 0, 100, 0, 0, 0, 0, 200], np.float32)[labels]
    values += np.random.default_rng(0).uniform(-20, 20, labels.shape).astype(np.float32)
    if affine is not None:
        return Volume.from_array(values, affine=affine, name="scan.nii")
    return Volume.from_array(values, spacing=spacing, name="scan.nii")


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(backend: str | None = None, network: Any = None, **settings: Any) -> Segmenter:
        folder = write_segmenting_package(tmp_path / "package", network, **settings)
        return Segmenter(load_package(folder), backend=backend)

    return make


@pytest.mark.parametrize("backend", [entry.name for entry in availability() if entry.usable])
@pytest.mark.parametrize("patch", [[None, None, None], [4, 16, 16], [16, 32, 40]])
def test_every_backend_and_window(build: Build, backend: str, patch: list[int | None]) -> None:
    segmenter = build(backend, patch=patch)
    found = segmenter.segment([image(truth())])[0]
    np.testing.assert_array_equal(found.array, truth())
    assert segmenter.names == {"ball": 4, "bar": 9}


def test_both_images_in_one_batch_where_shapes_agree(build: Build) -> None:
    segmenter = build(stride=[1, 16, 16])
    shapes = []
    infer = segmenter.backend.infer
    segmenter.backend.infer = lambda batch: (shapes.append(batch.shape), infer(batch))[1]  # type: ignore[method-assign]
    other = (7, 30, 22)
    labels = [truth(), truth(other)[:, :, :22], truth(shift=2)]
    found = segmenter.segment([image(each) for each in labels])
    for each, expected in zip(found, labels, strict=True):
        np.testing.assert_array_equal(each.array, expected)
    assert sorted(shapes) == [(1, 1, 7, 32, 32), (2, 1, 9, 32, 32)]


def test_other_spacing_and_back(build: Build) -> None:
    """A smooth ball, seen on a coarser grid: its outline on the native grid is where it was."""
    centre = np.array([8, 20, 24])
    distance = np.linalg.norm(np.moveaxis(np.indices((17, 41, 49)), 0, -1) - centre, axis=-1)
    smooth = Volume.from_array(
        (100 * (1 + (7 - distance) / 14)).clip(0).astype(np.float32), spacing=(1.0, 1.0, 1.0)
    )
    classes = [{"name": "ball", "label": 2}, {"name": "core", "label": 300}]
    network = threshold_network(100.0, 1000.0)
    segmenter = build(network=network, spacing=[None, 1.5, 2.2], classes=classes)
    found = segmenter.segment([smooth])[0].array
    # Linear interpolation of a ramp is exact but for the tip and the kink.
    ball = distance < 7
    dice = 2 * (found.astype(bool) & ball).sum() / (found.astype(bool).sum() + ball.sum())
    assert dice > 0.98
    assert found.dtype == np.int32  # 300 does not fit into uint8


def test_resampling_agrees_with_scipy() -> None:
    """Cell centres of a grid over the same box, the border held."""
    volume = np.random.default_rng(1).normal(size=(5, 9, 12)).astype(np.float32)
    shape = (5, 7, 17)
    axes = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(volume.shape, shape, strict=True)]
    expected = ndimage.map_coordinates(
        volume.astype(float), np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest"
    )
    np.testing.assert_allclose(resample(volume, shape), expected, atol=1e-5)
    np.testing.assert_array_equal(resample(volume, volume.shape), volume)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SLA"])
def test_network_is_shown_the_orientation_it_wants(build: Build, affine: Any, codes: str) -> None:
    """Whatever way the image is stored; seen by a network that only knows the first half of x."""
    segmenter = build(orientation=codes)
    volume = image(truth(), affine)
    seen = []
    infer = segmenter.backend.infer
    segmenter.backend.infer = lambda batch: (seen.append(batch), infer(batch))[1]  # type: ignore[method-assign]
    found = segmenter.segment([volume])[0]
    np.testing.assert_array_equal(found.array, truth())
    turn = orientations.ornt_transform(
        orientations.io_orientation(affine), orientations.axcodes2ornt(tuple(codes))
    )
    expected = orientations.apply_orientation(volume.array.T, turn).T
    np.testing.assert_allclose(seen[0][0, 0], np.clip(expected, 0, 400))


def test_spacing_follows_the_turned_axes(build: Build) -> None:
    segmenter = build(orientation="SLA", spacing=[3.0, None, None])
    seen = []
    infer = segmenter.backend.infer
    segmenter.backend.infer = lambda batch: (seen.append(batch.shape), infer(batch))[1]  # type: ignore[method-assign]
    segmenter.segment([image(truth())])  # y of 1.5 mm becomes the slowest axis
    assert seen == [(1, 1, 13, 31, 9)]


def test_mirror_images_are_segmented_too(build: Build) -> None:
    segmenter = build(mirrored=[["y", "x"]], patch=[4, 16, 16])
    asked = []
    infer = segmenter.backend.infer
    segmenter.backend.infer = lambda batch: (asked.append(batch), infer(batch))[1]  # type: ignore[method-assign]
    found = segmenter.segment([image(truth())])[0]
    np.testing.assert_array_equal(found.array, truth())
    assert len(asked) == 2 * 36  # two views of each window
    np.testing.assert_array_equal(asked[1], asked[0][..., ::-1, ::-1])


class TestPrecision:
    VARIANTS: ClassVar[dict[str, Any]] = {
        "bfloat16": {
            "worst_probability": 0.01,
            "labels_changed": 0.001,
            "speed": {"openvino": {"speed_up": 4.0, "capability": "amx_bf16"}},
        }
    }

    @pytest.mark.parametrize(
        ("flags", "asked", "expected"),
        [
            ({"amx_bf16"}, "auto", "bfloat16"),
            ({"amx_bf16"}, "float32", None),
            ({"avx2"}, "auto", None),
            (None, "auto", None),
            (None, "bfloat16", "bfloat16"),
        ],
    )
    def test_the_proved_one_that_the_machine_has(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        flags: set[str] | None, asked: str, expected: str | None,
    ) -> None:  # fmt: skip
        opened = {}

        def note(name: Any, find: Any, **facts: Any) -> None:
            opened.update({each: find(each)[1] for each in ("openvino", "onnxruntime")
                           if asked == "auto" or each == "openvino"})  # fmt: skip

        monkeypatch.setattr(segmentation, "processor_flags", lambda: flags)
        monkeypatch.setattr(segmentation, "open_backend", note)
        folder = write_segmenting_package(tmp_path / "package", variants=self.VARIANTS)
        assert Segmenter(load_package(folder), precision=asked).backend is None
        assert opened.pop("openvino") == expected
        assert set(opened.values()) <= {None}

    def test_engine_binds_it_with_float32_alone(self, tmp_path: Path) -> None:
        folder = write_segmenting_package(tmp_path / "package", variants=self.VARIANTS)
        has = can_run("bfloat16", "openvino", processor_flags())
        for asked, expected in (("auto", "bfloat16" if has else "float32"), ("float32", "float32")):
            with Engine(folder, backend="openvino", precision=asked) as engine:
                assert isinstance(engine.segmenter, Segmenter)
                assert engine.segmenter.backend.precision == expected
                np.testing.assert_array_equal(
                    engine.segmenter.segment([image(truth())])[0].array, truth()
                )

    def test_what_is_not_proved_or_not_known(self, segmenting_package: Path) -> None:
        package = load_package(segmenting_package)
        with pytest.raises(PrecisionError, match="proved in float32 only"):
            Segmenter(package, precision="bfloat16").segment([image(truth())])
        with pytest.raises(InputError, match="expected auto or one of"):
            Segmenter(package, precision="double")


def test_largest_component_is_asked_for_by_label(build: Build) -> None:
    labels = truth()
    labels[8, 24:, 28:], labels[0, 0, 0:2] = 4, 9
    found = build(largest_component=[4]).segment([image(labels)])[0].array
    labels[8, 24:, 28:] = 0
    np.testing.assert_array_equal(found, labels)


def test_intensity_rules() -> None:
    values = np.random.default_rng(0).normal(30, 5, (4, 5, 6)).astype(np.float32)
    zscore = normalise(values, {"rule": "zscore"})
    assert abs(float(zscore.mean())) < 1e-5
    assert abs(float(zscore.std()) - 1) < 1e-5
    assert not normalise(np.full((2, 2, 2), 7, np.int16), {"rule": "zscore"}).any()
    window = {"rule": "window", "low": 28, "high": 32, "mean": 30, "std": 2}
    np.testing.assert_allclose(normalise(values, window), (values.clip(28, 32) - 30) / 2, rtol=1e-5)


def test_nothing_found_is_said(build: Build) -> None:
    empty = Volume.from_array(np.zeros(SHAPE, np.float32), spacing=(1, 1, 1), name="empty.nii")
    with pytest.raises(InputError, match=r"empty\.nii: tiny finds none .*ball, bar.*label map"):
        build().segment([empty])


def test_network_with_other_classes_than_the_metadata_say(build: Build) -> None:
    classes = [{"name": "ball", "label": 4}]
    with pytest.raises(BackendError, match=r"\(1, 2, D, H, W\), got \(1, 3"):
        build("onnxruntime", classes=classes).segment([image(truth())])


class TestRegistration:
    def test_without_labels(self, segmenting_package: Path) -> None:
        with Engine(segmenting_package) as engine:
            given = engine.register(
                image(truth(shift=2)), image(truth()),
                Volume.from_array(truth(shift=2), spacing=(4.0, 1.5, 1.5)),
                Volume.from_array(truth(), spacing=(4.0, 1.5, 1.5)),
            )
            found = engine.register(image(truth(shift=2)), image(truth()))
        np.testing.assert_array_equal(
            found.displacement.displacement, given.displacement.displacement
        )
        assert [region.name for region in found.quality.regions] == ["ball", "bar"]
        source = "automatic by tiny 0.1.0"
        assert found.summary()["provenance"]["label_sources"] == {"moving": source, "fixed": source}
        assert any(note.startswith(f"moving and fixed labels: {source};") for note in found.notes)
        assert found.watch.seconds["segment"] > 0
        assert given.provenance.label_sources == ("given", "given")
        assert "segment" not in given.watch.seconds
        assert not any("automatic" in note for note in given.notes)

    @pytest.mark.parametrize("side", ["moving", "fixed"])
    def test_one_side_given(self, segmenting_package: Path, tmp_path: Path, side: str) -> None:
        labels = {f"{side}_labels": Volume.from_array(truth(), spacing=(4.0, 1.5, 1.5))}
        with Engine(segmenting_package) as engine:
            result = engine.register(image(truth()), image(truth()), **labels)
        source = dict(zip(("moving", "fixed"), result.provenance.label_sources, strict=True))
        assert source.pop(side) == "given"
        ((other, words),) = source.items()
        assert words.startswith("automatic by")
        # What was segmented is written, what was given is not.
        paths = result.save(tmp_path / "out")
        assert f"{other}_labels" in paths
        assert f"{side}_labels" not in paths
        np.testing.assert_array_equal(Volume.read(paths[f"{other}_labels"]).array, truth())
        assert words in paths["report"].read_text()

    def test_names_choose_labels(self, segmenting_package: Path) -> None:
        with Engine(segmenting_package) as engine:
            result = engine.register(image(truth()), image(truth()), labels=["bar"])
        assert [region.labels for region in result.quality.regions] == [(9,)]

    def test_two_packages(self, tiny_package: Path, segmenting_package: Path) -> None:
        with Engine(tiny_package, segmenter=segmenting_package) as engine:
            assert engine.register(image(truth()), image(truth())).quality.dice == 1

    def test_many_pairs(self, segmenting_package: Path) -> None:
        pairs = [(image(truth()), image(truth(shift=s))) for s in (0, 2)]
        with Engine(segmenting_package) as engine:
            dices = [result.quality.dice for result in engine.register_many(pairs)]
        assert dices[0] == 1
        assert dices[1] > 0.9

    def test_package_that_cannot_segment(self, engine: Engine, tiny_package: Path) -> None:
        with pytest.raises(InputError, match="moving and fixed labels: expected a label map"):
            engine.register(image(truth()), image(truth()))
        with pytest.raises(PackageError, match=r"no models/segmentation\.onnx"):
            Engine(tiny_package, segmenter=tiny_package)


class TestPackage:
    def test_segmentation_alone(self, tmp_path: Path, segmenting_package: Path) -> None:
        folder = write_segmenting_package(tmp_path / "alone")
        metadata = json.loads((folder / "configs/metadata.json").read_text())
        block = metadata["segreg"]["segmentation"]
        metadata["segreg"] = {"schema": 1, "segmentation": block}
        (folder / "configs/metadata.json").write_text(json.dumps(metadata))
        (folder / "models/registration.onnx").unlink()
        write_checksums(folder)
        found = Segmenter(load_package(folder)).segment([image(truth())])[0]
        np.testing.assert_array_equal(found.array, truth())
        with pytest.raises(PackageError, match="segments only"):
            Engine(folder)
        # What else is done with packages does not stumble over it.
        assert check_backends(load_package(folder)) == []
        outputs = make_bill(load_package(folder))["metadata"]["component"]["modelCard"]
        assert outputs["modelParameters"]["outputs"] == [{"format": "label map"}]

    @pytest.mark.parametrize("missing", ["models/segmentation.onnx", "block"])
    def test_block_and_network_go_together(self, tmp_path: Path, missing: str) -> None:
        folder = write_segmenting_package(tmp_path / "half")
        if missing == "block":
            metadata = json.loads((folder / "configs/metadata.json").read_text())
            del metadata["segreg"]["segmentation"]
            (folder / "configs/metadata.json").write_text(json.dumps(metadata))
        else:
            (folder / missing).unlink()
        write_checksums(folder)
        with pytest.raises(PackageError, match=r"segmentation\.onnx"):
            load_package(folder)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"orientation": "RLS"}, "orientation"),
            ({"spacing": [0, 1, 1]}, "spacing"),
            ({"patch": [None, 16]}, "patch"),
            ({"intensity": {"rule": "window", "low": 0}}, "'high' is a required property"),
            ({"classes": [{"name": "x", "label": 0}]}, "classes"),
            ({"colour": "red"}, "colour"),
            ({"mirrored": [["x", "t"]]}, "mirrored"),
            ({"variants": {"int8": {}}}, "int8"),
        ],
    )
    def test_schema(self, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(PackageError, match=words):
            load_package(write_segmenting_package(tmp_path / "wrong", **settings))


def test_every_order_of_axes_comes_back(build: Build) -> None:
    segmenter = build(orientation="RAS")
    for order in itertools.permutations(range(3)):
        linear = np.diag([2.0, -1.5, 3.0])[list(order)]
        affine = np.eye(4)
        affine[:3, :3] = linear
        found = segmenter.segment([image(truth(), affine)])[0]
        np.testing.assert_array_equal(found.array, truth())
        np.testing.assert_array_equal(found.affine, affine)
