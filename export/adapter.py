"""Any registration network in the form of a package: ``regions`` in, ``vectors`` out."""

from __future__ import annotations

from typing import Any

import torch

from segreg.engine.errors import PackageError
from segreg.export.spec import Spec


class Adapter(torch.nn.Module):
    """A network behind the one interface that packages have.

    ``forward`` takes ``regions`` (K, C, D, H, W) and gives pull-back ``vectors`` (K, 3, d, h, w) in
    cells of the canvas, components (z, y, x): the network's field, translated from the convention
    that its spec states. Nothing else that the network computes is used, so an image it warps at
    its end is not part of the exported graph.
    """

    _scale: torch.Tensor
    _offset: torch.Tensor

    def __init__(self, network: torch.nn.Module, spec: Spec) -> None:
        super().__init__()
        self.network = network.eval()
        self.spec = spec
        low, high = spec.intensity_range
        images = torch.tensor([not name.endswith("_mask") for name in spec.channels])
        scale, offset = torch.where(images, (high - low) / 2, 1.0), images * (high + low) / 2
        self.register_buffer("_scale", scale.reshape(1, -1, 1, 1, 1), persistent=False)
        self.register_buffer("_offset", offset.reshape(1, -1, 1, 1, 1), persistent=False)
        self._rescales = (low, high) != (-1.0, 1.0)

    def forward(self, regions: torch.Tensor) -> torch.Tensor:
        """Pull-back vectors (K, 3, d, h, w) for ``regions`` (K, C, D, H, W)."""
        shown = regions * self._scale + self._offset if self._rescales else regions
        counts = [len(names) for names in self.spec.inputs]
        parts = torch.split(shown, counts, dim=1) if len(counts) > 1 else (shown,)
        vectors = self._select(self.network(*parts, **self.spec.arguments)).float()
        if self.spec.output.order == "xyz":
            vectors = vectors.flip(1)
        return self._to_cells(vectors, regions)

    def _select(self, answer: Any) -> torch.Tensor:
        """The field among what the network returned."""
        take = self.spec.output.take
        if take is None:
            found = answer
        elif isinstance(take, str):
            found = answer.get(take) if isinstance(answer, dict) else getattr(answer, take, None)
        else:
            listed = isinstance(answer, (tuple, list)) and -len(answer) <= take < len(answer)
            found = answer[take] if listed else None
        if not isinstance(found, torch.Tensor):
            mend = (
                "Leave network/output/take out."
                if isinstance(answer, torch.Tensor)
                else "Say in network/output/take which one it is."
            )
            raise PackageError(
                f"network: expected the field as {_wanted(take)}, got {_describe(answer)}. {mend}"
            )
        if found.ndim != 5 or found.shape[1] != 3:
            hint = (
                " Components belong on axis 1: move them there in forward."
                if found.ndim == 5 and found.shape[-1] == 3
                else " Is it the field? network/output/take says which output is."
            )
            raise PackageError(
                f"network: expected a field (K, 3, D, H, W), got {tuple(found.shape)}.{hint}"
            )
        return found

    def _to_cells(self, vectors: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """``vectors`` in cells of the canvas, pointing from the fixed to the moving side."""
        output = self.spec.output
        if output.unit in ("canvas_voxel", "field_voxel"):
            scale = output.sign * (output.stride if output.unit == "field_voxel" else 1)
            return vectors if scale == 1 else vectors * scale
        share = output.sign / (2 if output.unit == "normalized" else 1)
        spans = [
            (vectors.shape[axis] - 1) * output.stride if output.align_corners
            else regions.shape[axis]
            for axis in (2, 3, 4)
        ]
        components = [vectors[:, k : k + 1] * (span * share) for k, span in enumerate(spans)]
        return torch.cat(components, 1)


def check_answer(adapter: Adapter, regions: torch.Tensor) -> torch.Tensor:
    """Run ``adapter`` once and refuse what no package can hold; gives the vectors.

    Raises
    ------
    PackageError : the network fails on ``regions``, gives no field, gives it on another grid than
        its stride says, or gives NaN.
    """
    spec = adapter.spec
    try:
        with torch.inference_mode():
            vectors: torch.Tensor = adapter(regions)
    except PackageError:
        raise
    except Exception as error:  # whatever the network's own code raises
        shown = " and ".join(str((len(regions), len(n), *regions.shape[2:])) for n in spec.inputs)
        raise PackageError(
            f"network: failed on input {shown} ({type(error).__name__}: {first_line(error)}). "
            "Check network/inputs, network/arguments and the canvas in the spec."
        ) from error
    expected = [size // spec.output.stride for size in regions.shape[2:]]
    if list(vectors.shape[2:]) != expected or len(vectors) != len(regions):
        ratio = regions.shape[2] / vectors.shape[2]
        raise PackageError(
            f"network: stride {spec.output.stride} promises a field of {expected} cells for each "
            f"of {len(regions)} regions, got {list(vectors.shape)}; that is stride {ratio:g}."
        )
    if not torch.isfinite(vectors).all():
        raise PackageError(
            "network: gives NaN or infinite vectors for an ordinary region although its weights "
            "are finite; look for a division by zero or a logarithm in forward."
        )
    return vectors


def _wanted(take: int | str | None) -> str:
    return "the only output" if take is None else f"output {take!r}"


def _describe(answer: Any) -> str:
    if isinstance(answer, (tuple, list)):
        return f"{len(answer)} outputs ({', '.join(_describe(part) for part in answer)})"
    if isinstance(answer, dict):
        return f"outputs named {', '.join(map(str, answer))}"
    if isinstance(answer, torch.Tensor):
        return f"a tensor {tuple(answer.shape)}"
    return type(answer).__name__


def first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")
