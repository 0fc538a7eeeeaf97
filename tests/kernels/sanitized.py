"""The tests of the operations again, on builds that stop at the first wrong access.

``python -m tests.kernels.sanitized`` builds the extension and the emulated CUDA sources with
AddressSanitizer and UBSan, runs every test file of the operations on them, and fails on what
either finds and on memory that the kernels leak.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
SANITIZERS = "address,undefined,float-cast-overflow"
# Builds and compilers, no operations.
LEFT_OUT = "test_machines.py"


def build_extension(folder: Path) -> Path:
    """The CPU module, as setup.py builds it, with the sanitizers."""
    flags = f"-fsanitize={SANITIZERS} -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1"
    # setuptools has taken the flags of C++ from either.
    names = dict.fromkeys(("CFLAGS", "CXXFLAGS"), flags)
    environment = {**os.environ, **names, "LDFLAGS": f"-fsanitize={SANITIZERS}"}
    command = [sys.executable, "setup.py", "-q", "build_ext", f"-j{os.cpu_count()}"]
    command += ["--build-lib", str(folder), "--build-temp", str(folder / "objects")]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"setup.py build_ext ended with {done.returncode}:\n{done.stderr}")
    (extension,) = (path for path in folder.rglob("_cpu.*") if "objects" not in path.parts)
    if b"__asan_report" not in extension.read_bytes():
        raise RuntimeError(f"{extension.name}: expected a build with AddressSanitizer, got none.")
    return extension


def run_tests(extension: Path) -> tuple[int, str]:
    """Exit code and output of the tests: 0 if they pass and the kernels leak nothing."""
    environment = {
        **os.environ,
        "SEGREG_SANITIZE": SANITIZERS,
        "SEGREG_EXTENSION": str(extension),
        # The second, so that the first finds what throws C++ exceptions.
        "LD_PRELOAD": f"{_library('libasan.so')} {_library('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=1",
    }
    files = sorted(str(p) for p in FOLDER.glob("test_*.py") if p.name != LEFT_OUT)
    # The sanitizers write to the file descriptor that pytest would otherwise capture.
    options = ["-qx", "--capture=sys", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    # Python itself never frees everything, so the exit code says nothing: the last line does, and
    # it comes after the tests and before the search for leaks.
    passed = re.search(r"^\d+ passed(, \d+ skipped)? in ", done.stdout, re.MULTILINE)
    leaks = kernel_leaks(done.stderr)
    output = "\n".join([done.stdout, *(leaks if passed else [done.stderr])])
    return int(not passed or bool(leaks)), output


def _library(name: str) -> str:
    command = ["g++", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def kernel_leaks(report: str) -> list[str]:
    """LeakSanitizer's leaks with one of our functions on the stack."""
    ours = re.compile(r"\bsegreg::|/?kernels/(bodies|cpu|cuda)/|/_cpu\.|/kernels\.so")
    blocks = [block for block in report.split("\n\n") if " leak of " in block]
    return [block for block in blocks if ours.search(block)]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        code, output = run_tests(build_extension(Path(folder)))
    print(output)
    return code


if __name__ == "__main__":
    sys.exit(main())
