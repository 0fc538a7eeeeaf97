"""How regions are placed before the network: the package names one of three ways."""

from __future__ import annotations

from typing import Any

from segreg.engine.placements.crop import CropPlacement
from segreg.engine.placements.grid import GridPlacement
from segreg.engine.placements.layout import SIZE_STEP, Layout, Placement
from segreg.engine.placements.region import RegionPlacement

__all__ = ["PLACEMENTS", "Layout", "Placement", "canvas_sizes", "make_placement"]

PLACEMENTS: dict[str, type[Placement]] = {
    "region": RegionPlacement,
    "crop": CropPlacement,
    "grid": GridPlacement,
}


def make_placement(settings: dict[str, Any]) -> Placement:
    """The placement that ``settings``, a package's ``segreg`` block, ask for."""
    return PLACEMENTS[settings["placement"]](settings)


def canvas_sizes(settings: dict[str, Any]) -> list[int]:
    """Cells along an axis that the network will be shown, for backends that build for sizes."""
    if "canvas" in settings:
        return list(settings["canvas"])
    smallest = [SIZE_STEP] if "space" in settings.get("free_axes", ()) else []
    return [*smallest, *settings["shape"]]
