"""Statistics in files that others may write: arrays and the dataclasses that hold them are unpickled, nothing else."""

from __future__ import annotations

import dataclasses
import io
import pickle
from typing import Any

ARRAYS = ("_frombuffer", "_reconstruct", "dtype", "ndarray", "scalar")
"""What NumPy's arrays are pickled as."""

HOLDERS = ("pipelines.statistics.", "pipelines.analyzers.", "pipelines.maintain.profile")
"""Where the dataclasses are."""


def load_statistics(data: bytes) -> Any:
    """Reads a pickle of arrays and dataclasses of statistics; an UnpicklingError if there is something else in it."""
    return _Unpickler(io.BytesIO(data)).load()


class _Unpickler(pickle.Unpickler):
    """Reads arrays and the dataclasses that hold them."""

    def find_class(self, module: str, name: str) -> Any:
        """A class of NumPy's arrays, or a dataclass of the statistics."""
        if module.split(".")[0] == "numpy" and name in ARRAYS:
            return super().find_class(module, name)
        if module.startswith(HOLDERS) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and dataclasses.is_dataclass(found):
                return found
        raise pickle.UnpicklingError(f"expected accumulators of npyflow; found {module}.{name}")
