"""Segmentation networks of packages, compared over backends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine.backends.base import Backend
from segreg.engine.errors import BackendError
from segreg.engine.machine import processor_flags
from segreg.engine.package import load_package, write_checksums
from segreg.engine.precision import can_run
from segreg.engine.probes import image_batch
from segreg.engine.scores import PARITY, ScoreTolerance, check_segmentation, compare_scores
from tests.conftest import write_segmenting_package


def others(package: Path) -> dict[str, Any]:
    return {check.backend: check for check in check_segmentation(load_package(package))}


def test_backends_score_alike(segmenting_package: Path) -> None:
    found = others(segmenting_package)
    assert "openvino" in found
    assert "onnxruntime" not in found  # which they are compared with
    assert all(check.sound for check in found.values())
    assert found["openvino"].worst_probability < 1e-4
    assert found["openvino"].as_dict()["sound"]


def test_nothing_to_compare(tiny_package: Path) -> None:
    assert check_segmentation(load_package(tiny_package)) == []


def test_other_scores_are_told(segmenting_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Backend.infer

    def other(self: Backend, images: Any) -> Any:
        scores = plain(self, images)
        return scores[:, ::-1] if self.name == "openvino" else scores

    monkeypatch.setattr(Backend, "infer", other)
    found = others(segmenting_package)["openvino"]
    assert not found.sound
    assert found.labels_changed > 0.1


def test_backend_that_cannot(segmenting_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Backend.infer

    def fail(self: Backend, images: Any) -> Any:
        if self.name == "openvino":
            raise BackendError("no memory left")
        return plain(self, images)

    monkeypatch.setattr(Backend, "infer", fail)
    found = others(segmenting_package)["openvino"]
    assert found.refusal == "no memory left"
    assert found.sound


def test_proved_precisions_are_compared_too(tmp_path: Path) -> None:
    speed = {"openvino": {"speed_up": 4.0, "capability": "amx_bf16"}}
    proved = {"bfloat16": {"worst_probability": 0.01, "labels_changed": 0.0, "speed": speed}}
    folder = write_segmenting_package(tmp_path / "reduced", variants=proved)
    checks = {check.precision: check for check in check_segmentation(load_package(folder))}
    has = can_run("bfloat16", "openvino", processor_flags())
    assert set(checks) == ({"float32", "bfloat16"} if has else {"float32"})
    if has:
        assert checks["bfloat16"].worst_probability > checks["float32"].worst_probability
        assert checks["bfloat16"].allowed == ScoreTolerance().reduced


def test_what_may_differ_is_what_the_proof_allowed(tmp_path: Path) -> None:
    folder = write_segmenting_package(tmp_path / "strict")
    strict = ScoreTolerance(float32=1e-12, labels=0.25)
    (folder / PARITY).parent.mkdir()
    (folder / PARITY).write_text(json.dumps({"tolerance": strict.__dict__}))
    write_checksums(folder)
    check = others(folder)["openvino"]
    assert (check.allowed, check.allowed_labels) == (1e-12, 0.25)


def test_tolerances() -> None:
    assert ScoreTolerance().of("float32") < ScoreTolerance().of("bfloat16")


def test_differences() -> None:
    one = np.zeros((1, 2, 1, 1, 4), np.float32)
    one[0, 0] = 1
    other = one.copy()
    other[0, 1, 0, 0, 0] = 2
    probability, score, changed = compare_scores(one, other)
    assert changed == 0.25
    assert probability == pytest.approx(1 / (1 + np.exp(-1)) - 1 / (1 + np.exp(1)))
    assert score == pytest.approx(2 / one.std())


def test_sure_networks_are_told_apart() -> None:
    """Where every voxel is background for sure, no probability says what the scores are."""
    one = np.random.default_rng(0).normal(0, 1, (1, 2, 4, 4, 4)).astype(np.float32)
    one[:, 0] += 60
    other = one.copy()
    other[:, 1] += 3
    probability, score, changed = compare_scores(one, other)
    assert probability < 1e-9
    assert changed == 0
    assert score > 0.05


def test_generated_images() -> None:
    image = image_batch((5, 16, 24))
    assert image.shape == (1, 1, 5, 16, 24)
    assert image.dtype == np.float32
    assert 0.5 < image.std() < 3
    np.testing.assert_array_equal(image, image_batch((5, 16, 24)))
