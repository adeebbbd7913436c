"""The arrays of a data set as their headers describe them, and the parts of the rows that they hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

encode = json.JSONEncoder(sort_keys=True).encode
"""Text for digests; `json.dumps` makes an encoder for each call with options."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SourceArray:
    """One array, as its header describes it: an array of a container, or a field of one.

    Attributes:
        path: The path from the root, with forward slashes, or an absolute one.
        dtype: NumPy's text of the values' dtype, with the file's byte order, such as `>f4`.
        shape: The shape of the whole array, with the axes of a field.
        fortran: Whether the first axis varies fastest; a field's own axes are in C order all the same.
        locator: Where the array is found in its container; for the container's format alone.
        modified: When the container was last changed, in seconds since 1970.
        member: The array's name in the container; empty where it has none.
        compressed: Whether the array has to be read forward.
        record: The structured dtype in the file, as `dtypes.record_dtype` reads it; empty for a plain dtype.
        field: The field of the structured dtype; the names of nested fields are joined by `.`.
        start: The array's row that is the first of the part; not 0 where an array holds the rows of several parts.
        checksum: What the values are compared with; for the container's format alone.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    locator: Any
    size: int
    modified: float
    member: str = ""
    compressed: bool = False
    record: str = ""
    field: str = ""
    chunk: int = 1
    start: int = 0
    checksum: Any = None

    def to_json(self) -> dict[str, Any]:
        """The attributes by their names; `dataclasses.asdict` copies each, which takes ten times as long.

        The locator is called `offset`; what is usual is left out, and the checksum: fingerprints of earlier data sets
        depend on that.
        """
        own = {name: getattr(self, name) for name in self.__slots__}
        own["offset"] = own.pop("locator")
        del own["checksum"]
        for name, usual in (("start", 0), ("chunk", 1)):
            if own[name] == usual:
                del own[name]
        return own


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A run of rows that one array of each feature holds.

    Attributes:
        name: What is left of the files' paths without the feature's name.
        sources: The array of each feature that comes from files.
        split: The split that the directory names, or None where rows are split otherwise.
        directory: The class that the directory names, or None where no feature asks for it.
    """

    name: str
    rows: int
    sources: Mapping[str, SourceArray]
    split: str | None
    directory: str | None = None
