"""Compares what a tool gave with the rows that were built."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

LENGTH = "_length"


def joined(batches: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Columns of batches one after the other, each a list with a value for each row."""
    found: dict[str, list[Any]] = {}
    for batch in batches:
        for name, values in batch.items():
            found.setdefault(name, []).append(_host(values))
    return {name: list(itertools.chain.from_iterable(parts)) for name, parts in found.items()}


def compare(columns: Mapping[str, Any], rows: Mapping[str, Any], *, count: int) -> tuple[list[str], list[str]]:
    """The names of the features that came, and what is wrong with each that differs.

    Args:
        columns: What the tool gave: for each feature a value for each row. `row` has the rows' numbers.
        rows: Each feature's values, by the rows' numbers.
        count: How many rows were to come.
    """
    columns = {name: _host(values) for name, values in columns.items()}
    numbers = [int(number) for number in columns["row"]]
    if len(numbers) != count or len(set(numbers)) != count:
        return [], [f"expected {count} rows; found {len(numbers)}, {len(set(numbers))} of them different ones"]
    wrong = []
    names = [name for name in columns if not name.endswith(LENGTH) and name != "mask"]
    for name in names:
        lengths = columns.get(name + LENGTH)
        for place, number in enumerate(numbers):
            value = columns[name][place] if lengths is None else columns[name][place][: int(lengths[place])]
            if not equal(value, np.asarray(rows[name][number])):
                wrong.append(f"{name} of row {number}: expected {rows[name][number]}; found {value}")
                break
    return names, wrong


def equal(found: Any, expected: np.ndarray[Any, Any]) -> bool:
    """Whether a value is the one that was built: exactly, in a type that holds it."""
    found = _host(found)
    if not isinstance(found, np.ndarray) or found.dtype == object:
        found = _plain(found)
    if expected.dtype.kind in "biuS":
        same_kind = not isinstance(found, np.ndarray) or found.dtype.kind in (
            "S" if expected.dtype.kind == "S" else "biu"
        )
        return bool(same_kind and _plain(found) == expected.tolist())
    found = np.asarray(found)
    if expected.dtype.kind == "c" and found.dtype.kind != "c":
        expected = np.stack([expected.real, expected.imag], -1)
    if expected.size == 0:
        return found.size == 0
    return found.dtype.itemsize >= expected.dtype.itemsize and np.array_equal(found, expected, equal_nan=True)


def _plain(value: Any) -> Any:
    """Lists of lists and arrays, as some tools give rows of several axes, as lists of numbers or bytes."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _host(values: Any) -> Any:
    """Tensors as NumPy arrays."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values) if hasattr(values, "__array__") else values
