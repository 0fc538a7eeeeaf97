"""How kernels are launched: index width, variants, streams, and launches that only launch."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.operation import Operation, parts
from benchmarks.operations import OPERATIONS
from segreg import kernels
from segreg.kernels import _launches, _machines, distance_to_mask, jacobian_determinant, reference
from segreg.kernels._launches import LANES, MOST_BLOCKS, MOST_NARROW, RUN, plan_launch
from tests.kernels.conftest import Emulated, require_gpu

SHAPE = (7, 10, 12)
NAMES = ("warp", "warp_quads", "smooth")

operations = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
launching = pytest.mark.parametrize(
    "operation", [o for o in OPERATIONS if not o.waits], ids=lambda o: o.id
)


def array(size: int = 1, address: int = 0) -> Any:
    return SimpleNamespace(size=size, dtype=np.dtype("float32"), address=address)


def planned(kernel: str, size: _launches.Size, *arguments: Any) -> _launches.Launch:
    return plan_launch(kernel, size, arguments, lambda a: a.address, NAMES)


def test_items_are_covered_by_blocks():
    plan = planned("smooth", 257, array(), 3, None)
    assert (plan.kernel, plan.wide, plan.count) == ("smooth", False, 257)
    assert (plan.blocks, plan.threads) == ((3, 1, 1), (128, 1, 1))


def test_rows_are_covered_by_blocks():
    plan = planned("smooth", (6, 9, 2 * LANES * RUN + 1), array())
    assert plan.count == 6 * 9 * (2 * LANES * RUN + 1)
    assert plan.blocks == (3, 3, 6)
    assert plan.threads == (LANES, 4, 1)


def test_blocks_stay_within_the_limits_of_cuda():
    assert planned("smooth", (70000, 300000, 8)).blocks == (1, MOST_BLOCKS, MOST_BLOCKS)


@pytest.mark.parametrize(
    ("largest", "wide"), [(MOST_NARROW, False), (MOST_NARROW + 1, True), (2**33, True)]
)
def test_indices_have_64_bits_only_where_an_array_needs_them(largest, wide):
    assert planned("smooth", 8, array(), array(largest)).wide is wide
    assert planned("smooth", (1, 1, 8), array(largest), 1.0).wide is wide


@pytest.mark.parametrize(
    ("width", "addresses", "kernel"),
    [
        (8, (0, 32), "warp_quads"),
        (8, (0, 36), "warp"),
        (8, (8, 32), "warp"),
        (9, (0, 32), "warp"),
        (2, (0, 0), "warp"),
    ],
)
def test_four_voxels_at_a_time_only_where_all_rows_are_aligned(width, addresses, kernel):
    arrays = [array(address=address) for address in addresses]
    assert planned("warp", (1, 1, width), *arrays, 1, None).kernel == kernel
    assert planned("smooth", (1, 1, width), *arrays).kernel == "smooth"


def use(monkeypatch: pytest.MonkeyPatch, machine: Any) -> None:
    monkeypatch.setattr(_machines, "_cpu_machine", lambda: machine)


def shifted(values: Any, floats: int) -> Any:
    """The array again, contiguous, begun so many floats behind a multiple of 16 bytes."""
    memory = np.empty(values.nbytes + 64, np.uint8)
    begin = -memory.ctypes.data % 16 + 4 * floats
    moved = memory[begin : begin + values.nbytes].view(values.dtype).reshape(values.shape)
    moved[...] = values
    return moved


@pytest.mark.parametrize("width", [4, 7, 12, 132])
@pytest.mark.parametrize(("begin", "end"), [(0, 0), (1, 0), (0, 2), (3, 3)])
def test_unaligned_arrays_are_taken_voxel_by_voxel(
    emulated, monkeypatch, rng, random_field, begin, end, width
):
    use(monkeypatch, emulated)
    field = shifted(random_field((3, 5, width), 2), begin)
    out = shifted(np.full((2, 3, 5, width), np.nan, np.float32), end)
    jacobian_determinant(field, out=out)
    plan = emulated.launched[-1]
    quads = width % 4 == 0 and begin == end == 0
    assert plan.kernel == ("jacobian_determinant_quads" if quads else "jacobian_determinant")
    expected = reference.jacobian_determinant(field)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)

    mask = rng.random((2, 3, 5, width)) < 0.05
    spacing = [[1, 2, 3], [0.5, 1, 1]]
    distance_to_mask(mask, spacing, out=out)
    quads = width % 4 == 0 and end == 0
    assert emulated.launched[-1].kernel == ("distance_axis_quads" if quads else "distance_axis")
    np.testing.assert_allclose(out, reference.distance_to_mask(mask, spacing), rtol=1e-5)


def results_of(operation: Operation, shape: Any) -> list[Any]:
    return parts(operation.call(operation.arguments(np, shape)))


@operations
def test_index_width_changes_no_result(emulated: Emulated, monkeypatch, operation):
    use(monkeypatch, emulated)
    narrow = results_of(operation, SHAPE)
    monkeypatch.setattr(_launches, "MOST_NARROW", 0)
    emulated.launched.clear()
    wide = results_of(operation, SHAPE)
    assert emulated.launched
    assert all(plan.wide for plan in emulated.launched)
    for one, other in zip(narrow, wide, strict=True):
        np.testing.assert_array_equal(one, other)


@operations
def test_few_blocks_cover_everything(emulated: Emulated, monkeypatch, operation):
    use(monkeypatch, emulated)
    many = results_of(operation, SHAPE)
    monkeypatch.setattr(_launches, "MOST_BLOCKS", 1)
    for one, other in zip(many, results_of(operation, SHAPE), strict=True):
        np.testing.assert_array_equal(one, other)


class DeviceArray(np.ndarray):  # type: ignore[type-arg]
    """Passes for CuPy's array wherever only the kind is asked for."""

    __module__ = "cupy.testing"

    def get(self) -> Any:
        return np.asarray(self)


class OnDevice:
    """Makes them: the array module that a table of operations is given."""

    @staticmethod
    def asarray(values: Any) -> Any:
        return np.array(values).view(DeviceArray)

    @staticmethod
    def empty(shape: Any, dtype: Any) -> Any:
        filler = np.nan if np.dtype(dtype).kind == "f" else 99
        return np.full(shape, filler, dtype).view(DeviceArray)


class Sealed:
    """A machine that launches and does nothing else."""

    name = "sealed"
    lanes = 32
    window = _machines.Cuda.window

    def __init__(self, machine: Emulated) -> None:
        self.launch, self.address = machine.launch, machine.address

    def contiguous(self, values: Any) -> Any:
        assert values.flags.c_contiguous, "copied an array"
        return values

    def move(self, values: Any) -> Any:
        assert isinstance(values, DeviceArray), "moved a table"
        return values

    def constant(self, values: Any) -> Any:
        return values  # there since the call before

    def refuse(self, *arguments: Any) -> Any:
        raise AssertionError("allocated, or fetched a result")

    empty = zeros = fetch = refuse


def on_device(monkeypatch: pytest.MonkeyPatch, machine: Emulated, operation: Operation) -> Any:
    """An operation's arguments, made where CuPy's arrays would lie."""
    with monkeypatch.context() as context:
        context.setattr(machine, "empty", OnDevice.empty)
        use(context, machine)
        return operation.arguments(OnDevice, SHAPE)


@launching
def test_with_its_buffers_a_call_only_launches(emulated: Emulated, monkeypatch, operation):
    arguments = on_device(monkeypatch, emulated, operation)
    use(monkeypatch, Sealed(emulated))
    result = operation.call(arguments)
    assert (result[0] if isinstance(result, tuple) else result) is arguments["out"]
    plain = operation.inputs(SHAPE)
    expected = operation.expected({**plain, **operation.options})
    expected = expected[0] if isinstance(expected, tuple) else expected
    wrong = np.abs(arguments["out"] - expected) > operation.tolerance
    assert wrong.mean() <= operation.ties


@pytest.mark.gpu
@launching
def test_calls_are_captured_into_graphs(operation):
    cupy = require_gpu()
    stream = cupy.cuda.Stream(non_blocking=True)
    arguments = {**operation.arguments(cupy, SHAPE), "stream": stream}
    cupy.cuda.Device().synchronize()
    out = arguments["out"]
    operation.call(arguments)  # compiles
    stream.synchronize()
    expected = out.copy()
    with stream:
        stream.begin_capture()
        operation.call(arguments)
        graph = stream.end_capture()
        out.fill(99)
        graph.launch()
    stream.synchronize()
    cupy.testing.assert_array_equal(out, expected)


def public_operations() -> list[Any]:
    values = [getattr(kernels, name) for name in kernels.__all__]
    functions = [value for value in values if inspect.isfunction(value)]
    return [f for f in functions if not f.__name__.endswith(("_threads", "_memory"))]


@pytest.mark.parametrize("function", public_operations(), ids=lambda f: f.__name__)
def test_every_operation_takes_a_stream(function):
    name, last = list(inspect.signature(function).parameters.items())[-1]
    assert (name, last.kind, last.default) == ("stream", inspect.Parameter.KEYWORD_ONLY, None)
    assert "stream : cupy.cuda.Stream, optional" in function.__doc__
    assert hasattr(function, "__wrapped__"), "the decorator on_stream is missing"


@operations
def test_numpy_arrays_have_no_stream(operation):
    arguments = {**operation.arguments(np, SHAPE), "stream": object()}
    with pytest.raises(TypeError, match="stream: expected CuPy arrays with it, got none"):
        operation.call(arguments)


@launching
def test_operations_run_inside_their_stream(emulated: Emulated, monkeypatch, operation):
    events: list[str] = []

    class Stream:
        def __enter__(self) -> None:
            events.append("enter")

        def __exit__(self, *error: object) -> None:
            events.append("exit")

    class Watched(Sealed):
        def __init__(self, machine: Emulated) -> None:
            super().__init__(machine)
            self.launch = self.watch

        def watch(self, *arguments: Any) -> None:
            events.append("launch")

    arguments = on_device(monkeypatch, emulated, operation)
    use(monkeypatch, Watched(emulated))
    operation.call({**arguments, "stream": Stream()})
    assert (events[0], events[-1], set(events[1:-1])) == ("enter", "exit", {"launch"})


def test_what_is_no_stream_is_refused():
    field = OnDevice.asarray(np.zeros((1, 3, 2, 2, 2), np.float32))
    with pytest.raises(TypeError, match="stream: expected a CuPy stream, got int"):
        jacobian_determinant(field, stream=7)


@pytest.mark.gpu
def test_a_stream_orders_what_runs_on_it(random_field):
    cupy = require_gpu()
    field = cupy.asarray(random_field((40, 50, 60)))
    expected = jacobian_determinant(kernels.integrate(field, 7))
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    result = jacobian_determinant(kernels.integrate(field, 7, stream=stream), stream=stream)
    stream.synchronize()
    cupy.testing.assert_array_equal(result, expected)


def test_only_numpy_arrays_need_the_extension():
    code = (
        "import sys; sys.modules['segreg.kernels._cpu'] = None\n"
        "import numpy as np, segreg.kernels as k\n"
        "try: k.jacobian_determinant(np.zeros((1, 3, 2, 2, 2), np.float32))\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("expected the compiled extension segreg.kernels._cpu")
