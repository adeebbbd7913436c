"""What a user's own function learns by `pipelines.analyzers`, as `fitted.npz` has it, and how to get back from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.names import FITTED, OF_FUNCTION
from pipelines.config.resolved import UserFunction
from pipelines.steps.methods import IMPUTE
from pipelines.storage import files
from pipelines.storage.npz_bytes import dump_arrays, load_arrays

Arrays = dict[str, npt.NDArray[Any]]

IN_DIRECTORY = re.compile(r"\([^()]*[/\\]([^()/\\]+, line \d+\))$")
"""Where a label says a place in a file of a directory, of which it keeps the name."""


def describe(notes: Any, outputs: Any) -> dict[str, Any]:
    """What a function does, as JSON has it, by the `recorded_calls.Notes` of its call and what it has returned.

    `analyzers` is, for each, what its tensors are called. `outputs` is for each output `feature` and `steps`, as a
    configuration says them, with the places of their `constants`, where it is steps applied to one feature; otherwise
    `found`, the operation that is no step.
    """
    mapped = {id(own.result): own for own in notes.mapped}
    made = outputs if isinstance(outputs, Mapping) else {}
    return {
        "analyzers": [[IN_DIRECTORY.sub(r"(\1", subject.label) for subject in own.subjects] for own in notes.analyzers],
        "outputs": {name: _way_back(tensor, notes.features, mapped) for name, tensor in sorted(made.items())},
    }


def _way_back(tensor: Any, named: Mapping[int, str], mapped: Mapping[int, Any]) -> dict[str, Any]:
    """The steps from a feature to a tensor. What was imputed stays so, and a cast to floats is none."""
    steps: list[Any] = []
    while id(tensor) not in named:
        if (own := mapped.get(id(tensor))) is not None:
            steps[:0] = [] if own.step.key in IMPUTE else [own]
            tensor = own.source
            continue
        operation = getattr(tensor, "op", None)
        passes = operation is not None and operation.type in ("Identity", "Cast") and tensor.dtype.is_floating
        if operation is None or not passes:
            return {"found": operation.type if operation is not None else type(tensor).__name__}
        (tensor,) = operation.inputs
    said, places = [own.step.dump() for own in steps], [own.constants for own in steps]
    return {"feature": named[id(tensor)], "steps": said, "constants": places}


def constants_of(arrays: Mapping[str, npt.NDArray[Any]]) -> list[Arrays]:
    """What each analyzer of a function has learned, of a `fitted.npz`: `<number of the tensor>/<constant>`."""
    count = len(json.loads(arrays[OF_FUNCTION].tobytes())["analyzers"])
    starts = [f"{OF_FUNCTION}/{number}/" for number in range(count)]
    return [{k.removeprefix(start): array for k, array in arrays.items() if k.startswith(start)} for start in starts]


def read_constants(custom: UserFunction, directory: str) -> Arrays:
    """What a function has learned, as `fitted.npz` has it, of a directory that `engine.constants_kept` was given."""
    paths = [files.join(directory, f"{number}.npz") for number in range(len(custom.learned["analyzers"]))]
    return as_fitted(custom, [load_arrays(files.read_bytes(path)) for path in paths])


def as_fitted(custom: UserFunction, learned: Sequence[Mapping[str, npt.NDArray[Any]]]) -> Arrays:
    """What a function's analyzers have learned as `fitted.npz` has it, which `constants_of` reads."""
    found: Arrays = {OF_FUNCTION: np.frombuffer(json.dumps(custom.learned).encode(), np.uint8)}
    for number, arrays in enumerate(learned):
        found |= {f"{OF_FUNCTION}/{number}/{name}": array for name, array in arrays.items()}
    return found


def add_constants(arrays: Arrays, directory: str) -> None:
    """Adds what a function has learned to the `fitted.npz` of a directory, which may hold what steps have."""
    path = files.join(directory, FITTED)
    steps = load_arrays(files.read_bytes(path)) if files.exists(path) else {}
    files.write_bytes(path, dump_arrays(steps | arrays))
