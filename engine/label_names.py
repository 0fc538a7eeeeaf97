"""Label numbers by name, from the files that segmentation tools write."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segreg.engine.errors import InputError

LabelNames = Mapping[str, int]

# FreeSurfer and 3D Slicer: number, name, colour. ITK-SNAP: number, colour and visibility, "name".
COLOUR_TABLE_LINE = re.compile(r"^\s*(\d+)\s+(\S+)(?:\s+\d+){3,4}\s*$")
SNAP_LINE = re.compile(r'^\s*(\d+)(?:\s+[\d.]+){6}\s+"([^"]+)"\s*$')


def read_label_names(path: str | Path) -> dict[str, int]:
    """Name -> label number, the background (0) left out.

    Reads JSON of ``{"liver": 1}`` or ``{"1": "liver"}`` (TotalSegmentator's class maps), alone or
    under ``labels`` (nnU-Net's dataset.json, old and new), and colour tables of FreeSurfer
    (FreeSurferColorLUT.txt), 3D Slicer and ITK-SNAP.

    Raises
    ------
    InputError : another format, a name for two labels, no name at all.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path.name or path}: expected names of labels, could not read it ({error})."
        ) from error
    entries = _json_entries(content, path.name) if path.suffix == ".json" else _lines(text)
    names: dict[str, int] = {}
    for name, number in entries:
        if number and names.setdefault(name, number) != number:
            raise InputError(
                f"{path.name}: {name!r} names both label {names[name]} and {number}; "
                "a name can mean one label only."
            )
    if not names:
        raise InputError(
            f'{path.name}: expected names of labels as JSON, {{"liver": 1}}, or a colour table '
            "with lines such as `17 Left-Hippocampus 220 216 20 0`; found none."
        )
    return names


def resolve_labels(labels: Sequence[int | str], names: LabelNames) -> list[int]:
    """Label numbers of ``labels``, each a number or one of ``names``.

    Raises
    ------
    InputError : a name that is not known; the message offers similar ones.
    """
    return [resolve_label(label, names) for label in labels]


def resolve_groups(
    groups: Mapping[str, Any], names: LabelNames
) -> dict[str, Sequence[Any]]:
    """``groups`` with label numbers in place of names."""
    resolved: dict[str, Sequence[Any]] = {}
    for group, value in groups.items():
        listed = value if isinstance(value, (list, tuple)) else [value]
        resolved[group] = [
            resolve_label(label, names) if isinstance(label, str) else label for label in listed
        ]
    return resolved


def resolve_label(label: int | str, names: LabelNames) -> int:
    if not isinstance(label, str):
        return label
    if label in names:
        return names[label]
    if label.isdecimal():
        return int(label)
    close = difflib.get_close_matches(label, names, n=3)
    known = ", ".join(close) if close else f"{len(names)} names" if names else "no names"
    mend = "Did you mean one of them?" if close else "Give names with --label-names, or numbers."
    raise InputError(f"labels: {label!r} is not the name of a label; known: {known}. {mend}")


def _json_entries(content: Any, file: str) -> Iterable[tuple[str, int]]:
    if isinstance(content, dict) and isinstance(content.get("labels"), dict):
        content = content["labels"]
    if not isinstance(content, dict):
        raise InputError(
            f'{file}: expected a JSON object such as {{"liver": 1}}, got {type(content).__name__}.'
        )
    for key, value in content.items():
        if isinstance(value, str) and str(key).isdecimal():
            yield value, int(key)
        elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            yield key, value
        else:
            raise InputError(
                f"{file}: expected a label number for {key!r}, such as 1, got {value!r}."
            )


def _lines(text: str) -> Iterable[tuple[str, int]]:
    for line in text.splitlines():
        if found := COLOUR_TABLE_LINE.match(line) or SNAP_LINE.match(line):
            yield found[2], int(found[1])
