"""``segreg packages``, ``segreg doctor`` and ``segreg demo``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segreg.cli.commands import app
from segreg.engine import backends, machine, package, scores, verification
from segreg.engine.field import Field
from segreg.engine.package import shipped_packages
from segreg.engine.phantom import endpoint_error, make_phantom

Segreg = Callable[..., Any]


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tiny_package: Path, own_package: Path) -> None:
    """As if a whole package ``tiny`` and a damaged one ``own`` came with segreg."""
    (own_package / "LICENSE").write_text("altered")
    folders = {"tiny": tiny_package, "own": own_package}
    monkeypatch.setattr(package, "shipped_packages", lambda: folders)


@pytest.mark.usefixtures("shipped")
def test_list_tells_damaged_packages(segreg: Segreg) -> None:
    ran = segreg("packages", "list")
    assert ran.exit_code == 0
    assert "tiny" in ran.stdout
    assert "damaged" in ran.stdout
    rows = json.loads(segreg("packages", "list", "--json").stdout)
    assert rows[0]["license"] == "Apache-2.0"
    assert "checksum of LICENSE" in rows[1]["fault"]


def test_list_of_nothing(segreg: Segreg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "shipped_packages", dict)
    assert "No package" in segreg("packages", "list").stdout
    assert json.loads(segreg("packages", "list", "--json").stdout) == []


@pytest.mark.parametrize("zipped", [False, True])
def test_show_and_verify(segreg: Segreg, tiny_package: Path, tmp_path: Path, zipped: bool) -> None:
    path = tiny_package
    if zipped:
        path = Path(shutil.make_archive(str(tmp_path / "tiny"), "zip", tiny_package))
    ran = segreg("packages", "show", path)
    assert ran.exit_code == 0, ran.stderr
    assert "segreg.output.kind" in ran.stdout
    assert json.loads(segreg("packages", "show", path, "--json").stdout)["name"] == "tiny"
    ran = segreg("packages", "verify", path)
    assert ran.exit_code == 0
    assert ran.stdout.startswith("tiny ")


def test_verify_of_a_damaged_package(segreg: Segreg, own_package: Path) -> None:
    (own_package / "LICENSE").write_text("altered")
    ran = segreg("packages", "verify", own_package)
    assert ran.exit_code == 4
    assert "checksum of LICENSE does not hold" in ran.stderr


def test_doctor(segreg: Segreg) -> None:
    ran = segreg("doctor", "--json")
    assert ran.exit_code == 0
    found = json.loads(ran.stdout)
    assert found["machine"]["threads"] >= 1
    assert {backend["name"] for backend in found["backends"]} == set(backends.REGISTRY)
    for backend in found["backends"]:
        assert backend["usable"] == (backend["reason"] is None)
        assert backend["version"] or not backend["usable"]
    table = segreg("doctor").stdout
    assert found["machine"]["cpu"] in table
    assert "backend onnxruntime" in table


def test_doctor_says_what_stands_in_the_way(
    segreg: Segreg, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        backends.Availability("tensorrt", "11.2.1", "CuPy finds no GPU"),
        backends.Availability("openvino", "2026.4.1", None),
    ]
    monkeypatch.setattr(backends, "availability", lambda: found)
    monkeypatch.setattr(machine, "find_spec", lambda library: None)
    ran = segreg("doctor")
    assert ran.exit_code == 0
    assert "11.2.1, but CuPy finds no GPU" in ran.stdout
    assert "CuPy is not installed" in ran.stdout


def test_doctor_without_a_backend(segreg: Segreg, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [backends.Availability("openvino", None, "backend openvino: not installed")]
    monkeypatch.setattr(backends, "availability", lambda: missing)
    ran = segreg("doctor")
    assert ran.exit_code == 3
    assert "not installed" in ran.stdout


def test_machine_reads_what_linux_tells(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 amx_tile\n\n"
        "processor\t: 1\nmodel name\t: Other CPU\nflags\t\t: fpu\n"
    )
    assert machine._read_cpuinfo(cpuinfo) == ("Some CPU", {"fpu", "avx2", "amx_tile"})
    assert machine._read_cpuinfo(tmp_path / "missing") == (None, None)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       2097152 kB\nHugePages_Total:       0\n")
    assert machine._read_meminfo(meminfo)["MemTotal"] == 2.0


def test_gpu_is_described_by_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Some GPU, 81559 MiB, 590.48, 9.0'\n")
    tool.chmod(0o755)
    monkeypatch.setattr(machine.shutil, "which", lambda _: str(tool))
    described = machine.describe_machine()
    assert described.gpus == ("Some GPU, 81559 MiB, 590.48, 9.0",)
    assert described.gpu_reason is None
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert "does not answer" in str(machine.describe_machine().gpu_reason)


def test_demo_with_the_tiny_package(segreg: Segreg, tiny_package: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    ran = segreg("demo", "-o", out, "--package", tiny_package)
    assert ran.exit_code == 0, ran.stderr
    assert "Distance from the known field" in ran.stdout
    assert f"Report: {out / 'report.html'}" in ran.stdout
    truth = Field.read(out / "pair/true_displacement.nii.gz")
    assert endpoint_error(truth, make_phantom()).mean_mm < 1e-3
    assert (out / "report.html").stat().st_size > 10_000


def test_demo_leaves_nothing_when_it_fails(segreg: Segreg, tmp_path: Path) -> None:
    ran = segreg("demo", "-o", tmp_path / "demo", "--package", "nowhere")
    assert ran.exit_code == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    "shapes" not in shipped_packages(), reason="the package shapes is not built here"
)
def test_demo_recovers_the_known_field(segreg: Segreg, tmp_path: Path) -> None:
    ran = segreg("demo", "-o", tmp_path / "demo", "--json")
    assert ran.exit_code == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["endpoint_error"]["mean_voxels"] < 1
    assert found["quality"]["dice"] > 0.95


class TestTrust:
    @pytest.fixture
    def key(self, tmp_path: Path) -> Path:
        """``key.pem`` and ``key.ring`` beside it."""
        from tests.engine.test_signature import write_key

        return write_key(tmp_path, "key")

    def test_sign_verify_register(
        self, segreg: Segreg, register: Segreg, own_package: Path, key: Path
    ) -> None:
        ring = key.with_suffix(".ring")
        asked = ("--require-signature", ring)
        for refused in (
            segreg("packages", "verify", own_package, *asked),
            register(*asked, package=own_package),
        ):
            assert refused.exit_code == 4
            assert "no SIGNATURE" in refused.stderr
        ran = segreg("packages", "sign", own_package, "--key", key)
        assert ran.exit_code == 0, ran.stderr
        assert "signed with key" in ran.stdout
        assert segreg("packages", "verify", own_package, *asked).exit_code == 0
        assert register("--quiet", *asked, package=own_package).exit_code in (0, 1)
        (own_package / "SIGNATURE").write_text("ed25519 0 AAAA")
        assert segreg("packages", "verify", own_package, *asked).exit_code == 4

    def test_password_is_asked(self, segreg: Segreg, own_package: Path, tmp_path: Path) -> None:
        from tests.engine.test_signature import write_key

        key = write_key(tmp_path, "locked", password=b"secret")
        ran = CliRunner().invoke(
            app, ["packages", "sign", str(own_package), "--key", str(key)], input="secret\n"
        )
        assert ran.exit_code == 0, ran.stderr
        assert "secret" not in ran.stdout

    def test_bill(self, segreg: Segreg, tiny_package: Path, tmp_path: Path) -> None:
        ran = segreg("packages", "sbom", tiny_package)
        assert json.loads(ran.stdout)["bomFormat"] == "CycloneDX"
        path = tmp_path / "bill.json"
        assert segreg("packages", "sbom", tiny_package, "-o", path).exit_code == 0
        assert json.loads(path.read_text())["metadata"]["component"]["name"] == "tiny"
        ran = segreg("packages", "sbom", tiny_package, "-o", tmp_path / "nowhere" / "bill.json")
        assert ran.exit_code == 2
        assert "cannot be written" in ran.stderr

    def test_backends_on_this_machine(self, segreg: Segreg, tiny_package: Path) -> None:
        ran = segreg("packages", "verify", tiny_package, "--json")
        assert ran.exit_code == 0, ran.stderr
        report = json.loads(ran.stdout)
        assert all(check["sound"] for check in report["backends"])
        assert report["notes"] == []
        table = segreg("packages", "verify", tiny_package).stdout
        for check in report["backends"]:
            assert check["backend"] in table

    def test_backend_that_computes_something_else(
        self, segreg: Segreg, tiny_package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        apart = verification.Difference(1.0, 0.3, 0.2)
        wrong = verification.BackendCheck("wrong", "1", "bfloat16", apart, 0.1)
        monkeypatch.setattr(verification, "check_backends", lambda package: [wrong])
        ran = segreg("packages", "verify", tiny_package)
        assert ran.exit_code == 4
        assert "wrong in bfloat16 computes something else than onnxruntime" in ran.stderr

    def test_segmentation_on_this_machine(
        self, segreg: Segreg, segmenting_package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report = json.loads(segreg("packages", "verify", segmenting_package, "--json").stdout)
        assert [check["backend"] for check in report["segmentation"] if check["sound"]]
        assert "by their spread" in segreg("packages", "verify", segmenting_package).stdout
        wrong = scores.ScoreCheck("other", "1", "float32", 0.3, 0.1, 0.2, 0.001, 0.005)
        monkeypatch.setattr(scores, "check_segmentation", lambda package: [wrong])
        ran = segreg("packages", "verify", segmenting_package)
        assert ran.exit_code == 4
        assert "other in float32 computes something else than onnxruntime" in ran.stderr

    def test_failed_parity_is_said(
        self, register: Segreg, segreg: Segreg, build_package: Callable[..., Path]
    ) -> None:
        package = build_package(parity="failed")
        for ran in (segreg("packages", "verify", package), register(package=package)):
            assert "Note: package tiny 0.1.0 was exported although" in ran.stderr
