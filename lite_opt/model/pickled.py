"""Pickles that call nothing: a pickle may name any function and have it called."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, BinaryIO

__all__ = ["KnownUnpickler"]


class KnownUnpickler(pickle.Unpickler):
    """Reads pickles that ask for nothing but `names`: (module, name) -> what stands for it.

    Raises pickle.UnpicklingError for a pickle that asks for another, before anything is called.
    """

    def __init__(self, file: BinaryIO, names: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(file)
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in the pickle."""
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights do not need")
        return self._names[module, name]
