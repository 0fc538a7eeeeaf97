"""The ``stream`` argument of every operation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from segreg.kernels._machines import on_device

P = ParamSpec("P")
R = TypeVar("R")


def on_stream(operation: Callable[P, R]) -> Callable[P, R]:
    """The operation, run on its argument ``stream``; None is CuPy's current stream.

    Raises
    ------
    TypeError
        For a stream with NumPy arrays, or for anything that is no stream.
    """

    @functools.wraps(operation)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        stream: Any = kwargs.pop("stream", None)
        if stream is None:
            return operation(*args, **kwargs)
        if not any(map(on_device, (*args, *kwargs.values()))):
            raise TypeError(
                "stream: expected CuPy arrays with it, got none. "
                "NumPy arrays are computed at once: leave the stream out."
            )
        if not hasattr(stream, "__enter__"):
            raise TypeError(
                f"stream: expected a CuPy stream, got {type(stream).__qualname__}. "
                "Wrap a raw handle with cupy.cuda.ExternalStream."
            )
        with stream:
            return operation(*args, **kwargs)

    return run
