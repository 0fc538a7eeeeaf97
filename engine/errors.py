"""What can go wrong, as one tree; every class carries the command line's exit code.

::

    SegregError
    |-- InputError        2  a file, image, label map or option that cannot be used
    |-- BackendError      3  an inference backend or device that is missing or failed
    |   |-- OperatorError 3  a network with an operator that the backend does not have
    |   `-- PrecisionError 3 arithmetic that the package, backend or processor lacks
    `-- PackageError      4  a model package that is damaged, unknown or of the wrong schema

``InputError`` is a ``ValueError`` too: wrong arrays handed to the Python API and wrong files handed
to the command line are the same mistake.
"""

from __future__ import annotations


class SegregError(Exception):
    """Base of everything segreg raises on purpose."""

    exit_code = 2


class InputError(SegregError, ValueError):
    """Something the caller handed over cannot be used; the message says how to mend it."""

    exit_code = 2


class BackendError(SegregError):
    """An inference backend or device is missing, refused the model, or failed while running."""

    exit_code = 3


class OperatorError(BackendError):
    """The network holds ``operators`` (ONNX names) that the backend cannot run."""

    def __init__(self, message: str, operators: tuple[str, ...]) -> None:
        super().__init__(message)
        self.operators = operators


class PrecisionError(BackendError):
    """The precision asked for is not one that package, backend and processor all have."""


class PackageError(SegregError):
    """A model package is missing, damaged, altered, or does not follow the schema."""

    exit_code = 4
