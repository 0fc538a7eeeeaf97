"""What the libraries of networks offer: torch and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.outside.base import Arguments, Array, Run


def _torch(threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    return torch


def _identity_grid(shape: tuple[int, ...]) -> Array:
    """(1, D, H, W, 3) in the -1..1 of ``grid_sample``, components x, y, z."""
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1)[None].astype(np.float32)


def _to_grid(shape: tuple[int, ...]) -> Array:
    """Voxels -> units of ``grid_sample``, (z, y, x)."""
    return np.array([2 / max(n - 1, 1) for n in shape], np.float32)


def _sampling_grid(displacement: Array) -> Array:
    """The grid that ``grid_sample`` takes to look where the kernel looks."""
    shape = displacement.shape[2:]
    scaled = displacement[0] * _to_grid(shape).reshape(3, 1, 1, 1)
    moved = _identity_grid(shape) + np.moveaxis(scaled[::-1], 0, -1)[None]
    return np.ascontiguousarray(moved)


def torch_warp(arguments: Arguments, threads: int) -> Run:
    torch = _torch(threads)
    moving = torch.tensor(arguments["moving"])
    grid = torch.tensor(_sampling_grid(arguments["displacement"]))

    def run() -> Array:
        sample = torch.nn.functional.grid_sample(moving, grid, align_corners=True)
        return np.asarray(sample.numpy())

    return run


def onnxruntime_warp(arguments: Arguments, threads: int) -> Run:
    import onnxruntime
    from onnx import TensorProto, helper

    names = ("X", "grid", "Y")
    ranks = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 5)
             for name in names}  # fmt: skip
    node = helper.make_node("GridSample", names[:2], names[2:], mode="linear", align_corners=1)
    graph = helper.make_graph([node], "warp", [ranks["X"], ranks["grid"]], [ranks["Y"]])
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # ours comes next
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"X": arguments["moving"], "grid": _sampling_grid(arguments["displacement"])}
    return lambda: np.asarray(session.run(None, feed)[0])


def torch_vote(arguments: Arguments, threads: int) -> Run:
    """A volume per label, each warped linearly; the largest wins."""
    torch = _torch(threads)
    labels = torch.tensor(arguments["labels"].astype(np.int64))
    grid = torch.tensor(_sampling_grid(arguments["displacement"]))
    count = int(labels.max()) + 1

    def run() -> Array:
        volumes = torch.nn.functional.one_hot(labels, count).permute(3, 0, 1, 2)[None].float()
        warped = torch.nn.functional.grid_sample(volumes, grid, align_corners=True)
        return np.asarray(warped[0].argmax(dim=0).numpy())

    return run


def torch_overlap(arguments: Arguments, threads: int) -> Run:
    """Warp the labels by vote, then count pairs of labels."""
    entries = arguments["count"] + 1
    vote = torch_vote({**arguments, "labels": arguments["moving"]}, threads)

    def run() -> Array:
        pairs = arguments["fixed"] * entries + vote()
        return np.bincount(pairs.ravel(), minlength=entries**2).reshape(entries, entries)

    return run


def torch_compose(arguments: Arguments, threads: int) -> Run:
    torch = _torch(threads)
    first, second = (torch.tensor(arguments[name]) for name in ("first", "second"))
    shape = second.shape[2:]
    identity = torch.tensor(_identity_grid(shape))
    scale = torch.tensor(_to_grid(shape)[::-1].copy())

    def run() -> Array:
        grid = identity + second.flip(1).permute(0, 2, 3, 4, 1) * scale
        return np.asarray((second + _border_sample(torch, first, grid)).numpy())

    return run


def torch_integrate(arguments: Arguments, threads: int) -> Run:
    """Scaling and squaring in the units of ``grid_sample``: a squaring is a sum and a sample."""
    torch = _torch(threads)
    velocity, steps = torch.tensor(arguments["velocity"]), arguments["steps"]
    shape = velocity.shape[2:]
    identity = torch.tensor(_identity_grid(shape))
    scale = torch.tensor(_to_grid(shape)[::-1].copy()).view(1, 3, 1, 1, 1)

    def run() -> Array:
        field = velocity.flip(1) * (scale * 2.0**-steps)
        for _ in range(steps):
            grid = identity + field.permute(0, 2, 3, 4, 1)
            field = field + _border_sample(torch, field, grid)
        return np.asarray((field / scale).flip(1).numpy())

    return run


def _border_sample(torch: Any, field: Any, grid: Any) -> Any:
    return torch.nn.functional.grid_sample(field, grid, padding_mode="border", align_corners=True)
