"""A pair on a GPU: uploaded once, computed on one stream, fetched once, within its memory.

The GPU is a strict stand-in on host memory with the CUDA sources behind it; ``test_on_device.py``
runs on the device itself.
"""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.engine import cuda_device
from segreg.engine.backends import CudaOptions
from segreg.engine.cuda_device import CudaDevice
from segreg.engine.errors import BackendError, InputError
from segreg.engine.phantom import Phantom
from segreg.engine.result import Result
from segreg.engine.runtime import Engine
from segreg.kernels import _machines, _memory, sampling
from tests.conftest import tiny_network, write_tiny_package
from tests.engine.pairs import BOXES, SHIFTED, cubes, pair_of, same, volumes
from tests.engine.stand_ins import SETTINGS
from tests.engine.strict_cupy import StrictGpu
from tests.engine.strict_streams import OutOfMemoryError
from tests.kernels.conftest import Emulated

# With one pass: looks at each batch, speeds and folds, labels, statistics, points, repair, quality,
# slices of both sides along each axis.
MOST_WAITS = 35
WORST = 1e-2  # voxels: what a GPU's field may differ from a CPU's


def on_gpu(package: Path, **options: Any) -> Engine:
    return Engine(package, backend="onnxruntime-cuda", **options)


def volume_bytes(phantom: Phantom) -> tuple[list[int], list[int]]:
    """Bytes of the inputs, and of the results."""
    inputs = [volume.array.nbytes for volume in volumes(phantom)]
    inputs += [phantom.moving.array.size, phantom.fixed.array.size]  # the bodies, a byte a voxel
    voxels, label = phantom.fixed.array.size, phantom.moving_labels.array.itemsize
    return inputs, [12 * voxels, 4 * voxels, label * voxels, 4 * voxels]


class HostRun:
    """Registers on the host's arrays, with the kernels and the network that the stand-in has."""

    def __init__(self, kernels: Emulated) -> None:
        self.kernels = kernels

    def __call__(self, package: Path, pair: Any, **options: Any) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_machines, "_cpu_machine", lambda: self.kernels)
            with Engine(package, backend="onnxruntime") as engine:
                assert engine.device.name == "cpu"
                return engine.register(*pair, **options)


@pytest.fixture
def on_host(emulated: Emulated) -> HostRun:
    return HostRun(emulated)


class TestOnStandIn:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"interpolation": "cubic", "repair": False},
            {"interpolation": "nearest", "groups": {"one": [1, 2], "other": [5]}},
            {"blend": "all", "labels": [2, 3]},
        ],
        ids=str,
    )
    def test_same_as_on_the_host_bit_for_bit(
        self, gpu: StrictGpu, on_host: HostRun, looking_package: Path, small_phantom: Phantom,
        options: dict[str, Any],
    ) -> None:  # fmt: skip
        with on_gpu(looking_package, options=CudaOptions(batch=4)) as engine:
            assert engine.backend.canvas == (16, 16, 16)  # the package's
            engine.backend.notes.append("a sentence")
            found = engine.register(*volumes(small_phantom), **options)
        expected = on_host(looking_package, volumes(small_phantom), **options)
        same(found, expected)
        np.testing.assert_array_equal(found.jacobian, expected.jacobian)
        assert found.provenance.backend == "onnxruntime-cuda"
        assert "a sentence" in found.notes
        assert (found.provenance.device, found.provenance.threads) == ("Strict GPU", 0)
        assert {"upload", "download"} <= set(found.timings)
        assert not {"upload", "download"} & set(expected.timings)

    @pytest.mark.parametrize("kind", [np.int16, np.int32, "far"])
    def test_any_label_numbers(
        self, gpu: StrictGpu, on_host: HostRun, looking_package: Path, kind: Any
    ) -> None:
        maps = [cubes(*places).astype(np.int32) for places in (SHIFTED, BOXES)]
        if kind == "far":  # too far for a table
            maps = [np.where(labels > 0, labels * 3_000_000, 0) for labels in maps]
        else:
            maps = [labels.astype(kind) for labels in maps]
        with on_gpu(looking_package) as engine:
            found = engine.register(*pair_of(*maps))
        same(found, on_host(looking_package, pair_of(*maps)))
        assert found.warped_labels.array.max() == maps[0].max()

    def test_one_slice_and_turned_components(
        self, gpu: StrictGpu, on_host: HostRun, build_package: Any
    ) -> None:
        output = {"kind": "velocity", "unit": "canvas_voxel", "order": "xyz", "stride": 2}
        package = build_package((0.5, -0.25, 1.0), output=output, passes=2)
        flat = [
            cubes(*((0, *place[1:]) for place in places), shape=(1, 24, 28))
            for places in (SHIFTED, BOXES)
        ]
        with on_gpu(package) as engine:
            found = engine.register(*pair_of(*flat))
        same(found, on_host(package, pair_of(*flat)))
        assert not found.displacement.displacement[0].any()

    @pytest.mark.parametrize(("placement", "channels"), [("crop", 4), ("grid", 4), ("grid", 2)])
    def test_every_placement(
        self, gpu: StrictGpu, on_host: HostRun, tmp_path: Path, placement: str, channels: int
    ) -> None:
        weights = np.random.default_rng(1).normal(0, 0.2, (3, channels, 2, 2, 2))
        package = write_tiny_package(
            tmp_path / "placed", tiny_network(weights=weights), placement=placement,
            channels=SETTINGS["channels"][:channels], shape=[16, 16, 16], spacing=[3.0, 2.0, 3.0],
            free_axes=["batch"], canvas=None,
        )  # fmt: skip
        pair = pair_of(*(cubes(*places) for places in (SHIFTED, BOXES)))
        with on_gpu(package) as engine:
            found = engine.register(*pair)
        same(found, on_host(package, pair))
        assert found.displacement.displacement.any()

    def test_like_the_kernels_of_the_cpu(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        with on_gpu(looking_package) as engine:
            found = engine.register(*volumes(small_phantom))
        with Engine(looking_package, backend="onnxruntime") as engine:
            expected = engine.register(*volumes(small_phantom))
        difference = found.displacement.displacement - expected.displacement.displacement
        assert np.abs(difference).max() < WORST

    def test_every_volume_crosses_the_bus_once(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        inputs, results = volume_bytes(small_phantom)
        with on_gpu(looking_package) as engine:
            for _ in range(2):  # the first also moves constants
                gpu.log.clear()
                engine.register(*volumes(small_phantom))
                assert sorted(gpu.log.up) == sorted(inputs)
                assert sorted(gpu.log.down) == sorted(results)
                tables = [*gpu.log.small_up, *gpu.log.small_down]
                assert not {*inputs, *results} & set(tables)
                assert max(tables) < min(small_phantom.moving.array.nbytes, results[0]) / 3

    def test_everything_is_launched_on_one_stream(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        with on_gpu(looking_package) as engine:
            engine.register(*volumes(small_phantom))
            stream = engine.device.stream  # type: ignore[attr-defined]
            own = engine.backend._stream  # type: ignore[attr-defined]
        assert {where for _, where in gpu.log.launches} == {stream}
        assert len({name for name, _ in gpu.log.launches}) > 15
        # The network's stream waits for the kernels, and they for it.
        assert stream in own.waited_for
        assert own in stream.waited_for

    def test_the_next_upload_waits_for_memory_in_use(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        with on_gpu(looking_package) as engine:
            device: Any = engine.device
            engine.register(*volumes(small_phantom))
            assert device._up in device.stream.waited_for  # before it computes
            assert device.stream in device._up.waited_for  # before blocks come back to it
            assert device.stream in device._down.waited_for

    def test_no_kernel_of_the_cpu_is_needed(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom, monkeypatch: Any
    ) -> None:
        """So that a GPU does without the compiled extension."""

        def absent() -> Any:
            raise ImportError("the extension was asked for")

        pair = [*volumes(small_phantom)]
        monkeypatch.setattr(_machines, "compiled", absent)
        monkeypatch.setattr(_memory, "compiled", absent)
        monkeypatch.setattr(_machines, "_cpu_machine", absent)
        with on_gpu(looking_package) as engine:
            assert engine.register(*pair).quality.dice > 0.5

    def test_the_host_seldom_waits(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        """Each wait costs what a kernel takes: a further one is to be noticed."""
        with on_gpu(looking_package) as engine:
            for _ in range(2):
                gpu.log.clear()
                engine.register(*volumes(small_phantom))
        assert gpu.log.waits <= MOST_WAITS

    def test_refined_as_on_the_host(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        with on_gpu(looking_package) as engine:
            found = engine.register(*volumes(small_phantom), refine="auto")
        with Engine(looking_package, backend="onnxruntime") as engine:
            expected = engine.register(*volumes(small_phantom), refine="auto")
        assert found.refinement.iterations == expected.refinement.iterations
        fields = found.displacement.displacement, expected.displacement.displacement
        np.testing.assert_allclose(*fields, atol=0.02)  # 35 steps add up what rounding differs

    def test_nothing_is_left_on_the_gpu(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        with on_gpu(looking_package) as engine:
            for _ in range(2):
                engine.register(*volumes(small_phantom))
                gc.collect()
                assert gpu.default_pool.used < 2_000  # constants of the kernels
            engine.backend._run = _fail  # type: ignore[method-assign]
            with pytest.raises(BackendError, match="failed while running: the network fell over"):
                engine.register(*volumes(small_phantom))
            gc.collect()
            assert gpu.default_pool.used < 2_000
        assert gpu.default_pool.most > 1_000_000

    def test_results_that_are_kept_lie_in_pinned_memory_up_to_a_bound(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(
            cuda_device, "MOST_PINNED", 2 * sum(volume_bytes(small_phantom)[1])
        )
        with on_gpu(looking_package) as engine:
            device: Any = engine.device
            kept = [engine.register(*volumes(small_phantom)) for _ in range(3)]
            assert device._lent == cuda_device.MOST_PINNED
            pinned = [_is_pinned(gpu, result.warped.array) for result in kept]
            assert pinned == [True, True, False]
            for result in kept[1:]:
                same(result, kept[0])
            del kept, result
            gc.collect()
            assert device._lent == 0


class TestMemory:
    def test_a_budget_splits_the_batch_and_changes_nothing(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(sampling, "TABLE_BYTES", 1 << 16)
        sizes: list[list[int]] = []
        results = []
        for budget in (None, 1 << 40, "10 MB", "6000000 B"):
            with on_gpu(looking_package, gpu_memory=budget) as engine:
                sizes.append(_shown(engine))
                results.append(engine.register(*volumes(small_phantom)))
                if budget is not None:
                    # Half of it is the network's.
                    assert engine.backend.options.memory == engine.device.budget // 2  # type: ignore[attr-defined]
                    assert gpu.pools[-1].limit == engine.device.budget // 2  # type: ignore[operator]
                    assert gpu.default_pool.used < 10_000
                    assert gpu.pools[-1].most <= gpu.pools[-1].limit
        assert sizes[0] == sizes[1] == [6, 1, 1]  # regions, what is labelled as one, the body
        assert sizes[2:] == [[3, 3, 1, 1], [2, 2, 2, 1, 1]]
        for result in results:
            same(result, results[0])
            assert not any("memory" in note for note in result.notes)

    def test_memory_that_runs_out_halves_the_batch_once(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        with on_gpu(looking_package) as engine:
            expected = engine.register(*volumes(small_phantom))
            shown = _shown(engine, most=3)
            found = engine.register(*volumes(small_phantom))
            assert shown == [6, 3, 3, 1, 1]
            same(found, expected)
            assert sum("6 regions in one batch" in note for note in found.notes) == 1
            assert expected.notes == found.notes[:-1]
            _shown(engine, most=2)
            with pytest.raises(BackendError, match="out of memory on Strict GPU: 3 regions need"):
                engine.register(*volumes(small_phantom))
        gc.collect()
        assert gpu.default_pool.used < 2_000

    def test_as_many_regions_as_fit(self, gpu: StrictGpu) -> None:
        cells, each = 100, 1000
        network = 4 * cuda_device.FEATURES * cells
        half = CudaDevice(0, memory=int(10 * (network + each) / 0.8) + 9)
        assert half.most_regions(cells, each) == 10
        parts = CudaDevice(0, memory=int((4 * network + 50 * each) / 0.8) + 9, batch=4)
        assert parts.most_regions(cells, each) == 50
        apart = CudaDevice(0, memory=1 << 40, arena=int(3 * network / 0.8) + 9, batch=16)
        assert apart.most_regions(cells, each) == 3
        unbound = CudaDevice(0, memory=1 << 40, arena=int(3 * network / 0.8) + 9, batch=3)
        assert unbound.most_regions(cells, each) > 10**6
        assert CudaDevice(0, memory=10).most_regions(cells, each) == 1
        # Without a bound, what the GPU has free: the stand-in says 8 GiB.
        free = int(0.8 * 2**33)
        assert CudaDevice(0, batch=64).most_regions(10**6, 10**6) == free // (257 * 10**6)

    def test_a_pair_that_does_not_fit_at_all(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        for budget in ("400 KiB", "1 MiB"):  # too little for the volumes; for what comes of them
            with (
                on_gpu(looking_package, gpu_memory=budget) as engine,
                pytest.raises(BackendError, match=r"out of memory on Strict GPU.*--gpu-memory"),
            ):
                engine.register(*volumes(small_phantom))

    def test_a_budget_that_the_network_takes(self, gpu: StrictGpu, looking_package: Path) -> None:
        with pytest.raises(InputError, match=r"expected more than the network's own 1 GiB, got"):
            on_gpu(looking_package, gpu_memory="1GiB", options=CudaOptions(memory=1 << 30))

    def test_a_budget_on_the_cpu(self, looking_package: Path, small_phantom: Phantom) -> None:
        with Engine(looking_package, gpu_memory="1GiB") as engine:
            assert any("gpu_memory: backend" in note for note in engine.backend.notes)
        with pytest.raises(BackendError, match="runs on the CPU and takes no CudaOptions"):
            Engine(looking_package, backend="onnxruntime", gpu_memory="1GiB")


class TestMany:
    def test_pair_after_pair_is_each_pair(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        other = pair_of(cubes(*SHIFTED), cubes(*BOXES))
        pairs = [volumes(small_phantom), other] * 2
        with on_gpu(looking_package) as engine:
            expected = [engine.register(*pair) for pair in pairs[:2]] * 2
            for found, alone in zip(engine.register_many(pairs), expected, strict=True):
                same(found, alone)
        gc.collect()
        assert gpu.default_pool.used < 4_000

    def test_threads_share_an_engine(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        pairs = [volumes(small_phantom), pair_of(cubes(*SHIFTED), cubes(*BOXES))] * 2
        with on_gpu(looking_package) as engine:
            expected = [engine.register(*pair) for pair in pairs[:2]] * 2
            with ThreadPoolExecutor(2) as pool:
                found = list(pool.map(lambda pair: engine.register(*pair), pairs))
        for one, alone in zip(found, expected, strict=True):
            same(one, alone)

    def test_the_next_pair_goes_up_while_one_is_computed(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom
    ) -> None:
        inputs, results = volume_bytes(small_phantom)
        seen: list[tuple[int, int]] = []
        both_up = threading.Event()

        with on_gpu(looking_package) as engine:
            run, upload = engine.backend._run, engine.device.upload

            def slow(regions: Any) -> Any:
                if not seen:
                    assert both_up.wait(20), "the next pair was not uploaded meanwhile"
                seen.append((len(gpu.log.up), len(gpu.log.down)))
                return run(regions)

            def noted(arrays: Any) -> Any:
                parcel = upload(arrays)
                if len(gpu.log.up) >= 2 * len(inputs):
                    both_up.set()
                return parcel

            engine.backend._run = slow  # type: ignore[method-assign]
            engine.device.upload = noted  # type: ignore[method-assign]
            found = list(engine.register_many([volumes(small_phantom)] * 3))
        assert seen[0] == (2 * len(inputs), 0)
        assert len(gpu.log.up) == 3 * len(inputs)
        assert len(gpu.log.down) == 3 * len(results)
        for result in found[1:]:
            same(result, found[0])

    def test_no_room_for_the_next_pair_yet(
        self, gpu: StrictGpu, looking_package: Path, small_phantom: Phantom, monkeypatch: Any
    ) -> None:
        """It goes up when its turn comes."""
        with on_gpu(looking_package) as engine:
            expected = engine.register(*volumes(small_phantom))
            device: Any = engine.device
            send, readers = device._send, list[int]()

            def full(arrays: Any) -> Any:
                readers.append(threading.get_ident())
                if readers[-1] == readers[0]:  # the thread that reads ahead
                    raise OutOfMemoryError("Out of memory")
                return send(arrays)

            monkeypatch.setattr(device, "_send", full)
            gpu.log.clear()
            for found in engine.register_many([volumes(small_phantom)] * 2):
                same(found, expected)
            assert len(gpu.log.up) == 12
            assert len(readers) == 4


def _shown(engine: Engine, most: int | None = None) -> list[int]:
    """Sizes of the batches that the network is shown from now on; it has memory for ``most``."""
    infer, sizes = engine.backend.infer, list[int]()

    def noted(regions: Any) -> Any:
        sizes.append(len(regions))
        if most is not None and len(regions) > most:
            raise BackendError("the backend failed while running") from OutOfMemoryError()
        return infer(regions)

    engine.backend.infer = noted  # type: ignore[method-assign]
    return sizes


def _fail(regions: Any) -> Any:
    raise RuntimeError("the network fell over")


def _is_pinned(gpu: StrictGpu, array: np.ndarray) -> bool:
    return any(begin <= array.ctypes.data < begin + size for begin, size in gpu.pinned)
