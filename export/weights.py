"""A network class and a weights file become a network; no file is ever run as code."""

from __future__ import annotations

import importlib
import json
import pickle
import pickletools
import warnings
from pathlib import Path
from typing import Any

import torch

from segreg.engine.errors import PackageError

State = dict[str, torch.Tensor]
PARALLEL = "module."  # what DataParallel and AveragedModel put before every key
LISTED = 3  # names listed of each kind of fault
LEAST_SAID = 8  # letters; shorter reasons, such as a key, say less than the kind of error


def load_network(
    reference: str, weights: Path, *, config: Path | None = None, key: str | None = None
) -> torch.nn.Module:
    """Network ``module:Class`` with the weights of a file, ready for inference.

    Parameters
    ----------
    weights : ``.safetensors``, or what ``torch.save`` wrote: a state dict or a checkpoint that
        holds one.
    config : JSON with the keyword arguments of the class.
    key : where in a checkpoint the state dict is; None finds it where only one fits.

    Raises
    ------
    PackageError : no such class, a file that would have to run code, is damaged, does not fit the
        network, or holds NaN.
    """
    network = make_network(reference, config)
    content = _read(weights)
    state = _find_state(content, network.state_dict(), key, weights.name)
    _check_fit(state, network.state_dict(), weights.name)
    _check_finite(state, weights.name)
    network.load_state_dict(state)
    return network.eval()


def make_network(reference: str, config: Path | None = None) -> torch.nn.Module:
    """A network of class ``module:Class`` with the keyword arguments in ``config``."""
    module, _, name = reference.partition(":")
    arguments = _read_config(config)
    try:
        kind = getattr(importlib.import_module(module), name)
    except Exception as error:  # the network's own code
        raise PackageError(
            f"network: expected module:Class that Python can import here, got {reference!r} "
            f"({type(error).__name__}: {error})."
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
        raise PackageError(f"network: expected module:Class, a torch Module, got {reference!r}.")
    try:
        network: torch.nn.Module = kind(**arguments)
    except Exception as error:  # the network's own code
        raise PackageError(
            f"network: {reference} cannot be made from the arguments {sorted(arguments)} "
            f"({type(error).__name__}: {error}). --config takes a JSON file of its arguments."
        ) from error
    return network


def _read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        arguments = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PackageError(f"config: {path.name} cannot be read as JSON ({error}).") from error
    if not isinstance(arguments, dict):
        raise PackageError(
            f"config: expected a JSON object of keyword arguments in {path.name}, "
            f"got {type(arguments).__name__}."
        )
    return arguments


def _read(path: Path) -> Any:
    if not path.is_file():
        raise PackageError(f"weights: no file {path.name}; expected .pt, .pth or .safetensors.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not (_is_archive(path) or _is_pickle(path)):
            raise PackageError(_damaged(path, error)) from error
        raise PackageError(
            f"{path.name}: expected a plain state dict; this file would have to run code to be "
            "read, which is refused. Save it with torch.save(network.state_dict(), path)."
        ) from error
    except Exception as error:  # torch raises whatever the damage leads to
        if "TorchScript" in str(error):
            raise PackageError(
                f"{path.name}: a TorchScript archive is code, not weights, and is not loaded. "
                "Save network.state_dict() instead."
            ) from error
        raise PackageError(_damaged(path, error)) from error


def _is_archive(path: Path) -> bool:
    """Whether it begins as what ``torch.save`` writes."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def _is_pickle(path: Path) -> bool:
    """Whether it is a whole pickle of any protocol; its instructions are read, not followed."""
    try:
        with path.open("rb") as file:
            return sum(1 for _ in pickletools.genops(file)) > 0
    except ValueError:
        return False


def _read_safetensors(path: Path) -> State:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise PackageError(
            f"{path.name}: reading it needs safetensors; pip install 'segreg[export]' brings it."
        ) from error
    try:
        state: State = load_file(path)
    except SafetensorError as error:
        raise PackageError(_damaged(path, error)) from error
    return state


def _damaged(path: Path, error: BaseException) -> str:
    said = str(error).strip().partition("\n")[0].partition(". ")[0]
    reason = said if len(said) > LEAST_SAID else type(error).__name__
    return f"{path.name}: truncated or damaged ({reason[:160]}); copy or save it again."


def _find_state(content: Any, wanted: State, key: str | None, name: str) -> State:
    """The state dict in ``content``: itself, or one entry of a checkpoint."""
    if not isinstance(content, dict):
        raise PackageError(
            f"{name}: expected a state dict, or a checkpoint that holds one, "
            f"got {type(content).__name__}."
        )
    if key is not None:
        state = _plain(content.get(key))
        if state is None:
            raise PackageError(
                f"{name}: expected a state dict under {key!r}; there are "
                f"{', '.join(map(str, content)) or 'no entries'}."
            )
        return state
    if (whole := _plain(content)) is not None:
        return whole
    candidates = {k: s for k, v in content.items() if (s := _plain(v)) is not None}
    fitting = [k for k, state in candidates.items() if _fits(state, wanted)]
    if len(fitting) == 1:
        return candidates[fitting[0]]
    if len(candidates) == 1:  # says better what does not fit than a list of keys
        return next(iter(candidates.values()))
    raise PackageError(
        f"{name}: expected one state dict that fits the network, got a checkpoint with "
        f"{', '.join(map(str, content)) or 'no entries'}, of which "
        f"{' and '.join(map(str, fitting)) or 'none'} fit; --weights-key says which to take."
    )


def _plain(value: Any) -> State | None:
    """``value`` as a state dict without a wrapper's prefix; None if it is none."""
    if not isinstance(value, dict) or not value:
        return None
    tensors = {k: v for k, v in value.items() if isinstance(k, str)}
    if len(tensors) != len(value) or not all(isinstance(v, torch.Tensor) for v in value.values()):
        return None
    own = {k: v for k, v in tensors.items() if k != "n_averaged"}  # AveragedModel's counter
    if own and all(k.startswith(PARALLEL) for k in own):
        return {k.removeprefix(PARALLEL): v for k, v in own.items()}
    return tensors


def _fits(state: State, wanted: State) -> bool:
    return state.keys() == wanted.keys() and all(
        state[k].shape == wanted[k].shape for k in wanted
    )


def _check_fit(state: State, wanted: State, name: str) -> None:
    shapes = [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(wanted[k].shape)}"
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    faults = [
        ("missing", [k for k in wanted if k not in state]),
        ("unknown", [k for k in state if k not in wanted]),
        ("of another shape", shapes),
    ]
    said = [
        f"{len(found)} {kind} ({', '.join(found[:LISTED])}{', ...' if len(found) > LISTED else ''})"
        for kind, found in faults
        if found
    ]
    if said:
        raise PackageError(
            f"{name}: its entries do not fit the network: {'; '.join(said)}. Weights and class, "
            "or the arguments in --config, belong to different networks."
        )


def _check_finite(state: State, name: str) -> None:
    bad = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if bad:
        raise PackageError(
            f"{name}: NaN or infinite weights in {', '.join(bad[:LISTED])}"
            f"{', ...' if len(bad) > LISTED else ''}; the training diverged. "
            "Take a checkpoint from before."
        )
