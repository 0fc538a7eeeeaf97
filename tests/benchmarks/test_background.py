"""Agreement outside the labels is measured as the benchmark says."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.background import (
    AFFINE,
    KINDS,
    LABELS,
    MEASURES,
    OWN,
    REFINED,
    AffineBackground,
    local_correlation,
    measure_pair,
    print_table,
    summarise,
)
from benchmarks.datasets import Pair
from segreg.engine.runtime import Engine


def test_correlation_is_local_and_blind_to_contrast() -> None:
    random = np.random.default_rng(0)
    image = random.normal(0, 1, (20, 31, 27)).astype(np.float32)
    other = random.normal(0, 1, image.shape).astype(np.float32)
    half = np.where(np.arange(27) < 13, 3 * image + 5, other)
    found = local_correlation(image, half)
    assert found[:, :, :6].mean() > 0.98
    assert abs(found[:, :, 20:].mean()) < 0.1
    assert local_correlation(image, -image).mean() < -0.98
    assert np.isfinite(local_correlation(image[:1], other[:1])).all()


def test_case_for_each_background(tiny_package: Path, pair: Pair) -> None:
    with Engine(tiny_package) as own, Engine(tiny_package) as plain:
        plain._pipeline = AffineBackground(plain.backend, plain.package.settings, plain.device)
        rows = [measure_pair({AFFINE: plain, LABELS: own, OWN: own, REFINED: own}, pair)]
    cases = summarise("phantoms", rows)
    assert [case["background"] for case in cases] == list(KINDS)
    affine, labels, as_it_comes, refined = cases
    assert refined["correlation"] > as_it_comes["correlation"]
    assert labels["correlation"] not in (affine["correlation"], as_it_comes["correlation"])
    assert affine["dice"] == pytest.approx(as_it_comes["dice"], abs=0.1)
    for case in cases:
        assert set(MEASURES) < set(case)
        assert case["median"] == case["samples"][0] > 0
    out = StringIO()
    print_table(cases, Console(file=out, width=160))
    assert f"{refined['correlation']:.4f}" in out.getvalue()
