"""Figures of timed runs against figures made by hand or by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from benchmarks.samples import describe_bar, growth, judge_bar, noise, summarise


def test_summary_keeps_the_samples() -> None:
    summary = summarise([4.0, 1.0, 2.0, 3.0, 100.0])
    assert summary["samples"] == [4.0, 1.0, 2.0, 3.0, 100.0]
    assert summary["median"] == 3.0
    assert summary["p95"] == pytest.approx(80.8)
    assert summary["median"] < summary["p95"] < summary["p99"] < 100


def test_noise_is_relative_and_robust() -> None:
    samples = np.random.default_rng(0).normal(50, 5, 2000)
    assert noise(samples) == pytest.approx(0.1, rel=0.1)
    scale = median_abs_deviation(samples, scale="normal") / np.median(samples)
    assert noise(samples) == pytest.approx(scale, rel=1e-3)
    assert noise([10, 10, 10, 10, 500]) == 0  # one hiccup is no noise
    assert noise([0, 0]) == 0


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_growth_of_a_power(exponent: float) -> None:
    sizes = np.array([1, 2, 4, 8, 16])
    assert growth(sizes, 3 * sizes**exponent)["exponent"] == pytest.approx(exponent)


def test_growth_of_a_line() -> None:
    fit = growth([1, 2, 4, 8], [12, 14, 18, 26])
    assert (fit["base"], fit["per_unit"]) == pytest.approx((10, 2))
    assert 0 < fit["exponent"] < 1


@pytest.mark.parametrize(
    ("found", "least", "met"),
    [(5.0, True, True), (4.9, True, False), (4.9, False, True), (5.1, False, False)],
)
def test_bars(found: float, least: bool, met: bool) -> None:
    bar = judge_bar("ratio", 5.0, found, least=least)
    assert bar == {"what": "ratio", "limit": 5.0, "found": found, "met": met}
    assert ("MISSED" in describe_bar(bar)) != met


def test_bar_that_was_not_measured() -> None:
    bar = judge_bar("ratio", 5.0, None, least=True)
    assert bar["met"] is None
    assert "not measured" in describe_bar(bar)
