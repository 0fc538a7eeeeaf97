"""The machines that every test of an operation runs on, and arrays to run it with.

``machine`` is the CPU build, the CUDA sources on a GPU, and the CUDA sources compiled by the host's
C++ compiler and run thread after thread: the last proves the launch code where there is no GPU.

``SEGREG_SANITIZE=address,undefined`` builds the last with these sanitizers; ``SEGREG_EXTENSION`` is
the file of another CPU build to test (``sanitized.py`` sets both).
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segreg.kernels import MatchingSide, _launches, _machines, find_borders
from segreg.kernels._launches import AFFINE

KERNELS = Path(_machines.__file__).parent
SANITIZERS = os.environ.get("SEGREG_SANITIZE")

# Of the sanitizers' runtime this process has need, not the compilers and interpreters it starts.
os.environ.pop("LD_PRELOAD", None)

if "SEGREG_EXTENSION" in os.environ:
    name = "segreg.kernels._cpu"
    found = importlib.util.spec_from_file_location(name, os.environ["SEGREG_EXTENSION"])
    assert found is not None
    assert found.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(found)
    found.loader.exec_module(sys.modules[name])

# Other people's implementations. Without them a test is left out, and not the file around it.
OUTSIDE = {"SimpleITK", "hypothesis", "scipy"}


class Absent(types.ModuleType):
    """Stands for something of a library that is not installed: what calls it is skipped."""

    def __getattr__(self, name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        pytest.skip(f"{self.__name__} is not installed", allow_module_level=True)


class AbsentFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked last, so only for what is not there."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] in OUTSIDE:
            return importlib.util.spec_from_loader(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Absent:
        return Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


sys.meta_path.append(AbsentFinder())

# CUDA's words for a compiler that knows none of them.
SHIM = """
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
struct Extent { unsigned x, y, z; };
static Extent gridDim, blockDim, blockIdx, threadIdx;
"""

RUN_CUDA = """
extern "C" void run_{name}{suffix}(Extent blocks, Extent threads, {parameters}) {{
    gridDim = blocks;
    blockDim = threads;
    for_each(blocks, blockIdx, [&] {{
        for_each(threads, threadIdx, [&] {{ {name}({arguments}); }});
    }});
}}
"""

EACH = """
template <typename Body>
static void for_each(Extent extent, Extent& at, const Body& body) {
    for (at.z = 0; at.z < extent.z; ++at.z)
        for (at.y = 0; at.y < extent.y; ++at.y)
            for (at.x = 0; at.x < extent.x; ++at.x) body();
}
"""

def cuda_parameters() -> dict[str, list[tuple[str, str]]]:
    """Type and name of each parameter of each CUDA kernel."""
    kernels = {}
    for path in sorted((KERNELS / "cuda").glob("*.cu")):
        text = re.sub(r"//.*", "", path.read_text())
        kernel = r"__global__ (?:SEGREG_BOUNDED )?void (\w+)\(([^)]*)\)"
        for name, parameters in re.findall(kernel, text):
            parts = [" ".join(part.split()) for part in parameters.split(",")]
            kernels[name] = [(kind, word) for kind, _, word in (p.rpartition(" ") for p in parts)]
    return kernels


class Affine(ctypes.Structure):
    _fields_ = (("m", ctypes.c_float * 12),)


class Extent(ctypes.Structure):
    _fields_ = tuple((axis, ctypes.c_uint) for axis in "xyz")


def packed(argument: Any) -> Any:
    """An argument as C takes it."""
    if argument is None:
        return ctypes.c_void_p(None)
    if isinstance(argument, int):
        return ctypes.c_int(argument)
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    if argument.dtype == AFFINE:
        return Affine.from_buffer_copy(argument)
    return ctypes.c_void_p(argument.ctypes.data)


def entries(run: str, names: list[str], suffix: str = "") -> str:
    """A C function ``run_NAME`` for each kernel."""
    parts = []
    for name in names:
        parameters = cuda_parameters()[name]
        declared = ", ".join(f"{kind} {word}" for kind, word in parameters)
        passed = ", ".join(word for _, word in parameters)
        parts.append(
            run.format(name=name, suffix=suffix, parameters=declared, arguments=passed)
        )
    return "\n".join(parts)


class HostLibrary(_machines.Cpu):
    """Kernels in a shared library that the host's compiler builds for the tests."""

    def __init__(self, folder: Path, texts: list[str], sources: list[Path]) -> None:
        if shutil.which("g++") is None:
            pytest.skip("g++ is not installed: nothing can be built for the tests")
        library = folder / "kernels.so"
        for number, text in enumerate(texts):
            path = folder / f"entry{number}.cpp"
            path.write_text(text)
            sources = [*sources, path]
        command = ["g++", "-std=c++17", "-O0", "-g", "-shared", "-fPIC", "-w", "-fopenmp"]
        if SANITIZERS:
            command += [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all"]
        command += [f"-I{KERNELS / part}" for part in ("bodies", "cpu")]
        subprocess.run([*command, *map(str, sources), "-o", str(library)], check=True)
        self._library = ctypes.CDLL(str(library))

    def launch(self, kernel: str, size: Any, *arguments: Any) -> None:
        count = ctypes.c_longlong(_launches.count_items(size))
        getattr(self._library, f"run_{kernel}")(count, *map(packed, arguments))


class Emulated(HostLibrary):
    """The CUDA sources, one thread after the other, launched as on a GPU."""

    lanes = _machines.Cuda.lanes
    window = _machines.Cuda.window
    rounds = _machines.Cuda.rounds

    def __init__(self, folder: Path) -> None:
        names = list(cuda_parameters())
        includes = [f'#include "{path}"' for path in sorted((KERNELS / "cuda").glob("*.cu"))]
        texts = []
        for suffix in ("", "_wide"):
            defines = ["#define SEGREG_NARROW"]
            if suffix:
                defines = [f"#define {name} {name}{suffix}" for name in names]
            run = entries(RUN_CUDA, names, suffix)
            texts.append("\n".join([SHIM, *defines, *includes, EACH, run]))
        super().__init__(folder, texts, [])
        self.launched: list[_launches.Launch] = []

    def launch(self, kernel: str, size: Any, *arguments: Any) -> None:
        kernels = _machines.cuda_sources()
        plan = _launches.plan_launch(kernel, size, arguments, self.address, kernels)
        self.launched.append(plan)
        run = getattr(self._library, f"run_{plan.kernel}{'_wide' if plan.wide else ''}")
        extents = Extent(*plan.blocks), Extent(*plan.threads)
        run(*extents, ctypes.c_longlong(plan.count), *map(packed, arguments))


@dataclass(frozen=True)
class Target:
    """Where a test's arrays live."""

    name: str
    put: Callable[[Any], Any]
    get: Callable[[Any], Any]

    def put_side(self, side: MatchingSide) -> MatchingSide:
        return MatchingSide(*map(self.put, side))


def require_gpu() -> Any:
    """CuPy with a device, or a skip; a failure where the machine promises a GPU."""
    promised = os.environ.get("SEGREG_REQUIRE_GPU") == "1"
    refuse = pytest.fail if promised else pytest.skip
    if importlib.util.find_spec("cupy") is None:
        refuse("CuPy is not installed: no CUDA kernels to test")
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        refuse(f"CuPy finds no CUDA device: {error}")
    if not count:
        refuse("CuPy finds no CUDA device")
    return cupy


@pytest.fixture(scope="session")
def cuda_kernels() -> dict[str, list[tuple[str, str]]]:
    return cuda_parameters()


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    return Emulated(tmp_path_factory.mktemp("emulated"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu), "emulated"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Target:
    if request.param == "cuda":
        cupy = require_gpu()
        return Target("cuda", cupy.asarray, cupy.asnumpy)
    if request.param == "emulated":
        library = request.getfixturevalue("emulated")
        monkeypatch.setattr(_machines, "_cpu_machine", lambda: library)
    return Target(request.param, lambda array: array, np.asarray)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20250915)


@pytest.fixture
def side(rng: np.random.Generator, random_labels: Callable[..., Any]) -> Callable[..., Any]:
    """Makes one side (D, H, W) of a refinement, in NumPy."""

    def make(shape: tuple[int, ...], count: int = 3) -> MatchingSide:
        words, distances = find_borders(random_labels(shape, count), farthest=2.5)
        return MatchingSide(rng.standard_normal(shape).astype(np.float32), words, distances)

    return make


@pytest.fixture
def random_field(rng: np.random.Generator) -> Callable[..., Any]:
    """Makes fields (B, 3, D, H, W) float32 whose vectors also point out of the grid."""

    def make(shape: tuple[int, int, int], batch: int = 1, size: float = 2.0) -> Any:
        return (size * rng.standard_normal((batch, 3, *shape))).astype(np.float32)

    return make


@pytest.fixture
def smooth_field() -> Callable[..., Any]:
    """Makes slow waves (1, 3, D, H, W) float32: invertible while ``size`` is small."""

    def make(shape: tuple[int, int, int], size: float = 1.0) -> Any:
        z, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
        waves = [np.sin(3 * y + 2 * x + z), np.cos(2 * z + 3 * x), np.sin(2 * z - 3 * y + x)]
        return (size * np.stack(waves)[None]).astype(np.float32)

    return make


@pytest.fixture
def random_labels(rng: np.random.Generator) -> Callable[..., Any]:
    """Makes label maps (D, H, W) int32 of 0..count in boxes, so that labels have insides."""

    def make(shape: tuple[int, int, int], count: int) -> Any:
        coarse = rng.integers(0, count + 1, [max(1, -(-n // 3)) for n in shape])
        for axis, length in enumerate(shape):
            coarse = np.repeat(coarse, 3, axis=axis).take(np.arange(length), axis=axis)
        return coarse.astype(np.int32)

    return make
