"""What people would call instead of a kernel: one small function per operation and library.

``prepare(arguments, threads)`` converts the arguments of the operation once and returns the call
that is timed; its result is laid out as ``values`` lays out ours. Libraries are imported inside, so
that one that is absent leaves out its comparisons only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.operation import parts

Array = NDArray[Any]
Arguments = dict[str, Any]
Run = Callable[[], Array]


@dataclass(frozen=True)
class Outside:
    """Another implementation of an operation.

    Attributes
    ----------
    where : mask of the values that both define alike; None compares all of them.
    tolerance : largest difference that counts as equal; None takes the operation's.
    single : whether it always runs on one thread.
    """

    name: str
    prepare: Callable[[Arguments, int], Run]
    where: Callable[[Arguments], NDArray[np.bool_]] | None = None
    tolerance: float | None = None
    single: bool = False


def values(result: Any) -> Array:
    """The numbers of a result to be compared: of a tuple, the first."""
    if is_dataclass(result):
        columns = parts(result)
        rows = len(columns[0])
        return np.concatenate([np.reshape(c, (rows, -1)) for c in columns], axis=1, dtype=float)
    return np.asarray(result[0] if isinstance(result, tuple) else result)


def inside(arguments: Arguments) -> NDArray[np.bool_]:
    """Voxels (1, 1, D, H, W) that look at a place between voxels: borders are treated apart."""
    return _between(arguments["displacement"])[None, None]


def inside_labels(arguments: Arguments) -> NDArray[np.bool_]:
    return _between(arguments["displacement"])


def far_inside(arguments: Arguments) -> NDArray[np.bool_]:
    """Voxels (1, 3, D, H, W) whose inverse has nothing to do with the border."""
    displacement = arguments["displacement"]
    margin = 2 * int(np.ceil(np.abs(displacement).max())) + 2
    mask = np.zeros(displacement.shape, bool)
    mask[..., margin:-margin, margin:-margin, margin:-margin] = True
    return mask


def _between(displacement: Array) -> NDArray[np.bool_]:
    positions = _positions(displacement)
    last = np.array(positions.shape[1:]).reshape(3, 1, 1, 1) - 1
    return np.asarray(((positions >= 0) & (positions <= last)).all(axis=0))


def _positions(displacement: Array) -> Array:
    """x + u(x), (3, D, H, W)."""
    identity = np.indices(displacement.shape[2:], dtype=np.float32)
    return np.asarray(identity + displacement[0])


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


def _torch_warp(arguments: Arguments, threads: int) -> Run:
    torch = _torch(threads)
    moving = torch.tensor(arguments["moving"])
    grid = torch.tensor(_sampling_grid(arguments["displacement"]))

    def run() -> Array:
        sample = torch.nn.functional.grid_sample(moving, grid, align_corners=True)
        return np.asarray(sample.numpy())

    return run


def _onnxruntime_warp(arguments: Arguments, threads: int) -> Run:
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


def _scipy_warp(order: int) -> Callable[[Arguments, int], Run]:
    def prepare(arguments: Arguments, threads: int) -> Run:
        from scipy.ndimage import map_coordinates

        moving = arguments["moving"][0, 0]
        positions = _positions(arguments["displacement"])
        options = {"order": order, "mode": "mirror"}
        options["prefilter"] = not arguments.get("prefiltered", False)
        return lambda: np.asarray(map_coordinates(moving, positions, **options)[None, None])

    return prepare


def _torch_vote(arguments: Arguments, threads: int) -> Run:
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


def _torch_overlap(arguments: Arguments, threads: int) -> Run:
    """Warp the labels by vote, then count pairs of labels."""
    entries = arguments["count"] + 1
    vote = _torch_vote({**arguments, "labels": arguments["moving"]}, threads)

    def run() -> Array:
        pairs = arguments["fixed"] * entries + vote()
        return np.bincount(pairs.ravel(), minlength=entries**2).reshape(entries, entries)

    return run


def _torch_compose(arguments: Arguments, threads: int) -> Run:
    torch = _torch(threads)
    first, second = (torch.tensor(arguments[name]) for name in ("first", "second"))
    shape = second.shape[2:]
    identity = torch.tensor(_identity_grid(shape))
    scale = torch.tensor(_to_grid(shape)[::-1].copy())

    def run() -> Array:
        grid = identity + second.flip(1).permute(0, 2, 3, 4, 1) * scale
        return np.asarray((second + _border_sample(torch, first, grid)).numpy())

    return run


def _torch_integrate(arguments: Arguments, threads: int) -> Run:
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


def _numpy_jacobian(arguments: Arguments, threads: int) -> Run:
    displacement = arguments["displacement"][0]

    def run() -> Array:
        (zz, zy, zx), (yz, yy, yx), (xz, xy, xx) = (np.gradient(u) for u in displacement)
        zz, yy, xx = zz + 1, yy + 1, xx + 1
        determinant = zz * (yy * xx - yx * xy) - zy * (yz * xx - yx * xz) + zx * (yz * xy - yy * xz)
        return np.asarray(determinant[None])

    return run


def _itk_invert(arguments: Arguments, threads: int) -> Run:
    itk: Any = importlib.import_module("SimpleITK")  # untyped functions in a typed package

    itk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    vectors = np.ascontiguousarray(np.moveaxis(arguments["displacement"][0][::-1], 0, -1))
    image = itk.GetImageFromArray(vectors, isVector=True)

    def run() -> Array:
        inverse = itk.InvertDisplacementField(
            image,
            maximumNumberOfIterations=arguments.get("steps", 30),
            maxErrorToleranceThreshold=1e-2,
            meanErrorToleranceThreshold=1e-4,
        )
        return np.asarray(np.moveaxis(itk.GetArrayFromImage(inverse), -1, 0)[::-1][None])

    return run


def _scipy_zoom(arguments: Arguments, threads: int) -> Run:
    from scipy.ndimage import zoom

    field, shape = arguments["field"], arguments["shape"]
    factors = [after / before for before, after in zip(field.shape[2:], shape, strict=True)]

    def run() -> Array:
        parts = [
            zoom(component, factors, order=1, mode="nearest", grid_mode=True) * factor
            for component, factor in zip(field[0], factors, strict=True)
        ]
        return np.stack(parts)[None]

    return run


def _numpy_region_stats(arguments: Arguments, threads: int) -> Run:
    """Boxes from scipy, everything else as weighted counts."""
    from scipy.ndimage import find_objects

    regions, image, count = (arguments[name] for name in ("regions", "image", "count"))

    def run() -> Array:
        flat = regions.ravel()
        index = [i.ravel() for i in np.indices(regions.shape, dtype=np.float32)]
        voxels = np.bincount(flat, minlength=count + 1).astype(float)
        n = np.maximum(voxels, 1)

        def average(weights: Array) -> Array:
            return np.asarray(np.bincount(flat, weights.ravel(), minlength=count + 1) / n)

        mean = np.stack([average(i) for i in index], axis=1)
        products = np.stack([average(a * b) for a in index for b in index], axis=1)
        covariance = products - (mean[:, :, None] * mean[:, None, :]).reshape(count + 1, 9)
        intensity = average(image)
        deviation = np.sqrt(np.maximum(average(image * image) - intensity**2, 0))
        boxes = np.zeros((count + 1, 6))
        for label, box in enumerate(find_objects(regions, count), 1):
            if box is not None:
                boxes[label] = [*(s.start for s in box), *(s.stop for s in box)]
        rest = np.column_stack([boxes, mean, covariance, intensity, deviation])
        rest[0] = 0  # of the background, only the voxels are asked for
        return np.column_stack([voxels, rest])

    return run


def _numpy_relabel(arguments: Arguments, threads: int) -> Run:
    labels, table = arguments["labels"], arguments["table"].astype(np.int32)
    return lambda: np.asarray(table[labels])


def _numpy_jacobian_sums(arguments: Arguments, threads: int) -> Run:
    """A histogram a sum, the voxels beside another region set apart."""
    jacobian, regions, count = (arguments[n] for n in ("jacobian", "regions", "count"))

    def run() -> Array:
        seam = np.zeros(regions.shape, bool)
        for axis in range(3):
            ahead = np.swapaxes(regions, 0, axis)
            differs = ahead[1:] != ahead[:-1]
            marked = np.swapaxes(seam, 0, axis)
            marked[1:] |= differs
            marked[:-1] |= differs
        rows = np.where(seam, count + 1, regions).ravel()
        flat = jacobian.ravel().astype(float)
        positive = flat > 0
        log = np.log(flat[positive])
        where = rows[positive]
        sums = [
            np.bincount(rows, minlength=count + 2),
            np.bincount(where, minlength=count + 2),
            np.bincount(rows, flat, count + 2),
            np.bincount(where, log, count + 2),
            np.bincount(where, log**2, count + 2),
        ]
        table = np.stack(sums, axis=1).astype(float)
        table[[0, -1], 2:] = 0  # sums are of regions only
        return table

    return run


def _scipy_gather(arguments: Arguments, threads: int) -> Run:
    """One region after the other, image and mask."""
    from scipy.ndimage import map_coordinates

    image, regions, side = (arguments[name] for name in ("image", "regions", "canvas"))
    cells = np.indices((side, side, side), dtype=np.float32).reshape(3, -1)

    def run() -> Array:
        canvases = []
        for number, affine, (centre, scale) in zip(
            arguments["indices"], arguments["affines"], arguments["intensity"], strict=True
        ):
            positions = affine[:, :3] @ cells + affine[:, 3:]
            sample = map_coordinates(image, positions, order=1, mode="nearest")
            mask = (regions == number).astype(np.float32)
            covered = map_coordinates(mask, positions, order=1, mode="grid-constant")
            grey = np.clip((sample - centre) * scale, -1, 1)
            canvases.append(np.stack([grey * covered, covered]).reshape(2, side, side, side))
        return np.stack(canvases)

    return run


def _scipy_distance(arguments: Arguments, threads: int) -> Run:
    from scipy.ndimage import distance_transform_edt

    masks, spacing = arguments["mask"], arguments["spacing"]
    farthest = arguments.get("farthest", np.inf)

    def run() -> Array:
        pairs = zip(masks, spacing, strict=True)
        away = [distance_transform_edt(mask == 0, sampling=steps) for mask, steps in pairs]
        return np.asarray(np.minimum(np.stack(away), farthest))

    return run


def _scipy_smooth(arguments: Arguments, threads: int) -> Run:
    from scipy.ndimage import gaussian_filter

    volume = arguments["volume"]
    spacing = np.asarray(arguments.get("spacing", (1.0, 1.0, 1.0)))
    sigma = (0, 0, *np.broadcast_to(np.asarray(arguments["sigma"]) / spacing, (3,)))
    return lambda: np.asarray(gaussian_filter(volume, sigma, mode="nearest"))


def _scipy_spline(arguments: Arguments, threads: int) -> Run:
    from scipy.ndimage import spline_filter

    volumes = arguments["volume"]

    def run() -> Array:
        flat = volumes.reshape(-1, *volumes.shape[2:])
        filtered = [spline_filter(volume, 3, np.float32, mode="mirror") for volume in flat]
        return np.asarray(np.stack(filtered).reshape(volumes.shape))

    return run


# By the id of the operation. An operation without an entry is checked against the reference.
SCIPY_DISTANCE = (Outside("scipy distance_transform_edt", _scipy_distance, single=True),)

OUTSIDE: dict[str, tuple[Outside, ...]] = {
    "warp/linear": (
        Outside("torch grid_sample", _torch_warp, inside),
        Outside("onnxruntime GridSample", _onnxruntime_warp, inside),
        Outside("scipy map_coordinates", _scipy_warp(1), inside, single=True),
    ),
    "warp/nearest": (Outside("scipy map_coordinates", _scipy_warp(0), inside, single=True),),
    "warp/cubic": (Outside("scipy map_coordinates", _scipy_warp(3), inside, single=True),),
    "warp_labels": (Outside("torch, a volume a label", _torch_vote, inside_labels),),
    "overlap": (Outside("torch and bincount", _torch_overlap),),
    "compose": (Outside("torch grid_sample", _torch_compose),),
    "integrate/7": (Outside("torch grid_sample", _torch_integrate),),
    "jacobian_determinant": (Outside("numpy gradient", _numpy_jacobian, single=True),),
    "invert": (Outside("SimpleITK InvertDisplacementField", _itk_invert, far_inside, 0.02),),
    "resample_field": (Outside("scipy zoom", _scipy_zoom, single=True),),
    "region_stats": (Outside("numpy bincount", _numpy_region_stats, single=True),),
    "relabel": (Outside("numpy indexing", _numpy_relabel, single=True),),
    "jacobian_sums": (
        Outside("numpy bincount", _numpy_jacobian_sums, tolerance=0.05, single=True),
    ),
    "gather_regions": (Outside("scipy map_coordinates", _scipy_gather, single=True),),
    "smooth": (Outside("scipy gaussian_filter", _scipy_smooth, single=True),),
    "spline_coefficients": (Outside("scipy spline_filter", _scipy_spline, single=True),),
    "distance_to_mask": SCIPY_DISTANCE,
    "distance_to_mask/5": SCIPY_DISTANCE,
}
