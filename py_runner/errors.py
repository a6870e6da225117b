"""Every error that paddle-edge raises on purpose.

    PaddleEdgeError          base; the message says what, which file, what to do
    ├── UsageError           the call is wrong: unknown recipe, impossible combination  (exit 2)
    │   └── ChangedError     what is to be gone on with was made of other things        (exit 2)
    ├── ModelError           a model, .nb, bundle or run that cannot be read            (exit 3)
    ├── DataError            an image, array, list file or label file at fault          (exit 3)
    ├── EngineError          an engine is missing, or does not run                      (exit 3)
    │   └── RefusedError     it is there, and refused this model, died of it, or hung   (exit 3)
    ├── ConvertError         the model is readable, but cannot be made to run on ARM    (exit 3)
    └── StoppedError         somebody asked to stop: what was done is kept        (exit 130, 143)

A failed check or comparison is not an error: it is a Report whose truth value is False (exit 1).
"""

from __future__ import annotations

__all__ = [
    "ChangedError",
    "ConvertError",
    "DataError",
    "EngineError",
    "ModelError",
    "PaddleEdgeError",
    "RefusedError",
    "StoppedError",
    "UsageError",
]


class PaddleEdgeError(Exception):
    """Base of all errors of the kit. `exit_code` is what the command returns for it."""

    exit_code = 3


class UsageError(PaddleEdgeError):
    """The caller asked for something that does not exist or cannot be combined."""

    exit_code = 2


class ChangedError(UsageError):
    """What is to be gone on with was made of other things than are given now."""


class ModelError(PaddleEdgeError):
    """A model, `.nb` file, bundle or run is missing, damaged or of an unknown format."""


class DataError(PaddleEdgeError):
    """Images, arrays, list files or labels are missing, damaged or do not fit the model."""


class EngineError(PaddleEdgeError):
    """An engine is not installed, or does not run here."""


class RefusedError(EngineError):
    """An engine that runs here refused this model, died of it, or gave no answer in time: that
    says something of the model."""


class ConvertError(PaddleEdgeError):
    """A readable model that cannot be converted, with the engine's last words where it died."""


class StoppedError(PaddleEdgeError):
    """Long work ended early because it was asked to; says what is kept and how to go on."""

    exit_code = 130
