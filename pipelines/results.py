"""Results that show themselves: on a terminal, in a notebook, as a DataFrame."""

from __future__ import annotations

import dataclasses
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from loaders import notebook
from pipelines.errors import plain

if TYPE_CHECKING:
    import pandas as pd

SHOWN_FILES = 10
TEXT_WIDTH = 120
"""The columns of a result that is turned into text."""


def show_bytes(size: float) -> str:
    """A number of bytes for people, in units of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} PiB"


def show_seconds(seconds: float) -> str:
    """A time for people."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 48 * 60 else f"{minutes / 1440:,.1f} days"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under headings.

    Attributes:
        columns: The headings. One that ends in a colon has numbers below it, which stand at the right; the colon is
            not shown.
        rows: The cells of each row: text, numbers, or None where there is nothing. A number below `bytes:` is a size.
        title: What stands above the table, if anything.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    title: str = ""

    @property
    def headings(self) -> tuple[str, ...]:
        """The columns as they are shown."""
        return tuple(column.removesuffix(":") for column in self.columns)

    def cells(self) -> list[list[str]]:
        """The rows as they are shown."""
        return [[_show(heading, value) for heading, value in zip(self.headings, row, strict=True)] for row in self.rows]

    def to_json(self) -> list[dict[str, Any]]:
        """The rows by their headings."""
        return [dict(zip(self.headings, row, strict=True)) for row in self.rows]


def _show(heading: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and heading == "bytes":
        return show_bytes(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)


Block = str | Table
"""What is shown at a time: lines of text, or a table."""


def count_of(number: int, what: str) -> str:
    """A number of things, such as "1 problem" and "2 problems"."""
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def list_skipped(problems: Iterable[str]) -> list[Block]:
    """What was wrong with files that were left out, the first ones; nothing where none was."""
    found = list(problems)
    more = [f"  … and {len(found) - SHOWN_FILES:,} more"] if len(found) > SHOWN_FILES else []
    head = f"\n{count_of(len(found), 'problem')} in files that were skipped:"
    return [head, *(f"  {problem}" for problem in found[:SHOWN_FILES]), *more] if found else []


def print_blocks(console: Console, blocks: Iterable[Block]) -> None:
    """Prints text and tables."""
    for block in blocks:
        if isinstance(block, str):
            console.print(block, highlight=False, markup=False)
            continue
        if block.title:
            console.print(f"\n{block.title}:\n", style="bold", highlight=False, markup=False)
        shown = rich_table.Table(box=None, pad_edge=False, header_style="bold")
        for column, heading in zip(block.columns, block.headings, strict=True):
            # The name of a split is short enough never to be cut.
            width = 10 if heading in ("split", "against") else None
            side: Any = "right" if column.endswith(":") else "left"
            shown.add_column(heading, justify=side, overflow="fold", min_width=width)
        for row in block.cells():
            shown.add_row(*row)
        console.print(shown)


class PlainConsole(Console):
    """A console that shows what it is given: names from files may hold what a terminal would obey."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is shown."""
        return super().render_str(plain(text), **options)


class Result:
    """What a function has found or done; frozen dataclasses are made of it."""

    def blocks(self) -> Sequence[Block]:
        """What a person is shown."""
        raise NotImplementedError

    def table(self) -> Table:
        """What `to_frame` has: the first table that is shown, unless a result has a better one."""
        return next((block for block in self.blocks() if isinstance(block, Table)), Table(columns=(), rows=()))

    def to_json(self) -> dict[str, Any]:
        """What was found or done, as JSON values by their names."""
        return dataclasses.asdict(self)  # type: ignore[call-overload,no-any-return]

    def to_frame(self) -> pd.DataFrame:
        """The table of this result as a DataFrame; needs pandas."""
        import pandas as pd  # only here: nothing else needs it

        table = self.table()
        return pd.DataFrame.from_records(list(table.rows), columns=list(table.headings))

    def __str__(self) -> str:
        out = io.StringIO()
        console = PlainConsole(
            file=out, force_jupyter=False, width=TEXT_WIDTH, soft_wrap=True, markup=False, emoji=False
        )
        print_blocks(console, self.blocks())
        return out.getvalue().strip()

    def _repr_html_(self) -> str:
        return "\n".join(_html(block) for block in self.blocks() if block)


def _html(block: Block) -> str:
    if isinstance(block, str):
        return f"<pre>{html.escape(block.strip())}</pre>"
    right = [column.endswith(":") for column in block.columns]
    return notebook.table(block.headings, block.cells(), right=right, title=block.title)
