"""Segmentation-driven registration of medical images.

::

    import segreg

    engine = segreg.Engine("shapes")
    result = engine.register(moving, fixed, moving_labels, fixed_labels)
    result.save("out")
    warped = segreg.apply(result.displacement, "another_moving.nii.gz")

Names are looked up when first used: importing ``segreg`` loads neither an inference library nor
torch, and takes a fraction of a second.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from segreg.engine.version import __version__

if TYPE_CHECKING:
    from segreg.engine.application import apply
    from segreg.engine.errors import SegregError
    from segreg.engine.field import Field
    from segreg.engine.result import Result
    from segreg.engine.runtime import Engine
    from segreg.engine.volume import Volume

__all__ = ["Engine", "Field", "Result", "SegregError", "Volume", "__version__", "apply"]

_HOMES = {
    "Engine": "segreg.engine.runtime",
    "Field": "segreg.engine.field",
    "Result": "segreg.engine.result",
    "SegregError": "segreg.engine.errors",
    "Volume": "segreg.engine.volume",
    "apply": "segreg.engine.application",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'segreg' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
