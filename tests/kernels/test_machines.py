"""One launch form, two machines: threads, names, signatures, and compiling without a GPU."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import resources
from segreg.kernels import (
    _machines,
    compose,
    count_folds,
    distance_to_mask,
    find_labels,
    fuse_fields,
    gather_regions,
    get_threads,
    integrate,
    invert,
    jacobian_determinant,
    jacobian_sums,
    overlap,
    region_shapes,
    region_stats,
    relabel,
    repair_folds,
    set_threads,
    smooth,
    soft_dice,
    spline_coefficients,
    sum_distances,
    surface_distances,
    warp,
    warp_labels,
)
from tests.kernels import sanitized

_cpu = pytest.importorskip("segreg.kernels._cpu")

KERNELS = Path(_machines.__file__).parent


@pytest.fixture
def thread_counts():
    before = get_threads()
    yield [1, 2, 5]
    set_threads(before)


def everything(rng):
    """One result of every operation, on sizes that take several pieces of work."""
    shape = (24, 40, 50)
    field = (2 * rng.standard_normal((1, 3, *shape))).astype(np.float32)
    image = rng.standard_normal((1, 1, *shape)).astype(np.float32)
    regions = rng.integers(0, 4, shape).astype(np.int32)
    maps = np.tile(np.eye(3, 4), (3, 1, 1))
    ones = np.ones((3, 3))
    shapes = region_shapes(regions, [1, 2, 3])
    canvases = gather_regions(image[0, 0], shapes, maps, np.ones((3, 2)), (18, 24, 40))
    distances = distance_to_mask(canvases[:, 1] > 0.5, ones)
    fields = rng.standard_normal((3, 3, 18, 24, 40)).astype(np.float32)
    elsewhere = fields[0], maps[0], maps[0]
    stats = region_stats(regions, image[0, 0], 3)
    surfaces = surface_distances(regions, regions[::-1].copy(), (stats, stats), [3, 1, 1])
    sums = jacobian_sums(jacobian_determinant(field)[0], regions, 3)
    return [
        warp(image, field),
        warp(image, field, mode="nearest"),
        warp(image, field, mode="cubic"),
        spline_coefficients(image),
        smooth(image, 2.0),
        smooth(image, 6.0),
        warp_labels(regions, field),
        overlap(regions, regions, field, 3),
        compose(field, field),
        integrate(field, 4),
        jacobian_determinant(field),
        *invert(field, steps=4),
        repair_folds(field, iterations=6)[0],
        canvases,
        distances,
        fuse_fields(regions, fields, distances, maps, maps, ones, elsewhere, 5.0),
        fuse_fields(regions, fields, distances, maps, maps, ones, elsewhere, np.full((4, 4), 3.0)),
        soft_dice(canvases, 0, 1),
        sum_distances(field[0].reshape(3, -1), maps[0].T[:, :3], maps[0].T[:, :3]),
        *count_folds(fields, canvases, 1),
        find_labels(regions, 9),
        relabel(regions, [0, 7, 5, 9]),
        *vars(stats).values(),
        *vars(surfaces).values(),
        *vars(sums).values(),
    ]


def test_results_do_not_depend_on_the_number_of_threads(thread_counts):
    runs = []
    for count in thread_counts:
        set_threads(count)
        assert get_threads() == count
        runs.append(everything(np.random.default_rng(3)))
    for run in runs[1:]:
        for one, other in zip(runs[0], run, strict=True):
            np.testing.assert_array_equal(one, other)


def test_both_machines_have_the_same_kernels_with_the_same_parameters(cuda_kernels):
    types = {
        name: tuple(kind for kind, _ in parameters) for name, parameters in cuda_kernels.items()
    }
    variants = {name: types.pop(name) for name in list(types) if name.endswith("_quads")}
    assert types == dict(_cpu.signatures)
    assert len(types) >= 27
    assert len(variants) >= 2
    for name, parameters in variants.items():
        assert parameters == types[name.removesuffix("_quads")]


def test_every_cuda_kernel_is_found_in_its_file():
    assert set(_machines.cuda_sources()) >= set(_cpu.signatures)


def test_cpu_kernels_take_only_the_arrays_they_declare():
    field = np.zeros((1, 3, 2, 2, 2), np.float32)
    out = np.zeros((1, 2, 2, 2), np.float32)
    _cpu.jacobian_determinant(8, field, 2, 2, 2, out)
    np.testing.assert_array_equal(out, 1)
    locked = out.copy()
    locked.flags.writeable = False
    for wrong in (field.astype(np.float64), field[..., ::-1]):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            _cpu.jacobian_determinant(8, wrong, 2, 2, 2, out)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _cpu.jacobian_determinant(8, field, 2, 2, 2, locked)


def test_arrays_of_two_machines_do_not_mix():
    class Foreign:
        data = None

    Foreign.__module__ = "cupy._core.core"
    field = np.zeros((1, 3, 2, 2, 2), np.float32)
    with pytest.raises(TypeError, match=r"first on the cuda.*second on the cpu"):
        compose(Foreign(), field)


def test_import_needs_neither_cupy_nor_other_libraries():
    code = (
        "import sys, segreg.kernels, segreg.kernels.reference; "
        "print(sorted({'cupy', 'torch', 'scipy', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_kernels_release_the_interpreter():
    import threading

    field = np.zeros((1, 3, 96, 96, 96), np.float32)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(len(ticks))

    ticker = threading.Thread(target=tick)
    ticker.start()
    out = np.empty_like(field)
    during = 0
    for _ in range(100):  # a busy machine may give the ticker no turn in one of them
        before = len(ticks)
        # One call into the extension: without releasing, nobody ticks inside it.
        _cpu.compose(96**3, field, field, 96, 96, 96, 1.0, out)
        during = max(during, len(ticks) - before)
        if during > 100:
            break
    stop.set()
    ticker.join()
    assert during > 100


CUDA_SOURCES = sorted((KERNELS / "cuda").glob("*.cu"))


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("wide", [False, True], ids=["32-bit", "64-bit"])
def test_cuda_kernels_fit_every_target(cuda_kernels, wide):
    # The wide build is rare and slow to compile: the oldest and the newest target stand for it.
    targets = resources.TARGETS[:: len(resources.TARGETS) - 1] if wide else resources.TARGETS
    usages = resources.read_usage(CUDA_SOURCES, KERNELS / "bodies", targets=targets, wide=wide)
    assert {(u.kernel, u.target) for u in usages} == set(product(cuda_kernels, targets))
    assert [usage for usage in usages if not usage.fits] == []


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
@pytest.mark.parametrize("wide", [False, True], ids=["32-bit", "64-bit"])
@pytest.mark.parametrize("arch", ["75", "120"])
def test_cuda_sources_compile_with_nvrtc(arch, wide):
    from cupy.cuda import nvrtc

    for path in CUDA_SOURCES:
        program = nvrtc.createProgram(path.read_text(), path.name, [], [])
        options = (*_machines.cuda_options(path, wide), f"-arch=compute_{arch}")
        nvrtc.compileProgram(program, options)
        code = nvrtc.getPTX(program)
        code = code if isinstance(code, bytes) else code.encode()
        for name, home in _machines.cuda_sources().items():
            entry = f".entry {name}{'_wide' if wide else ''}("
            assert (entry.encode() in code) == (home == path)


def test_the_cache_of_compiled_code_sees_the_bodies(tmp_path, monkeypatch):
    shutil.copytree(KERNELS / "bodies", tmp_path / "bodies")
    monkeypatch.setattr(_machines, "_FOLDER", tmp_path)
    _machines._bodies_digest.cache_clear()
    before = _machines._bodies_digest()
    with (tmp_path / "bodies/fields.cuh").open("a") as file:
        file.write("// changed")
    _machines._bodies_digest.cache_clear()
    assert _machines._bodies_digest() != before
    _machines._bodies_digest.cache_clear()


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_nothing_is_read_or_written_out_of_bounds_and_nothing_leaks(tmp_path):
    code, output = sanitized.run_tests(sanitized.build_extension(tmp_path))
    assert code == 0, output[-3000:]
    assert " passed" in output


def test_leaks_of_the_kernels_are_told_from_those_of_python():
    ours = "Direct leak of 8 byte(s)\n    #1 0x7f in segreg::warp(int) kernels/cpu/sampling.cpp:9"
    theirs = "Direct leak of 9 byte(s)\n    #1 0x7f in PyObject_New (/usr/bin/python3)"
    report = f"==7==ERROR: LeakSanitizer: detected memory leaks\n\n{theirs}\n\n{ours}\n\nSUMMARY"
    assert sanitized.kernel_leaks(report) == [ours]


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_cpu_sources_compile_for_one_target(tmp_path):
    """What arm64 and other compilers see: no clones per instruction set, no OpenMP."""
    includes = [f"-I{KERNELS / folder}" for folder in ("bodies", "cpu")]
    options = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    sources = sorted(map(str, (KERNELS / "cpu").glob("*.cpp")))
    # These need Python's headers.
    sources = [path for path in sources if not path.endswith(("module.cpp", "arrays.cpp"))]
    command = ["g++", *options, "-DSEGREG_ONE_TARGET", *includes, *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
