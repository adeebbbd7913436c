"""`npyflow inspect`."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

import loaders
from loaders.diagnostics import shuffle_quality
from loaders.order.class_mixing import ShuffleQuality
from pipelines.cli.common import settings_of, show
from pipelines.cli.terminal import quiet_work
from pipelines.errors import EXIT_FAILED, ConfigError
from pipelines.interface.inspect import inspect
from pipelines.interface.tables import show_shape
from pipelines.plan.resolve import training_of
from pipelines.results import Block, Table, print_blocks

SHUFFLED_EPOCHS = 2

Found = dict[tuple[str, int], ShuffleQuality]
"""For a label and the number of an epoch, how well the epoch mixes its classes."""


def run(options: argparse.Namespace, console: Console) -> int:
    """Shows what a directory holds."""
    if options.shuffle:
        return _inspect_shuffle(options, console)
    if options.batch_size is not None:
        raise ConfigError("--batch_size: expected --shuffle with it; found none")
    settings, beam_options = settings_of(options), options.beam_options
    with quiet_work(debug=options.debug):  # a function of the user's own is traced
        found = inspect(options.path, options.config, settings=settings, beam_options=beam_options)
    if options.as_function:
        sys.stdout.write(found.as_function())
        return 0
    return show(options, console, found)


def _inspect_shuffle(options: argparse.Namespace, console: Console) -> int:
    manifest = loaders.open(options.path).manifest
    split = training_of(manifest.splits)
    batch_size, found, problems = options.batch_size or 256, Found(), []
    for label in shuffle_quality.class_labels(manifest.features):
        for epoch in range(SHUFFLED_EPOCHS):
            try:
                found[label, epoch] = shuffle_quality.compare_epoch(
                    options.path, split, label=label, batch_size=batch_size, epoch=epoch
                )
            except ValueError as error:
                problems.append(f"{label}, batches of {batch_size} rows of {split}: {error}")
                break
    if not found:
        have = ", ".join(f"{f.name} ({f.role}, {f.dtype}, {show_shape(f.shape)})" for f in manifest.features)
        expected = "expected a label that tells the class of a row, one value that is no float"
        raise ConfigError(f"{options.path}: " + ("\n".join(problems) if problems else f"{expected}; found {have}"))
    print_blocks(
        console, _describe_shuffle(found, f"The classes in batches of {batch_size:,} rows of {split}, shuffled")
    )
    print_blocks(console, [f"Not compared: {problem}" for problem in problems])
    return 0 if all(quality.like_chance for quality in found.values()) else EXIT_FAILED


def _describe_shuffle(found: Found, title: str) -> list[Block]:
    columns = ("label", "epoch:", "batches:", "classes:", "chi-square:", "by chance:", "p:", "mixed")
    rows, worse = [], []
    for (label, epoch), quality in found.items():
        chance = f"{quality.expected:,.1f} ± {quality.deviation:,.1f}"
        p = f"{quality.p:.4f}" if quality.like_chance else f"{quality.p:.1e}"
        numbers = (epoch, quality.batches, quality.classes, f"{quality.chi_square:,.1f}")
        rows.append((label, *numbers, chance, p, quality.like_chance))
        if not quality.like_chance:
            worse.append(
                f"{label}, epoch {epoch}: the classes differ between batches "
                f"{quality.chi_square / quality.expected:.2f} times as much as by chance"
            )
    about = (
        "\nChi-square is how unevenly the batches have the classes, and p how many of all permutations of the rows "
        "have them as unevenly.\n"
    )
    alike = "Batches have their classes as those of a true permutation have"
    return [Table(columns=columns, rows=tuple(rows), title=title), about, *(worse or [alike])]
