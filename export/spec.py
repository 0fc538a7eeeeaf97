"""What an exporter must be told of a network: its bundle metadata and how it is called.

A spec is the package's ``metadata.json`` with a ``network`` block beside the ``segreg`` block::

    {"name": "heart", "version": "1.0.0", ...,
     "segreg": {"schema": 1, "placement": "region", "canvas": [64], "margin": 0.15, ...},
     "network": {"inputs": [["moving_masked_image"], ["fixed_masked_image"]],
                 "arguments": {"return_field_type": "velocity"},
                 "output": {"kind": "velocity", "unit": "canvas_voxel", "order": "zyx"}}}

``schema/spec.json`` describes the block. The package itself always speaks one language, whatever
the network speaks: channels in the order of ``inputs``, pull-back vectors in cells of the canvas,
components (z, y, x); the exported graph translates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from segreg.engine.errors import PackageError
from segreg.engine.package import metadata_faults, schema_faults
from segreg.engine.precision import FULL
from segreg.engine.verification import WORST_FLOAT32, WORST_REDUCED, network_shapes

Shape = tuple[int, int, int]

STAND_IN = {"inputs": [["moving_mask", "fixed_mask"]], "output": {"kind": "velocity"}}


@dataclass(frozen=True)
class Tolerance:
    """Largest differences between the trained and the exported network that pass.

    ``float32`` and ``reduced`` (bfloat16, float16, int8) in voxels of the canvas, ``dice`` in the
    mean Dice of a whole registration in reduced precision.
    """

    float32: float = WORST_FLOAT32
    reduced: float = WORST_REDUCED
    dice: float = 0.002

    def of(self, precision: str) -> float:
        return self.float32 if precision == FULL else self.reduced


@dataclass(frozen=True)
class OutputSpec:
    """Convention of the network's own output; see ``schema/spec.json``."""

    kind: str
    unit: str
    order: str
    sign: int = 1
    stride: int = 1
    align_corners: bool = False
    take: int | str | None = None


@dataclass(frozen=True)
class Spec:
    """A checked spec.

    Attributes
    ----------
    metadata : what ``configs/metadata.json`` shall say.
    inputs : channels of each positional argument of the network's ``forward``.
    precisions : to try; float32 is always there.
    """

    metadata: dict[str, Any]
    inputs: tuple[tuple[str, ...], ...]
    output: OutputSpec
    arguments: dict[str, Any] = field(default_factory=dict)
    intensity_range: tuple[float, float] = (-1.0, 1.0)
    free_space: bool = True
    tolerance: Tolerance = field(default_factory=Tolerance)
    precisions: tuple[str, ...] = (FULL, "bfloat16")

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.metadata["segreg"])

    @property
    def channels(self) -> list[str]:
        return list(chain.from_iterable(self.inputs))

    @property
    def shapes(self) -> list[Shape]:
        """Shapes (D, H, W) the engine will show, smallest first."""
        return network_shapes(self.settings)


def read_spec(path: Path) -> Spec:
    """The spec in the JSON file at ``path``.

    Raises
    ------
    PackageError : no JSON, or a spec that breaks a schema; the message lists every fault.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PackageError(f"spec: {path.name} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise PackageError(
            f"spec: expected JSON in {path.name}, could not parse it ({error})."
        ) from error
    return parse_spec(content)


def parse_spec(content: Any) -> Spec:
    """The spec in ``content``, the parsed JSON; raises ``PackageError`` with every fault."""
    if not isinstance(content, dict):
        raise PackageError(f"spec: expected a JSON object, got {type(content).__name__}.")
    metadata = {key: value for key, value in content.items() if key != "network"}
    if "network" not in content:
        raise PackageError(
            "spec: the network block is missing: say in it which channels the network takes "
            "(inputs) and what it gives (output)."
        )
    network = content["network"]
    faults = _network_faults(network)
    known = STAND_IN if faults else network  # its faults shall not hide those of the metadata
    metadata["segreg"] = _fill_in(content.get("segreg"), known)
    faults += _clashes(content.get("segreg")) + metadata_faults(metadata)
    if faults:
        raise PackageError(f"spec: {'; '.join(dict.fromkeys(faults))}.")
    low, high = network.get("intensity_range", (-1.0, 1.0))
    spec = Spec(
        metadata=metadata,
        inputs=tuple(tuple(channels) for channels in network["inputs"]),
        output=OutputSpec(**network["output"]),
        arguments=network.get("arguments", {}),
        intensity_range=(float(low), float(high)),
        free_space=network.get("free_space", True),
        tolerance=Tolerance(**network.get("tolerance", {})),
        precisions=tuple(network.get("precisions", Spec.precisions)),
    )
    if not spec.free_space and len(spec.shapes) > 1:
        raise PackageError(
            f"spec: a network without free axes takes one size, segreg/canvas lists "
            f"{spec.settings['canvas']}; leave one."
        )
    return spec


def _network_faults(network: Any) -> list[str]:
    schema = resources.files("segreg.export").joinpath("schema/spec.json")
    faults = schema_faults(network, json.loads(schema.read_text(encoding="utf-8")), "network")
    if not faults:
        sides = {name.split("_", 1)[0] for names in network["inputs"] for name in names}
        if len(sides) == 1:
            faults.append(f"network/inputs: the network is shown the {sides.pop()} side only")
    return faults


def _fill_in(settings: Any, network: dict[str, Any]) -> Any:
    """The ``segreg`` block with what the exporter knows better than its author."""
    if not isinstance(settings, dict):
        return settings
    output = network["output"]
    return {
        **settings,
        "channels": list(chain.from_iterable(network["inputs"])),
        "output": {
            "kind": output["kind"],
            "unit": "canvas_voxel",
            "order": "zyx",
            "stride": output.get("stride", 1),
        },
    }


def _clashes(settings: Any) -> list[str]:
    if not isinstance(settings, dict):
        return []
    written = (("channels", "inputs"), ("output", "output"), ("variants", "precisions"))
    return [
        f"segreg/{key}: the exporter writes it; say in network/{said} what the network does"
        for key, said in written
        if key in settings
    ]
