from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.memory import CLEAR, growth_mib, peak_mib

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20


@pytest.mark.skipif(not CLEAR.exists(), reason="only Linux tells the peak of a single call")
def test_growth_counts_what_a_call_holds_at_most() -> None:
    def run() -> float:
        held = [np.ones(20 * MIB, np.uint8) for _ in range(3)]
        return float(held[0][0])

    assert growth_mib(run) == pytest.approx(60, abs=8)
    assert growth_mib(lambda: None) == pytest.approx(0, abs=8)


def test_peak_of_a_child_is_its_own() -> None:
    """However much its parent has held."""
    held = np.ones(300 * MIB, np.uint8)
    assert peak_mib() > 300
    run = subprocess.run(
        [sys.executable, "-c", "from benchmarks.memory import peak_mib; print(peak_mib())"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert 0 < float(run.stdout) < 200
    assert held[0] == 1
