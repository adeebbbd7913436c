"""The neighbourhood of each row, as a user asks for it."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, Field

MAX_SIZE = 4097


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"an odd number, as the row itself is in the middle; found {size}")
    return size


Odd = Annotated[int, Field(ge=1, le=MAX_SIZE, strict=True), AfterValidator(_odd)]


class Patch(pydantic.BaseModel):
    """A row together with its neighbours along the axes that count rows: a pixel and the pixels around it.

    Attributes:
        size: How many rows there are along each of these axes; the row itself is in the middle.
        pad: What stands beyond the edges of an array: its rows mirrored at the first and the last one, which do not
            appear twice; the outermost rows again; or zeros.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    size: Annotated[tuple[Odd, ...], Field(min_length=1, max_length=2)]
    pad: Literal["reflect", "edge", "zeros"] = "reflect"

    @property
    def margins(self) -> tuple[int, ...]:
        """How far it reaches to each side, along each axis."""
        return tuple(size // 2 for size in self.size)
