"""``--precision``, and what the packages say of the precisions they were proved in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segreg.engine.machine import processor_flags
from segreg.engine.precision import can_run

Segreg = Callable[..., Any]
VARIANTS = {
    "bfloat16": {
        "worst": 0.045, "percentile_99_9": 0.023, "dice_change": -0.0001,
        "speed": {"openvino": {"speed_up": 4.78, "capability": "amx_bf16"}},
    }
}


@pytest.fixture
def package(build_package: Callable[..., Path]) -> Path:
    return build_package(variants=VARIANTS)


@pytest.mark.parametrize("asked", ["auto", "float32", "bfloat16"])
def test_register(register: Segreg, package: Path, asked: str) -> None:
    pytest.importorskip("openvino")
    has = can_run("bfloat16", "openvino", processor_flags())
    ran = register("--json", "--no-report", package=package, backend="openvino", precision=asked)
    if asked == "bfloat16" and not has:
        assert ran.exit_code == 3
        return
    found = json.loads(ran.stdout)["provenance"]["precision"]
    assert found == ("bfloat16" if has and asked != "float32" else "float32")


def test_refused_with_the_mend(register: Segreg, package: Path) -> None:
    ran = register(package=package, precision="int8")
    assert ran.exit_code == 3
    assert "proved in float32, bfloat16 only" in ran.stderr
    assert "--precisions int8" in ran.stderr


def test_show(segreg: Segreg, package: Path, tiny_package: Path) -> None:
    shown = segreg("packages", "show", package).stdout
    (line,) = (line for line in shown.splitlines() if "4.8 in openvino" in line)
    for figure in ("bfloat16", "0.045", "0.023", "-0.0001", "amx_bf16"):
        assert figure in line
    assert "variants" not in shown
    assert "Proved in float32 alone." in segreg("packages", "show", tiny_package).stdout


def test_verify_lists_what_this_machine_runs(segreg: Segreg, package: Path) -> None:
    pytest.importorskip("openvino")
    ran = segreg("packages", "verify", package, "--json")
    assert ran.exit_code == 0, ran.stderr
    found = {(c["backend"], c["precision"]) for c in json.loads(ran.stdout)["backends"]}
    assert ("openvino", "float32") in found
    has = can_run("bfloat16", "openvino", processor_flags())
    assert (("openvino", "bfloat16") in found) is has
