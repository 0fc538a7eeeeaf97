"""Small records of every kind, as the commands write them."""

from __future__ import annotations

from typing import Any

from benchmarks.latency import fit_growth, summarise_case
from benchmarks.samples import summarise
from segreg.engine import timing

STAGES = tuple(stage for stage in timing.STAGES if stage != "write")


def head(kind: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "kind": kind,
        "time": "2030-01-02T03:04:05+00:00",
        "commit": "0123456789" * 4,
        "dirty": False,
        "command": f"python -m benchmarks {kind}",
        "machine": {"cpu": "A processor", "features": ["avx2"], "cores": 2, "gpu": None},
        "versions": {"python": "3.11.1"},
    }


def answer(regions: int, side: int, ms: float, *, infer: float = 0.8, repeats: int = 3) -> Any:
    """What a fresh process says whose compute takes ``ms``, the share ``infer`` in the network."""

    def request(factor: float) -> dict[str, float]:
        rest = (1 - infer) / (len(STAGES) - 2)
        times = {s: factor * ms * (infer if s == "infer" else rest) for s in STAGES if s != "read"}
        return {
            "read": 10.0, **times, "write": 20.0,
            "compute": factor * ms, "total": factor * ms + 30,
        }  # fmt: skip

    return {
        "cold": {"import": 100.0, "package": 40.0, "network": 160.0, **request(2.0)},
        "warm": [request(1 + 0.01 * n) for n in range(repeats)],
        "wall": repeats * (ms + 30),
        "peak_mib": 100.0 + side,
        "regions": regions,
        "shape": [side, side, side],
        "backend": {"name": "openvino", "precision": "bfloat16"},
        "package": {"name": "tiny", "digest": "abc"},
    }


def latency_record() -> dict[str, Any]:
    brain = answer(43, 160, 1000)
    for row in brain["warm"]:
        row["report"] = 500.0
    cases = [summarise_case("latency/brain", 1, brain)]
    cases.append(summarise_case("latency/brain/refined", 1, answer(43, 160, 4000, infer=0.2)))
    cases.append(summarise_case("latency/brain/float32", 1, answer(43, 160, 3000, infer=0.9)))
    cases += [summarise_case(f"latency/regions/{k}", 1, answer(k, 96, 100 * k)) for k in (1, 2, 4)]
    cases += [
        summarise_case(f"latency/voxels/{n}", 1, answer(8, n, n**1.5)) for n in (64, 128, 256)
    ]
    cases += [summarise_case(f"latency/clients/{n}", n, answer(8, 96, 300)) for n in (1, 2)]
    context = {name: brain[name] for name in ("backend", "package")}
    return {
        **head("latency"), **context, "bars": [], "left_out": [],
        "growth": fit_growth(cases), "cases": cases,
    }  # fmt: skip


def kernel_case(name: str, ms: float, gb_per_s: float) -> dict[str, Any]:
    samples = summarise([ms, 1.02 * ms, 0.98 * ms])
    return {
        "id": f"kernels/{name}",
        "unit": "ms",
        "correct": True,
        "max_abs_err": 1e-5,
        **samples,
        "gb_per_s": gb_per_s,
        "share_of_copy": gb_per_s / 20,
        "copy": {"gb_per_s": 20.0},
        "outside": [{"name": "numpy", **summarise([5 * ms]), "times_faster": 5.0}],
        "left_out": [],
    }


def peers_record() -> dict[str, Any]:
    def case(tool: str, dataset: str, dice: float | None, seconds: float) -> dict[str, Any]:
        figures = {} if dice is None else {"dice": dice, "unit": "s", **summarise([seconds])}
        return {
            "id": f"peers/{dataset}/{tool}", "dataset": dataset, "tool": tool, "name": tool.title(),
            "driven_by": "labels", "correct": dice is not None, **figures,
        }  # fmt: skip

    cases = [
        case("segreg", "brain", 0.82, 2.5), case("other", "brain", 0.71, 61.04),
        case("segreg", "lung lobes", 0.98, 0.6), case("other", "lung lobes", None, 0),
    ]  # fmt: skip
    return {**head("peers"), "threads": 2, "limit_s": 900.0, "cases": cases}


def gpu_record() -> dict[str, Any]:
    def case(name: str, ms: float, gb_per_s: float) -> dict[str, Any]:
        figures = {"unit": "ms", **summarise([ms] * 3), "gb_per_s": gb_per_s}
        return {"id": f"gpu/{name}", "correct": True, "shape": [256, 256, 256], **figures}

    copy = case("copy", 0.5, 4000.0)
    del copy["shape"]
    tests = {"id": "gpu/tests/plain", "correct": True}
    record = {**head("gpu"), "cases": [copy, case("warp/linear", 0.1, 3000.0), tests]}
    record["machine"]["gpu"] = "Fast One"
    return record


def kernels_record() -> dict[str, Any]:
    wrong = {"id": "kernels/broken", "correct": False, "max_abs_err": 1.0, "outside": []}
    threads = {"id": "kernels/warp/linear/threads/1", "correct": True, "unit": "ms"}
    return {
        **head("kernels"),
        "shape": [160, 192, 224],
        "threads": 2,
        "bars": [],
        "cases": [
            kernel_case("warp/linear", 40.0, 5.0),
            {**threads, **summarise([80.0])},
            wrong,
            kernel_case("jacobian_determinant", 20.0, 10.0),
        ],
    }
