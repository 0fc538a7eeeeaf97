"""From label numbers to regions: which labels are registered, grouped how, under what name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from segreg.engine.arrays import array_module, fetch
from segreg.engine.errors import InputError
from segreg.engine.label_names import LabelNames, resolve_groups, resolve_labels
from segreg.kernels import find_labels, region_stats, relabel

Groups = Mapping[str, Sequence[int | str]]  # a label by number, or by name where names are given

MAX_REGIONS = 10_000  # far beyond any atlas: a label map of that many is an image


@dataclass(frozen=True)
class Unmatched:
    """A region that only one side has: ``side`` is "moving" or "fixed"."""

    name: str
    side: str
    voxels: int


@dataclass(frozen=True)
class LabelScheme:
    """The regions of one pair, numbered 1..K in this order.

    Attributes
    ----------
    names : K region names.
    labels : K tuples of the label numbers that make up each region.
    notes : sentences for the result: labels on one side only, labels left out.
    unmatched : regions that are asked for and on one side only.
    """

    names: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def region_map(self, label_map: NDArray[np.integer]) -> NDArray[np.int32]:
        """``label_map`` (D, H, W) with every label replaced by its region number, 0 elsewhere."""
        numbers = np.array([label for group in self.labels for label in group])
        regions = np.repeat(
            np.arange(1, len(self) + 1, dtype=np.int32), [len(group) for group in self.labels]
        )
        if (top := int(numbers.max())) < 1 << 20:
            table = np.zeros(top + 1, np.int32)  # labels beyond it are in no region
            table[numbers] = regions
            found: NDArray[np.int32] = relabel(_narrow(label_map), table)
            return found
        xp, order = array_module(label_map), np.argsort(numbers)
        known, their_regions = xp.asarray(numbers[order]), xp.asarray(regions[order])
        place = xp.searchsorted(known, label_map).clip(max=len(numbers) - 1)
        region_map: NDArray[np.int32] = xp.where(known[place] == label_map, their_regions[place], 0)
        return region_map.astype(np.int32)


def present_labels(label_map: NDArray[np.integer]) -> list[int]:
    """Label numbers that occur in ``label_map``, ascending, background (0) left out."""
    # Of small numbers a table is quicker than to look for the largest.
    top = 255 if label_map.dtype == np.uint8 else int(label_map.max())
    if top < 1 << 20:
        found = find_labels(_narrow(label_map), top + 1)
    else:
        found = fetch(array_module(label_map).unique(label_map))
    return [int(label) for label in found if label > 0]


def _narrow(label_map: NDArray[np.integer]) -> NDArray[np.integer]:
    """``label_map`` in a dtype that the kernels take."""
    if label_map.dtype.name in ("uint8", "int16", "int32"):
        return label_map
    return label_map.astype(np.int32)


def make_scheme(
    moving_labels: NDArray[np.integer],
    fixed_labels: NDArray[np.integer],
    *,
    groups: Groups | None = None,
    select: Sequence[int | str] | None = None,
    label_names: LabelNames | None = None,
) -> LabelScheme:
    """Regions present on both sides; what is left out is said in ``notes``.

    Parameters
    ----------
    groups : region name -> label numbers; labels in no group are left out.
    select : use only these labels.
    label_names : name -> label number; ``groups`` and ``select`` may then speak of names, and
        regions are called by them.

    Raises
    ------
    InputError : no region on both sides, a label in two groups, or a name that is not known.
    """
    known = label_names or {}
    select = None if select is None else resolve_labels(select, known)
    moving, fixed = set(present_labels(moving_labels)), set(present_labels(fixed_labels))
    wanted = moving | fixed if select is None else set(select)
    candidates: dict[str, tuple[int, ...]]
    if groups is None:
        called = {number: name for name, number in known.items()}
        candidates = {called.get(n, f"label {n}"): (n,) for n in sorted(wanted)}
    else:
        candidates = {
            name: tuple(label for label in labels if label in wanted)
            for name, labels in _checked(resolve_groups(groups, known) if known else groups).items()
        }
    names, labels, notes = [], [], []
    alone: dict[str, dict[str, tuple[int, ...]]] = {"moving": {}, "fixed": {}}
    for name, numbers in candidates.items():
        on_moving, on_fixed = moving.intersection(numbers), fixed.intersection(numbers)
        if on_moving and on_fixed:
            names.append(name)
            labels.append(numbers)
        elif on_moving or on_fixed:
            side = "moving" if on_moving else "fixed"
            alone[side][name] = numbers
            notes.append(f"{name} is only in the {side} label map and is not registered")
        elif select is not None or groups is not None:
            notes.append(f"{name} is in neither label map")
    left_out = sorted((moving & fixed) - {label for group in labels for label in group})
    if left_out:
        notes.append(f"labels not registered, as asked: {', '.join(map(str, left_out))}")
    if not names:
        raise InputError(
            "labels: expected at least one region on both sides, got "
            f"{_shorten(sorted(moving))} on the moving and {_shorten(sorted(fixed))} on the fixed "
            f"side{_asked(select)}. Give both sides the same label numbers, or join them by groups."
        )
    if len(names) > MAX_REGIONS:
        raise InputError(f"labels: at most {MAX_REGIONS} regions, got {len(names)}. Group them.")
    unmatched = (
        *_count_unmatched("moving", moving_labels, alone["moving"]),
        *_count_unmatched("fixed", fixed_labels, alone["fixed"]),
    )
    return LabelScheme(tuple(names), tuple(labels), tuple(notes), unmatched)


def _count_unmatched(
    side: str, label_map: NDArray[np.integer], regions: dict[str, tuple[int, ...]]
) -> list[Unmatched]:
    if not regions:
        return []
    found = LabelScheme(tuple(regions), tuple(regions.values())).region_map(label_map)
    # Only counts are asked for, so any image of the right shape will do.
    voxels = region_stats(found, found.astype(np.float32), len(regions)).voxels[1:]
    return [Unmatched(name, side, int(n)) for name, n in zip(regions, voxels, strict=True)]


def read_groups(
    path: str | Path, label_names: LabelNames | None = None
) -> dict[str, tuple[int, ...]]:
    """Groups from a JSON file such as ``{"left lung": [1, 2], "heart": 5}``.

    With ``label_names``, their labels may be names.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path.name}: expected a JSON object of groups, could not read it ({error})."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f'{path.name}: expected an object like {{"left lung": [1, 2]}}, '
            f"got {type(content).__name__}."
        )
    return _checked(content if label_names is None else resolve_groups(content, label_names))


def _checked(groups: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    checked: dict[str, tuple[int, ...]] = {}
    owner: dict[int, str] = {}
    for name, value in groups.items():
        given = value if isinstance(value, (list, tuple)) else [value]
        numbers = tuple(int(n) for n in given if _is_label(n))
        if not numbers or len(numbers) < len(given):
            raise InputError(
                f"groups: {name!r} expects positive label numbers such as [1, 2], got {value!r}."
            )
        for number in numbers:
            if owner.setdefault(number, name) != name:
                raise InputError(
                    f"groups: label {number} is in both {owner[number]!r} and {name!r}; "
                    "a voxel can belong to one region only."
                )
        checked[name] = numbers
    return checked


def _is_label(number: object) -> TypeGuard[int]:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        return False
    return int(number) > 0


def _asked(select: Sequence[int] | None) -> str:
    return "" if select is None else f", and {_shorten(sorted(select))} asked for"


def _shorten(labels: list[int]) -> str:
    shown = ", ".join(map(str, labels[:8]))
    return f"labels {shown}{' ...' if len(labels) > 8 else ''}" if labels else "no label"
