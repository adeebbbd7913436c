"""`npyflow view`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

import numpy as np
from rich.color import Color
from rich.columns import Columns
from rich.console import Console, Group
from rich.style import Style
from rich.text import Text

import loaders
from loaders.format.spec import FeatureSpec
from pipelines.cli.common import settings_of
from pipelines.cli.terminal import quiet_work
from pipelines.errors import ConfigError, plain, writing
from pipelines.interface.arguments import read_config
from pipelines.maintain.append import plan_sources
from pipelines.output.directory import Output
from pipelines.page import rows as viewing
from pipelines.page.shapes import curves_of
from pipelines.plan.resolve import training_of
from pipelines.results import Table, print_blocks
from pipelines.storage import files

SHOWN, SHOWN_IN_PNG = 10, 64
IMAGE_SIDE = 32
COLUMNS = 8
BLOCKS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 32


def run(options: argparse.Namespace, console: Console) -> int:
    """Shows rows of a data set or of sources."""
    start, stop = _range(options.rows, SHOWN_IN_PNG if options.png else SHOWN)
    with quiet_work(debug=options.debug):
        split, specs, rows = _read(options, start, stop)
    if not rows:
        raise ConfigError(f"{options.path}: expected rows {start} to {stop - 1} of {split}; found none")
    if options.png:
        sheet = viewing.contact_sheet(specs, rows, first=start)
        if sheet is None:
            found = ", ".join(f"{spec.name} ({viewing.shape_of(spec, rows)})" for spec in specs)
            raise ConfigError(f"{options.path}: expected a feature of images, cubes or curves for --png; found {found}")
        with writing(options.png):
            files.write_bytes(options.png, sheet)
        print_blocks(console, [f"{options.png}: {len(rows)} rows of {split}"])
        return 0
    shown = [spec for spec in specs if viewing.shape_of(spec, rows) in ("image", "cube")]
    if shown and console.color_system in ("256", "truecolor"):
        _show_pictures(console, split, specs, shown[0], rows, start)
    else:
        _show_table(console, split, specs, rows, start)
    return 0


def _range(text: str, most: int) -> tuple[int, int]:
    """Rows that are meant by `20`, so many, or `100:120`."""
    if not text:
        return 0, most
    found = re.fullmatch(r"(?:(\d*):)?(\d+)", text)
    start, stop = (int(found[1] or 0), int(found[2])) if found else (0, 0)
    if stop <= start:
        raise ConfigError(f"ROWS: expected how many, or the first and the end, such as 100:120; found {text!r}")
    return start, stop


def _read(options: argparse.Namespace, start: int, stop: int) -> tuple[str, tuple[FeatureSpec, ...], list[viewing.Row]]:
    if files.exists(Output(options.path).manifest):
        data_set = loaders.open(options.path)
        split = options.split or training_of(data_set.splits)
        rows = data_set[split]
        return split, data_set.manifest.features, [rows[number] for number in range(start, min(stop, len(rows)))]
    plan = plan_sources(options.path, read_config(options.config, settings_of(options)))
    split = options.split or plan.training_split
    if split not in plan.splits:
        raise ConfigError(f"SPLIT: expected one of {', '.join(plan.splits)}; found {split!r}")
    return split, viewing.specs_of(plan), viewing.read_rows(plan, split, start, stop)


def _show_table(
    console: Console, split: str, specs: Sequence[FeatureSpec], rows: Sequence[viewing.Row], start: int
) -> None:
    shown = specs[:COLUMNS]
    looks = {spec.name: viewing.shape_of(spec, rows) for spec in shown}

    def cell(spec: FeatureSpec, row: viewing.Row) -> str:
        if looks[spec.name] == "curve":
            return _curve(row[spec.name])
        if looks[spec.name] in ("image", "cube"):
            return " x ".join(map(str, row[spec.name].shape))
        return viewing.text_of(spec, row)

    cells = [(start + number, *(cell(spec, row) for spec in shown)) for number, row in enumerate(rows)]
    columns = ("row:", *(spec.name for spec in shown))
    more = [f"\n{len(specs) - len(shown):,} more features are left out"] if len(specs) > len(shown) else []
    print_blocks(console, [Table(columns=columns, rows=tuple(cells), title=f"Rows of {split}"), *more])


def _curve(row: np.ndarray) -> str:
    """The first curve of a row as blocks of eight heights."""
    if not len(row):
        return ""
    curve = curves_of(np.asarray(row))[0]
    picked = curve[np.linspace(0, len(curve) - 1, min(CURVE_WIDTH, len(curve))).round().astype(int)]
    known = picked[np.isfinite(picked)]
    if not known.size:
        return "missing"
    span = float(np.ptp(known)) or 1.0
    levels = np.nan_to_num((picked - known.min()) / span * (len(BLOCKS) - 1)).round().astype(int)
    return "".join(BLOCKS[level] if np.isfinite(value) else " " for level, value in zip(levels, picked, strict=True))


def _show_pictures(
    console: Console,
    split: str,
    specs: Sequence[FeatureSpec],
    pictured: FeatureSpec,
    rows: Sequence[viewing.Row],
    start: int,
) -> None:
    others = [spec for spec in specs if spec is not pictured and spec.shape == ()][:2]
    pictures = viewing.pictures_of(pictured, rows, side=IMAGE_SIDE)
    tiles = []
    for number, (row, pixels) in enumerate(zip(rows, pictures, strict=True)):
        said = ", ".join([str(start + number), *(f"{spec.name} {viewing.text_of(spec, row)}" for spec in others)])
        tiles.append(Group(Text(plain(said), overflow="ellipsis"), half_blocks(pixels)))
    console.print(f"Rows of {split}: {pictured.name}\n", highlight=False)
    console.print(Columns(tiles, padding=(1, 2)))


def half_blocks(pixels: np.ndarray) -> Text:
    """An image, uint8 `[height, width, 3]`, as text of two pixels a character: the upper half is its colour."""
    text = Text(no_wrap=True)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        text.append("\n")
    return text
