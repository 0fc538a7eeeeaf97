"""Whole registrations on a GPU itself: parity with the CPU, pairs that overlap, memory."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets import hippocampus
from benchmarks.gpu_engine import open_engine
from segreg.engine.backends import REGISTRY, availability
from segreg.engine.phantom import Phantom
from segreg.engine.runtime import Engine
from tests.engine.pairs import BOXES, SHIFTED, cubes, pair_of, volumes
from tests.kernels.conftest import require_gpu

ON_GPU = [*(name for name, entry in REGISTRY.items() if entry.device == "cuda"), "borrowed"]
WORST = 1e-2  # voxels: what a GPU's field may differ from a CPU's


@pytest.mark.gpu
class TestOnDevice:
    """What only a device can show; the network runs on the processor where no library of the GPU
    is installed."""

    @pytest.fixture(params=ON_GPU)
    def engine(self, request: pytest.FixtureRequest, looking_package: Path) -> Iterator[Engine]:
        require_gpu()
        known = {entry.name: entry for entry in availability()}
        if request.param in known and not known[request.param].usable:
            pytest.skip(str(known[request.param].reason))
        with open_engine(request.param, str(looking_package)) as engine:
            yield engine

    @pytest.fixture
    def reference(self, looking_package: Path) -> Iterator[Engine]:
        pytest.importorskip("segreg.kernels._cpu", reason="the CPU's extension is not built")
        with Engine(looking_package, backend="onnxruntime") as engine:
            yield engine

    def test_like_the_cpu(
        self, engine: Engine, reference: Engine, small_phantom: Phantom
    ) -> None:
        pair = volumes(small_phantom)
        found, expected = engine.register(*pair), reference.register(*pair)
        difference = found.displacement.displacement - expected.displacement.displacement
        assert np.abs(difference).max() < WORST
        assert found.quality.dice == pytest.approx(expected.quality.dice, abs=1e-3)
        np.testing.assert_allclose(
            found.warped.array, expected.warped.array, atol=1e-2 * expected.warped.array.max()
        )

    def test_real_pair_like_the_cpu(
        self, engine: Engine, reference: Engine, research_data: Path
    ) -> None:
        pair = next(hippocampus(research_data))
        sides = pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels
        found, expected = engine.register(*sides), reference.register(*sides)
        difference = found.displacement.displacement - expected.displacement.displacement
        assert np.abs(difference).max() < WORST

    def test_pair_after_pair_is_each_pair(self, engine: Engine, small_phantom: Phantom) -> None:
        """Copies, memory and streams of several pairs at once."""
        other = pair_of(cubes(*SHIFTED), cubes(*BOXES))
        pairs = [volumes(small_phantom), other] * 6
        alone = [engine.register(*pair) for pair in pairs[:2]] * 6
        for found, expected in zip(engine.register_many(pairs), alone, strict=True):
            np.testing.assert_allclose(
                found.displacement.displacement, expected.displacement.displacement, atol=WORST
            )
            np.testing.assert_allclose(found.warped.array, expected.warped.array, atol=0.5)

    def test_memory_comes_back(self, engine: Engine, small_phantom: Phantom) -> None:
        cupy = importlib.import_module("cupy")
        used = []
        for _ in range(4):
            engine.register(*volumes(small_phantom))
            gc.collect()
            used.append(cupy.get_default_memory_pool().used_bytes())
        assert used[3] <= used[1]

    def test_budget(self, engine: Engine, small_phantom: Phantom, looking_package: Path) -> None:
        expected = engine.register(*volumes(small_phantom))
        if engine.backend.name not in REGISTRY:
            pytest.skip("a budget is for backends that Engine opens")
        with Engine(looking_package, backend=engine.backend.name, gpu_memory="1GiB") as bounded:
            found = bounded.register(*volumes(small_phantom))
        difference = found.displacement.displacement - expected.displacement.displacement
        assert np.abs(difference).max() < WORST
