"""What labels are worth: the accuracy to expect of a registration, from its labels' accuracy.

A package may carry ``docs/curve.json``: registrations by ever worse label maps, judged by the true
ones, with the line through them, and how well its own segmentation does on images it was not
trained on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segreg.engine.errors import InputError, PackageError

GIVEN = "given"  # a label map that somebody handed over
CURVE = "docs/curve.json"
NUMBERS = ("slope", "intercept", "spread", "lowest", "highest")


@dataclass(frozen=True)
class Curve:
    """Registration Dice over segmentation Dice.

    Attributes
    ----------
    slope, intercept : of the line.
    spread : standard deviation of the points about it.
    lowest, highest : segmentation Dice of the points; no word about others.
    segmentation_dice, segmentation_sd : mean and standard deviation over the pairs that the
        package's own segmentation was tried on; None without one.
    own_dice, own_sd : those of the registrations by its labels, judged by the true ones; None if
        they were not measured, and the line must say it.
    """

    slope: float
    intercept: float
    spread: float
    lowest: float
    highest: float
    segmentation_dice: float | None = None
    segmentation_sd: float | None = None
    own_dice: float | None = None
    own_sd: float | None = None

    def expect(self, segmentation_dice: float, segmentation_sd: float = 0.0) -> Expectation:
        """Registration Dice by labels of such a Dice.

        Raises
        ------
        ValueError : a Dice that the curve was not measured at.
        """
        if not self.lowest <= segmentation_dice <= self.highest:
            raise ValueError(
                f"segmentation Dice: expected one between {self.lowest:.3f} and "
                f"{self.highest:.3f}, where the curve was measured, got {segmentation_dice:.3f}."
            )
        dice = self.slope * segmentation_dice + self.intercept
        return Expectation(
            segmentation_dice, dice, math.hypot(self.spread, self.slope * segmentation_sd)
        )

    def of_own_segmentation(self, given_dice: float | None = None) -> Expectation | None:
        """What to expect of the package's own labels; None if that was not measured.

        As it was measured, where it was: a network errs otherwise than labels that are eroded or
        roughened. With ``given_dice``, of one side segmented and labels of such a Dice on the
        other: the curve is over the mean of both sides.
        """
        if self.segmentation_dice is None or self.segmentation_sd is None:
            return None
        if given_dice is None and self.own_dice is not None and self.own_sd is not None:
            return Expectation(self.segmentation_dice, self.own_dice, self.own_sd)
        if given_dice is None:
            return self.expect(self.segmentation_dice, self.segmentation_sd)
        return self.expect((self.segmentation_dice + given_dice) / 2, self.segmentation_sd / 2)


@dataclass(frozen=True)
class Expectation:
    """Registration Dice to expect, and its standard deviation, by labels of a Dice."""

    segmentation_dice: float
    dice: float
    spread: float

    def __str__(self) -> str:
        return (
            f"labels of Dice {self.segmentation_dice:.2f} let expect a registration of Dice "
            f"{self.dice:.2f}, give or take {self.spread:.2f}"
        )

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def check_labels_dice(dice: object) -> float | None:
    """``dice`` as given, if it is None or the Dice of a label map.

    Raises
    ------
    InputError : anything else.
    """
    if dice is None or (_is_number(dice) and 0 < float(dice) <= 1):  # type: ignore[arg-type]
        return dice  # type: ignore[return-value]
    raise InputError(
        f"labels_dice: expected a Dice above 0 and at most 1 of the given label maps, got {dice!r}."
    )


def expect_accuracy(
    sources: Sequence[str],
    labels_dice: float | None,
    package: Curve | None,
    segmenter: Curve | None,
) -> tuple[Expectation | None, tuple[str, ...]]:
    """What to expect of a registration by such labels, and what is to be said of it.

    Parameters
    ----------
    sources : where the labels of both sides are from.
    labels_dice : of the given labels, as somebody states it; None if nobody does. One side given
        without it counts as no better than the segmented one.
    package, segmenter : curves of the package that registers and of the one that segments.

    Raises
    ------
    InputError : a Dice of given labels where none are given.
    """
    given = [source == GIVEN for source in sources]
    if labels_dice is not None and not any(given):
        raise InputError(
            "labels_dice: expected given label maps to say this of, but both sides are segmented. "
            "Leave it out: what the package's own labels are worth, it knows."
        )
    try:
        if all(given):
            if labels_dice is None:
                return None, ()
            if package is None:
                return None, (
                    f"accuracy by labels of Dice {labels_dice:.2f}: unknown, as the package "
                    f"carries no {CURVE}",
                )
            found: Expectation | None = package.expect(labels_dice)
        else:
            found = None if segmenter is None else segmenter.of_own_segmentation(labels_dice)
    except ValueError as error:  # beyond the curve
        return None, (f"accuracy to expect: unknown; {str(error).rstrip('.')}",)
    return found, () if found is None else (f"accuracy to expect, judged by true labels: {found}",)


def read_curve(folder: Path) -> Curve | None:
    """The curve of the package in ``folder``; None if it carries none.

    Raises
    ------
    PackageError : a file that is no curve.
    """
    path = folder / CURVE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own = content.get("segmentation") or {}
        values: list[Any] = [content[name] for name in NUMBERS]
        by_own = own.get("registration") or {}
        values += [own.get("dice"), own.get("sd"), by_own.get("dice"), by_own.get("sd")]
    except (ValueError, KeyError, AttributeError) as error:
        raise _no_curve(f"could not read it ({error})") from error
    if not all(_is_number(value) for value in values[:5]):
        raise _no_curve("got other than numbers")
    if not all(value is None or _is_number(value) for value in values[5:]):
        raise _no_curve("got other than numbers for segmentation")
    return Curve(*values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _no_curve(what: str) -> PackageError:
    return PackageError(
        f"{CURVE}: expected an object with the numbers {', '.join(NUMBERS)}, {what}. "
        "`python -m benchmarks curve` writes such a file."
    )
