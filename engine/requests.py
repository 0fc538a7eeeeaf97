"""What a request hands over: the sides of a pair, read and checked, and whose labels they have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from segreg.engine.errors import InputError
from segreg.engine.expectation import GIVEN
from segreg.engine.volume import (
    Volume,
    VolumeLike,
    as_volume,
    check_image,
    check_labels,
    check_same_grid,
)

IMAGES = ("moving", "fixed")
SIDES = (*IMAGES, "moving_labels", "fixed_labels")


def read_sides(sides: dict[str, VolumeLike | None], geometry: str | None) -> dict[str, Volume]:
    """Read and check both sides; those of ``sides`` that are None are left out."""
    given = [name for name, side in sides.items() if side is not None]

    def read(name: str) -> Volume:
        volume = as_volume(sides[name], geometry=geometry)
        return check_labels(volume) if name.endswith("labels") else check_image(volume)

    with ThreadPoolExecutor(max_workers=4) as pool:
        volumes = dict(zip(given, pool.map(read, given), strict=True))
    for side in ("moving", "fixed"):
        if f"{side} labels" in volumes:
            check_same_grid(volumes[f"{side} labels"], volumes[side])
    return volumes


def source_notes(sources: tuple[str, str]) -> Iterator[str]:
    """What must be said of labels that nobody gave."""
    for source in dict.fromkeys(sources):
        sides = [side for side, of in zip(IMAGES, sources, strict=True) if of == source]
        if source != GIVEN:
            yield (
                f"{' and '.join(sides)} labels: {source}; overlaps say how well these labels were "
                "matched, not how right they are"
            )


def pair_arguments(pair: Mapping[str, Any] | Sequence[VolumeLike], options: dict[str, Any]) -> Any:
    """The arguments of ``Engine.register`` for one pair, by name.

    Raises
    ------
    InputError : it is no pair.
    """
    if not isinstance(pair, Mapping) and len(pair) in (len(IMAGES), len(SIDES)):
        pair = dict(zip(SIDES, pair, strict=False))
    if not isinstance(pair, Mapping) or not set(IMAGES) <= set(pair):
        given = ", ".join(pair) if isinstance(pair, Mapping) else f"{len(pair)} entries"
        raise InputError(f"pairs: expected {', '.join(SIDES)}, got {given}.")
    return {**options, **pair}
