"""Weights come in several files and forms; what is damaged, wrong or dangerous is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from segreg.engine.errors import PackageError
from segreg.export import load_network

NETWORK = "tests.export.conftest:SmallNetwork"


def same(network: Any, material: Any) -> bool:
    expected = material.network.state_dict()
    return all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def saved(content: Any, folder: Path, name: str = "weights.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


class TestForms:
    def test_state_dict(self, material: Any) -> None:
        network = load_network(NETWORK, material.weights)
        assert not network.training
        assert same(network, material)

    def test_safetensors(self, material: Any, tmp_path: Path) -> None:
        safetensors = pytest.importorskip("safetensors.torch")
        path = tmp_path / "weights.safetensors"
        safetensors.save_file(material.network.state_dict(), path)
        assert same(load_network(NETWORK, path), material)

    def test_checkpoint(self, material: Any, tmp_path: Path) -> None:
        state = material.network.state_dict()
        optimizer = torch.optim.Adam(material.network.parameters()).state_dict()
        path = saved({"step": 7, "optimizer": optimizer, "model": state}, tmp_path, "weights.pth")
        assert same(load_network(NETWORK, path), material)
        assert same(load_network(NETWORK, path, key="model"), material)

    @pytest.mark.parametrize("counter", [{}, {"n_averaged": torch.tensor(3)}])
    def test_wrapped(self, material: Any, tmp_path: Path, counter: Any) -> None:
        state = {f"module.{k}": v for k, v in material.network.state_dict().items()} | counter
        assert same(load_network(NETWORK, saved(state, tmp_path)), material)
        assert same(load_network(NETWORK, saved({"ema": state}, tmp_path)), material)

    def test_two_that_fit(self, material: Any, tmp_path: Path) -> None:
        state = material.network.state_dict()
        zeros = {k: torch.zeros_like(v) for k, v in state.items()}
        path = saved({"last": zeros, "average": state}, tmp_path)
        with pytest.raises(PackageError, match="last and average fit; --weights-key says"):
            load_network(NETWORK, path)
        assert same(load_network(NETWORK, path, key="average"), material)

    def test_arguments_of_the_class(self, tmp_path: Path) -> None:
        reference = "models.shapes.network:RegionNetwork"
        from models.shapes.network import RegionNetwork

        path = saved(RegionNetwork((4, 6, 8, 8)).state_dict(), tmp_path)
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"channels": [4, 6, 8, 8]}))
        assert load_network(reference, path, config=config).velocity.in_channels == 4
        with pytest.raises(PackageError, match=r"of another shape .*belong to different networks"):
            load_network(reference, path)


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


class TestRefusals:
    @pytest.mark.parametrize("protocol", [0, 2, 4, 5, None])
    def test_pickle_with_code_is_not_run(self, tmp_path: Path, protocol: int | None) -> None:
        weights, marker = tmp_path / "evil.pt", tmp_path / "ran"
        if protocol is not None:
            content = {"velocity": Malicious(marker)}
            weights.write_bytes(pickle.dumps(content, protocol=protocol))
        else:
            torch.save({"velocity": Malicious(marker)}, weights)
        with pytest.raises(PackageError, match=r"evil\.pt: .*would have to run code .*torch\.save"):
            load_network(NETWORK, weights)
        assert not marker.exists()

    def test_whole_network(self, material: Any, tmp_path: Path) -> None:
        with pytest.raises(PackageError, match=r"would have to run code"):
            load_network(NETWORK, saved(material.network, tmp_path))

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
    @pytest.mark.parametrize("form", ["pt", "safetensors"])
    def test_truncated(self, material: Any, tmp_path: Path, share: float, form: str) -> None:
        whole = material.weights
        if form == "safetensors":
            safetensors = pytest.importorskip("safetensors.torch")
            whole = tmp_path / "whole.safetensors"
            safetensors.save_file(material.network.state_dict(), whole)
        content = whole.read_bytes()
        cut = tmp_path / f"cut.{form}"
        cut.write_bytes(content[: int(share * len(content))])
        with pytest.raises(PackageError, match=rf"cut\.{form}: truncated or damaged .*again"):
            load_network(NETWORK, cut)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"{}", b"text", bytes(99)])
    @pytest.mark.parametrize("name", ["cut.pt", "cut.safetensors"])
    def test_damaged(self, tmp_path: Path, content: bytes, name: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PackageError, match=r"cut\.\w+: truncated or damaged"):
            load_network(NETWORK, tmp_path / name)

    @pytest.mark.parametrize(
        ("state", "sentence"),
        [
            ({}, "a checkpoint with no entries"),
            ([1, 2], "got list"),
            ({"unknown": torch.zeros(1)}, r"missing \(stem.*1 unknown \(unknown\)"),
            ({"step": 3}, "a checkpoint with step, of which none fit"),
        ],
    )
    def test_not_this_network(self, tmp_path: Path, state: Any, sentence: str) -> None:
        with pytest.raises(PackageError, match=rf"weights\.pt: .*{sentence}"):
            load_network(NETWORK, saved(state, tmp_path))

    def test_key_that_is_not_there(self, material: Any, tmp_path: Path) -> None:
        path = saved({"model": material.network.state_dict(), "step": 1}, tmp_path)
        for key in ("ema", "step"):
            with pytest.raises(PackageError, match=f"under '{key}'; there are model, step"):
                load_network(NETWORK, path, key=key)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_not_finite(self, material: Any, tmp_path: Path, value: float) -> None:
        state = {name: tensor.clone() for name, tensor in material.network.state_dict().items()}
        state["velocity.bias"][1] = value
        with pytest.raises(PackageError, match=r"NaN or infinite weights in velocity\.bias; .*be"):
            load_network(NETWORK, saved(state, tmp_path))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(PackageError, match=r"no file nowhere\.pt"):
            load_network(NETWORK, tmp_path / "nowhere.pt")

    @pytest.mark.parametrize(
        "reference", ["nowhere:Network", "json:Nothing", "json", "", "json:loads", ":Network"]
    )
    def test_no_such_network(self, material: Any, reference: str) -> None:
        with pytest.raises(PackageError, match="network: expected module:Class"):
            load_network(reference, material.weights)

    @pytest.mark.parametrize("code", ["def broken(:", "raise RuntimeError('by itself')"])
    def test_module_that_fails(
        self, material: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
    ) -> None:
        (tmp_path / "failing_module.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(PackageError, match=r"can import here, .* \((Syntax|Runtime)Error: "):
            load_network("failing_module:Network", material.weights)

    @pytest.mark.parametrize(
        ("config", "sentence"),
        [
            ("{", "cannot be read as JSON"),
            ("[]", "expected a JSON object of keyword arguments in config.json, got list"),
            ('{"surprise": 1}', r"cannot be made from the arguments \['surprise'\]"),
        ],
    )
    def test_config(self, material: Any, tmp_path: Path, config: str, sentence: str) -> None:
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(PackageError, match=sentence):
            load_network(NETWORK, material.weights, config=tmp_path / "config.json")
