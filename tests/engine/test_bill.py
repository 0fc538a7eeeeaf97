"""The bill of materials is valid CycloneDX and lists what is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segreg.engine.bill import make_bill
from segreg.engine.errors import PackageError
from segreg.engine.package import (
    Package,
    load_package,
    read_checksums,
    shipped_packages,
    write_checksums,
)
from tests.conftest import SEGMENTATION


@pytest.mark.parametrize("name", ["shapes", "tiny"])
def test_is_valid(name: str, tiny_package: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    folder = tiny_package if name == "tiny" else shipped_packages()[name]
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(make_bill(load_package(folder)))) is None


def test_lists_every_file_and_tool() -> None:
    package = load_package(shipped_packages()["shapes"])
    bill = make_bill(package)
    files = {part["name"]: part["hashes"][0]["content"] for part in bill["components"]}
    assert files == read_checksums(package.folder)
    tools = {part["name"]: part["version"] for part in bill["formulation"][0]["components"]}
    assert tools["torch"].startswith("2.")
    subject = bill["metadata"]["component"]
    assert subject["name"] == "shapes"
    assert subject["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    assert subject["hashes"][0]["content"] == package.digest


def test_same_package_same_number(tiny_package: Path) -> None:
    package = load_package(tiny_package)
    numbers = {make_bill(package)["serialNumber"] for _ in range(2)}
    numbers.add(make_bill(load_package(shipped_packages()["shapes"]))["serialNumber"])
    assert len(numbers) == 2


@pytest.mark.parametrize(("content", "sentence"), [("{", "could not parse"), ("[]", "got list")])
def test_damaged_proof(tiny_package: Path, tmp_path: Path, content: str, sentence: str) -> None:
    folder = tmp_path / "package"
    shutil.copytree(tiny_package, folder)
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs/parity.json").write_text(content)
    write_checksums(folder)
    with pytest.raises(PackageError, match=rf"expected .* in docs/parity\.json, .*{sentence}"):
        make_bill(load_package(folder))


def test_package_that_only_segments(tiny_package: Path) -> None:
    whole = load_package(tiny_package)
    metadata = {**whole.metadata, "segreg": {"schema": 1, "segmentation": SEGMENTATION}}
    model = make_bill(Package(whole.folder, metadata, ""))["metadata"]["component"]["modelCard"]
    assert model["modelParameters"]["inputs"] == [{"format": "image"}]
