from __future__ import annotations

import platform
import runpy
import sys
from pathlib import Path

import numpy
from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

# What a model package consists of; recipes stay in the repository.
PACKAGE_FILES = ["configs/*", "docs/*", "models/*", "LICENSE", "SHA256SUMS"]


def compile_flags() -> list[str]:
    """Flags of the compiler at hand; no -march=native, so that a wheel runs on any processor."""
    if sys.platform == "win32":
        return ["/O2", "/openmp"]
    maths = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
    # Python's own flags hold -fwrapv: indices that may wrap are gathered in 64 bits, half as fast.
    maths.append("-fno-wrapv")
    if platform.machine() in ("x86_64", "AMD64"):
        # Tuning only, no instructions: without it GCC avoids the gathers that sampling lives on.
        maths.append("-mtune=haswell")
    # Apple's clang has no OpenMP runtime: loops are vectorised there and run on one thread.
    return maths if sys.platform == "darwin" else [*maths, "-fopenmp"]


def files(folder: str, pattern: str) -> list[str]:
    return sorted(path.as_posix() for path in Path(folder).glob(pattern))


cpu_kernels = Pybind11Extension(
    "segreg.kernels._cpu",
    sources=files("kernels/cpu", "*.cpp"),
    depends=files("kernels/cpu", "*.hpp") + files("kernels/bodies", "*.cuh"),
    include_dirs=["kernels/bodies", "kernels/cpu", numpy.get_include()],
    cxx_std=17,
    extra_compile_args=compile_flags(),
    extra_link_args=["-fopenmp"] if sys.platform.startswith("linux") else [],
)

setup(
    version=runpy.run_path("engine/version.py")["__version__"],
    packages=[
        "segreg",
        "segreg.cli",
        "segreg.engine",
        "segreg.engine.backends",
        "segreg.engine.placements",
        "segreg.export",
        "segreg.kernels",
        "segreg.kernels.reference",
        "segreg.models",
    ],
    # The top folders form one namespace, so that nothing generic lands in site-packages.
    package_dir={
        "": "src",
        "segreg.engine": "engine",
        "segreg.export": "export",
        "segreg.kernels": "kernels",
        "segreg.models": "models",
    },
    include_package_data=False,
    package_data={
        "segreg": ["py.typed"],
        "segreg.engine": ["schema/*.json", "templates/*"],
        "segreg.export": ["schema/*.json"],
        "segreg.kernels": ["bodies/*.cuh", "cuda/*.cu", "*.pyi"],
        "segreg.models": [
            f"{name}/{part}" for name in ("cardiac", "shapes") for part in PACKAGE_FILES
        ],
    },
    ext_modules=[cpu_kernels],
)
