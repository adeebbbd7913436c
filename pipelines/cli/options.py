"""The options of the command line."""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable

from loaders.version import VERSION
from pipelines.cli.completion import with_splits
from pipelines.exports import EXPORT_FORMATS

EPILOG = """exit codes:
  0    done
  1    the work failed: values that cannot be used, a data set that does not
       verify or whose splits share rows, data sets that differ, rows that do
       not pass validation, epochs that do not mix the classes, a runner that
       failed
  2    nothing was begun: bad sources, configuration, options or output
  3    status: the build, or the append, is not finished
  130  interrupted by Ctrl-C, 143 by SIGTERM; the same command goes on where it
       stopped
"""

BEAM = "Any other option --NAME=VALUE goes to Beam: --runner=FlinkRunner, --direct_num_workers=2 …"


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line; what it does not know is left to Beam.

    What it finds has a function `usage` beside the options, whose text names those that the command has.
    """
    common = argparse.ArgumentParser(add_help=False)
    _flag(common, "--debug", "show the stack trace of an error")
    _flag(common, "--quiet", "print errors alone")
    common.add_argument(
        "--json",
        metavar="FILE",
        help="write what is found or done for machines; - is the standard output, where nothing else is printed then",
    )
    common.add_argument(
        "--storage_option",
        metavar="SCHEME.KEY=VALUE",
        action="append",
        default=[],
        help="how a file system is reached, such as s3.endpoint_url=URL; may be repeated",
    )
    parser = argparse.ArgumentParser(
        prog="npyflow",
        description="Turns directories of NumPy .npy files into training data.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"npyflow {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = functools.partial(commands.add_parser, parents=[common], allow_abbrev=False)

    inspect = add("inspect", help="show what a directory of arrays, or a data set, holds")
    inspect.add_argument("path", type=_path, metavar="PATH", help="a directory of .npy files, or a data set")
    _flag(
        inspect,
        "--shuffle",
        "compare the classes in the batches of a data set's training epochs with those of a true permutation",
    )
    _flag(
        inspect,
        "--as_function",
        "print the preprocessing_fn that the configuration of a build means, to be copied and changed",
    )
    inspect.add_argument("--batch_size", type=_count, metavar="N", help="with --shuffle: the rows of a batch (256)")
    _add_config_options(inspect)

    init = add("init", help="write a commented configuration of what is chosen for a directory of arrays")
    init.add_argument("path", type=_path, metavar="SRC", help="a directory of .npy files")
    init.add_argument(
        "-o",
        "--output",
        type=_path,
        default="dataset.yaml",
        metavar="FILE",
        help="the configuration (dataset.yaml); - is the standard output",
    )
    _flag(init, "--overwrite", "replace a file that is there")
    _add_config_options(init)

    build = _add_command(add, "build", "build a data set from a directory of arrays")
    build.add_argument("output", type=_path, metavar="OUT", help="the directory for the data set")
    _add_config_options(build)
    build.add_argument(
        "--transform",
        metavar="FROM",
        help="use the transform of a data set as it is, with all that it says of features",
    )
    _flag(build, "--overwrite", "replace a data set that is there, which stays as it is until the new one is finished")
    _flag(build, "--no_report", "write no report.html, the page that shows the data set")
    _add_sync_option(build)
    _add_trust_option(build)
    _flag(build, "--dry_run", "check, forecast, print the configuration; write nothing")
    build.add_argument(
        "--prices",
        metavar="FILE",
        help="with --dry_run: a table of prices in YAML, by which the build would be paid for on Dataflow",
    )

    append = _add_command(add, "append", "add new files to a data set; its transform stays as it is")
    append.add_argument("output", type=_path, metavar="OUT", help="the data set")
    _add_error_options(append)
    _add_sync_option(append)
    _add_trust_option(append)
    _flag(append, "--refit", "build all of OUT anew from SRC, with new statistics")

    validate = _add_command(add, "validate", "check ranges, missing values, classes and drift of arrays")
    _add_config_options(validate)
    validate.add_argument("--against", metavar="OUT", help="a data set that the arrays should be like")
    _add_thresholds(validate)

    status = add("status", help="say how far a build is, whatever runs it and wherever")
    status.add_argument("path", type=_path, metavar="OUT", help="the directory of a data set, finished or being built")
    _flag(status, "--watch", "say it again as it changes, until it is finished or has stopped")

    view = add("view", help="show rows of a data set, or of a directory of arrays")
    view.add_argument("path", metavar="PATH", help="a directory of .npy files, or a data set")
    with_splits(
        view.add_argument("split", metavar="SPLIT", nargs="?", help="the split; that of the training rows if not given")
    )
    view.add_argument("rows", metavar="ROWS", nargs="?", help="how many rows, or which: 20, or 100:120 (10)")
    view.add_argument("--png", metavar="FILE", help="draw images, cubes or curves of the rows (64) into a file")
    _add_config_options(view)

    report = add("report", help="write a page that shows a data set, or a directory of arrays: report.html")
    report.add_argument("path", metavar="PATH", help="a directory of .npy files, or a data set")
    report.add_argument("--against", metavar="OTHER", help="a data set, or a directory of arrays, to compare it with")
    _flag(report, "--leakage", "look for rows that are in more than one split of the data set, too")
    report.add_argument(
        "-o", "--output", metavar="FILE", help="the page; report.html in the data set, or here, if not given"
    )
    _add_config_options(report)

    verify = add("verify", help="check a data set against its manifest")
    verify.add_argument("path", type=_path, metavar="OUT", help="a data set")
    _add_trust_option(verify)

    leakage = add("leakage", help="find rows that are in more than one split of a data set")
    leakage.add_argument("path", type=_path, metavar="OUT", help="a data set")
    leakage.add_argument("--features", metavar="NAME,…", help="the features that are compared; all inputs if not given")

    diff = add("diff", help="compare two data sets: features, statistics, rows")
    diff.add_argument("first", type=_path, metavar="OUT", help="a data set")
    diff.add_argument("second", type=_path, metavar="OTHER", help="another one")

    export = add("export", help="write the rows of a data set for other tools", epilog=BEAM)
    export.add_argument("path", type=_path, metavar="OUT", help="a data set")
    export.add_argument("output", type=_path, metavar="DIR", help="a new or empty directory for the export")
    export.add_argument("--to", required=True, choices=tuple(EXPORT_FORMATS), help="the format")
    _add_workers_option(export)

    bench = add("bench", help="measure how fast a data set feeds a training, and what would change it")
    _add_bench_options(bench)
    for command in commands.choices.values():
        command.set_defaults(usage=command.format_usage)
    return parser


def _add_bench_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=_path, metavar="OUT", help="a data set")
    with_splits(parser.add_argument("--split", default="train", metavar="NAME", help="the split that is read (train)"))
    parser.add_argument("--batch_size", type=_count, default=256, metavar="N", help="the rows of a batch (256)")
    parser.add_argument(
        "--step_ms",
        type=_amount,
        metavar="MS",
        help="the length of a training step: whether one would wait for batches",
    )
    parser.add_argument(
        "--seconds",
        type=_amount,
        default=5.0,
        metavar="S",
        help="how long the loader is measured, and the step; each stage, and each change, for 0.4 of that (5)",
    )
    parser.add_argument(
        "--loader",
        choices=("tf", "numpy"),
        default="tf",
        help="loaders.load, which is a tf.data pipeline (tf), or loaders.numpy.Loader",
    )


def _flag(parser: argparse.ArgumentParser, name: str, says: str) -> None:
    parser.add_argument(name, action="store_true", help=says)


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a path; found an empty one")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; found {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0; found {text!r}")
    return amount


def _add_command(add: Callable[..., argparse.ArgumentParser], name: str, says: str) -> argparse.ArgumentParser:
    """A command that Beam runs."""
    parser = add(name, help=says, epilog=BEAM)
    parser.add_argument(
        "source", type=_path, metavar="SRC", help="a directory of .npy files, in any file system that fsspec has"
    )
    _add_workers_option(parser)
    return parser


def _add_workers_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help="processes of this machine that share the work; one for each core if not given, where Beam has no runner",
    )


def _add_config_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="a YAML file")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="one key of the configuration, such as features.images.normalize=none; may be repeated",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the seed of the splits and of the order of rows")
    parser.add_argument("--preprocessing_fn", metavar="FILE.py:FN", help="your own tf.transform preprocessing_fn")
    _add_error_options(parser)


def _add_error_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on_error", choices=("fail", "skip"), help="whether a file that cannot be used is an error, or is left out"
    )
    parser.add_argument("--max_bad_files", type=int, metavar="N", help="how many files may be left out")


def _add_sync_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no_sync",
        action="store_false",
        dest="sync",
        help="do not wait until all is on the disk: for scratch, as a power cut may leave a data set of empty files",
    )


def _add_trust_option(parser: argparse.ArgumentParser) -> None:
    _flag(
        parser,
        "--trust",
        "run the data set's transform, or the preprocessing_fn it names, even if it may do more than compute: "
        "only if you trust the data set as you trust a program",
    )


def _add_thresholds(parser: argparse.ArgumentParser) -> None:
    for name, kind, says in (
        ("drift", float, "the largest shift of a mean, in deviations (0.1)"),
        ("spread", float, "the largest factor between deviations (1.25)"),
        ("missing", float, "the largest difference of rates of missing values (0.05)"),
        ("outside", float, "the largest share of values outside the range of OUT's training rows (0.01)"),
        ("new_classes", int, "how many classes training rows may lack (0)"),
        ("class_drift", float, "the largest difference of a class's shares (0.1)"),
    ):
        parser.add_argument(f"--max_{name}", type=kind, metavar="X", help=says)
