"""Tables as notebooks show them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[bool], title: str = "") -> str:
    """A table of texts as HTML, in which each is escaped; `right` says which columns stand there, as numbers do."""

    def row(tag: str, cells: Sequence[str]) -> str:
        shown = (
            f'<{tag} style="text-align: {"right" if at_right else "left"}">{html.escape(cell)}</{tag}>'
            for at_right, cell in zip(right, cells, strict=True)
        )
        return f"<tr>{''.join(shown)}</tr>"

    caption = f"<caption>{html.escape(title)}</caption>" if title else ""
    body = "".join(row("td", cells) for cells in rows)
    return f"<table>{caption}<thead>{row('th', headings)}</thead><tbody>{body}</tbody></table>"
