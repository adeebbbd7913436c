"""Rows of every dtype: as one value, with axes, and ragged."""

import numpy as np

from loaders.format.spec import DTYPES
from tests.support.arrays import values, write_files

NUMBERS = tuple(dtype for dtype in DTYPES if dtype != "string")


def rows_of_every_dtype(count):
    """For each feature the values of each row; `row` is its number."""
    arrays = {f"one_{dtype}": values((count,), dtype, seed=1) for dtype in NUMBERS}
    arrays |= {f"axes_{dtype}": values((count, 2, 3), dtype, seed=2) for dtype in NUMBERS}
    arrays["one_string"] = np.array([b"w" * (row % 5 + 1) for row in range(count)])
    arrays["axes_string"] = np.array([[b"a", b"bc" * (row % 3 + 1)] for row in range(count)])
    rows = {name: list(array) for name, array in arrays.items()}
    rows |= {f"ragged_{name}": [values((row % 4, 2), name, seed=3) for row in range(count)] for name in NUMBERS}
    return rows | {"row": list(np.arange(count))}


def write_rows(root, rows):
    """Writes a file for each row of each feature.

    Returns:
        What a configuration says of them, so that values stay what they are.
    """
    files = ((f"{name}-{row:03d}.npy", value) for name, found in rows.items() for row, value in enumerate(found))
    write_files(root, {path: np.asarray(value) for path, value in files})
    said = {name: {"impute": "none", "normalize": "none", "ragged": name.startswith("ragged")} for name in rows}
    return {"features": said, "row_axes": 0}
