"""Measures npyflow against other tools, on data that it makes: `scripts/benchmark.py build`, `load`, `sizes`.

Every figure is a ratio: the tools run one after the other, several times, on the same rows on the same machine, and
medians are compared. Each is first checked to deliver the same rows. `scripts/benchmark_peers.sh` makes the
environments of the tools that need their own.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from peers import data as arrays  # noqa: E402  # found by the line above
from peers import digest, plots, tables  # noqa: E402
from peers.measured import FailedError, Measured, alternate, compare, say  # noqa: E402
from peers.process import Ran, memory_cap, run  # noqa: E402
from peers.sources import make, reference, warm  # noqa: E402
from peers.table_of_peers import BUILDERS, LOADERS, Peer  # noqa: E402

PACKAGES = ("apache-beam", "numpy", "tensorflow", "tensorflow-transform")
CHECK_SIZE = "tiny"
"""The size at which every tool is checked to deliver each value; npyflow is checked at the measured size too."""

ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
# Nothing is asked of other machines, nor told to them.
ENVIRONMENT |= {"HF_DATASETS_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """What all runs share.

    Attributes:
        work: The directory for data; what is measured is removed again, the sources are kept.
        environments: Where `benchmark_peers.sh` made the environments.
        seconds: How long a timed epoch may take after its first batch.
        cap: The prefix of commands that caps their memory.
    """

    work: pathlib.Path
    environments: pathlib.Path
    seconds: float
    cap: Sequence[str]

    def python(self, peer: Peer) -> str:
        """The interpreter of a peer's environment."""
        return str(self.environments / peer.environment / "bin" / "python") if peer.environment else sys.executable

    def absent(self, peer: Peer) -> str:
        """Why a peer's environment is not there, or ""."""
        if not peer.environment or (self.environments / f"{peer.environment}.made").exists():
            return ""
        failed = self.environments / f"{peer.environment}.failed"
        return (
            failed.read_text().strip() if failed.exists() else "not installed: scripts/benchmark_peers.sh was not run"
        )

    def ask(self, peer: Peer, module: str, data: arrays.Data, out: pathlib.Path, **request: Any) -> Ran:
        """Runs a module of `peers` in the peer's environment.

        Raises:
            FailedError: If it does.
        """
        began = time.time()
        request |= {"peer": module, "variant": peer.variant, "data": str(data.root.parent), "out": str(out)}
        request |= {"began": began, "seconds": self.seconds}
        path = [str(ROOT / "scripts")] + ([] if peer.environment else [str(ROOT)])
        ran = run(
            [self.python(peer), "-m", "peers.run", json.dumps(request)],
            environment=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(path)},
            cap=self.cap if request["action"] in ("build", "load") else (),
            began=began,
        )
        if ran.error:
            raise FailedError(ran.error)
        return ran

    def npyflow(self, data: arrays.Data, out: pathlib.Path, *options: str, cap: bool = True) -> Ran:
        """Builds a data set with npyflow's command line.

        Raises:
            FailedError: If it does.
        """
        settings = ["--set", "splits={train: 1.0}", "--set", f"row_axes={data.kind.row_axes}"]
        ran = run(
            [sys.executable, "-m", "pipelines.cli", "build", str(data.root), str(out), *settings, *options],
            environment=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
            cap=self.cap if cap else (),
        )
        if ran.error:
            raise FailedError(ran.error)
        return ran


def build_once(bench: Bench, peer: Peer, data: arrays.Data, out: pathlib.Path) -> Ran:
    """Builds from the sources, in place of what is in `out`."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()  # nothing of the run before is still being written
    if peer.module == "npyflow":
        return bench.npyflow(data, out, *peer.variant.split())
    return bench.ask(peer, peer.module, data, out, action="build")


def store(bench: Bench, peer: Peer, data: arrays.Data, out: pathlib.Path) -> None:
    """Writes the rows as they are in the sources, in the format that a peer loads, unless they are there already."""
    if out.exists():
        return
    if (peer.storage or peer.module) == "npyflow":
        raw = f"features.{data.kind.feature}"
        bench.npyflow(data, out, "--set", f"{raw}.impute=none", "--set", f"{raw}.normalize=none", cap=False)
    else:
        bench.ask(peer, peer.storage or peer.module, data, out, action="write")


def check(bench: Bench, peer: Peer, data: arrays.Data, out: pathlib.Path, *, normalised: bool) -> None:
    """Compares the rows that a peer delivers with those of the sources.

    Raises:
        FailedError: If they differ.
    """
    found = bench.ask(peer, peer.module, data, out, action="check", normalised=normalised, batch=256).result
    fields = [field.name for field in dataclasses.fields(digest.Digest)]
    delivered, expected = digest.Digest(**{name: found[name] for name in fields}), reference(data, normalised)
    if not (delivered.near(expected) if normalised else delivered.same_values(expected)):
        raise FailedError(f"expected the rows {expected}; found {delivered}")


def run_build(bench: Bench, options: argparse.Namespace, kind: str, peers: Sequence[Peer]) -> list[dict[str, Any]]:
    """Measures the builds of one kind."""
    data = make(bench.work, kind, options.size)
    small, nothing = (make(bench.work, kind, size) for size in (CHECK_SIZE, "nothing"))
    out = bench.work / "built"
    size = data.count * data.kind.row_bytes
    measured = [Measured(peer=peer, kind=kind, batch=0, bytes=size, rows=data.count) for peer in peers]
    for one in measured:
        try:
            build_once(bench, one.peer, small, out)
            if not one.peer.unchecked:
                check(bench, one.peer, small, out, normalised=True)
                one.verified = True
            # What a build of next to nothing takes is its start-up.
            one.startup = [build_once(bench, one.peer, nothing, out).seconds for _ in range(max(1, options.runs // 2))]
        except FailedError as error:
            one.error = str(error)
        say(f"{kind} {one.peer.name}: {one.error or 'checked'}")
    warm(data)

    def once(one: Measured) -> Ran:
        ran = build_once(bench, one.peer, data, out)
        if one.peer.name == "npyflow" and not one.seconds and data != small:
            check(bench, one.peer, data, out, normalised=True)
        return ran

    alternate(measured, once, runs=options.runs, patience=options.patience)
    shutil.rmtree(out, ignore_errors=True)
    return compare(measured)


def run_load(bench: Bench, options: argparse.Namespace, kind: str, peers: Sequence[Peer]) -> list[dict[str, Any]]:
    """Measures the loading of one kind, with each size of batches."""
    data, small = make(bench.work, kind, options.size), make(bench.work, kind, CHECK_SIZE)
    size = data.count * data.kind.row_bytes
    stored = bench.work / "stored"
    shutil.rmtree(stored, ignore_errors=True)
    errors: dict[str, str] = {}
    for peer in peers:
        name = peer.storage or peer.module
        try:
            for some, checked in ((small, True), (data, peer.name == "npyflow" and data != small)):
                out = stored / f"{name}-{some.count}"
                store(bench, peer, some, out)
                if checked:
                    check(bench, peer, some, out, normalised=False)
        except FailedError as error:
            errors[peer.name] = str(error)
        say(f"{kind} {peer.name}: {errors.get(peer.name, 'checked')}")
    expected = reference(data, normalised=False)
    records = []
    for batch in options.batches:
        measured = [
            Measured(
                peer=peer,
                kind=kind,
                batch=batch,
                bytes=size,
                rows=data.count,
                error=errors.get(peer.name, ""),
                verified=peer.name not in errors,
            )
            for peer in peers
        ]

        def once(one: Measured) -> Ran:
            out = stored / f"{one.peer.storage or one.peer.module}-{data.count}"
            asked = {"batch": one.batch, "epochs": options.epochs}
            ran = bench.ask(one.peer, one.peer.module, data, out, action="load", **asked)
            if ran.result["complete"] and (ran.result["rows"], ran.result["labels"]) != (
                expected.rows,
                expected.labels,
            ):
                raise FailedError(
                    f"expected {expected.rows} rows whose labels add up to {expected.labels}; found {ran.result}"
                )
            return ran

        alternate(measured, once, runs=options.runs, patience=options.patience)
        records += compare(measured)
    shutil.rmtree(stored, ignore_errors=True)
    return records


def run_shards(bench: Bench, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures how long npyflow takes to the first batch of data sets of few and of many shards."""
    data = make(bench.work, "tabular", CHECK_SIZE)
    size, batch = data.count * data.kind.row_bytes, options.batches[0]
    measured, places = [], {}
    for wanted in options.shards:
        out = bench.work / f"shards-{wanted}"
        shutil.rmtree(out, ignore_errors=True)
        bench.npyflow(data, out, "--set", f"shard_bytes={max(1, size // wanted)}", cap=False)
        shards = len(json.loads((out / "manifest.json").read_text())["splits"]["train"]["shards"])
        peer = dataclasses.replace(LOADERS[0], name=f"npyflow-{wanted}", says=f"`loaders.load`, {shards:,} shards")
        places[peer.name] = out
        measured.append(Measured(peer=peer, kind="shards", batch=batch, bytes=size, rows=data.count))

    def once(one: Measured) -> Ran:
        return bench.ask(one.peer, one.peer.module, data, places[one.peer.name], action="load", batch=batch)

    alternate(measured, once, runs=options.runs, patience=options.patience)
    for out in places.values():
        shutil.rmtree(out)
    return compare(measured)


def run_sizes(bench: Bench, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures npyflow's builds of tables of several sizes: in files of up to 256 MiB, in one, and of one row each."""
    out, results = bench.work / "built", []
    for layout in ("tabular", *arrays.LAYOUTS):
        row_bytes = arrays.TABULAR.row_bytes
        sizes = [rows * row_bytes for rows in options.files] if layout == "one-row-a-file" else options.bytes
        measured = []
        for size in sizes:
            made = make(bench.work, layout, size)
            warm(made)
            peer = dataclasses.replace(BUILDERS[0], says=f"{layout.replace('-', ' ')}, {made.count:,} rows")
            measured.append(
                Measured(peer=peer, kind=layout, batch=0, bytes=made.count * row_bytes, rows=made.count, startup=[0.0])
            )

        def once(one: Measured) -> Ran:
            return build_once(bench, one.peer, make(bench.work, one.kind, one.bytes), out)

        alternate(measured, once, runs=options.runs, patience=options.patience)
        results += [one.record() for one in measured]
    shutil.rmtree(out, ignore_errors=True)
    return results


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    models = sorted({line.partition(":")[2].strip() for line in lines if line.startswith("model name")})
    return {
        "cpu": ", ".join(models),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def chosen(bench: Bench, known: Sequence[Peer], wanted: Sequence[str]) -> tuple[list[Peer], dict[str, str]]:
    """The peers to measure, npyflow first, and why others cannot be."""
    peers = [peer for peer in known if peer.name == "npyflow" or not wanted or peer.name in wanted]
    missing = {peer.name: why for peer in peers if (why := bench.absent(peer))}
    return [peer for peer in peers if peer.name not in missing], missing


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs a benchmark; returns its JSON."""
    known = BUILDERS if options.command == "build" else LOADERS
    options.work.mkdir(parents=True, exist_ok=True)
    with memory_cap(options.memory) as cap:
        bench = Bench(work=options.work.resolve(), environments=options.environments, seconds=options.seconds, cap=cap)
        if options.command == "sizes":
            return described(options, run_sizes(bench, options), {})
        peers, missing = chosen(bench, known, options.peers)
        one_kind = run_build if options.command == "build" else run_load
        results = []
        for kind in options.kinds:
            results += one_kind(bench, options, kind, [peer for peer in peers if kind in peer.kinds])
        if options.command == "load" and options.shards:
            results += run_shards(bench, options)
    return described(options, results, missing)


def described(options: argparse.Namespace, results: list[dict[str, Any]], missing: dict[str, str]) -> dict[str, Any]:
    """Results with the conditions in which they were measured."""
    return {
        "command": options.command,
        "size": getattr(options, "size", ""),
        "runs": options.runs,
        "memory": options.memory,
        "epochs": getattr(options, "epochs", 1),
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "results": results,
        "missing": missing,
    }


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}; found {', '.join(unknown)}")
        return names

    return parse


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, known in (("build", BUILDERS), ("load", LOADERS)):
        command = commands.add_parser(name, help=f"measure {name}ing")
        command.add_argument("--size", choices=[*arrays.SIZES][1:], default="medium")
        command.add_argument("--kinds", type=_names([*arrays.KINDS]), default=[*arrays.KINDS], metavar="NAME,…")
        command.add_argument("--peers", type=_names([peer.name for peer in known]), default=[], metavar="NAME,…")
        _add_common(command)
    load = commands.choices["load"]
    load.add_argument("--seconds", type=float, default=20, help="how long an epoch goes on after its first batch")
    load.add_argument(
        "--epochs", type=int, default=1, help="the epoch that is measured; those before it count as start-up"
    )
    load.add_argument("--batches", type=_numbers, default=[256, 1024], metavar="N,…", help="sizes of batches")
    load.add_argument(
        "--shards", type=_numbers, default=[], metavar="N,…", help="also time the first batch of so many shards"
    )
    sizes = commands.add_parser("sizes", help="measure builds of several sizes, and of few and many files")
    sizes.add_argument("--bytes", type=_numbers, default=[125 * 10**6 * 2**i for i in range(5)], metavar="N,…")
    sizes.add_argument("--files", type=_numbers, default=[12_500, 25_000, 50_000, 100_000], metavar="N,…")
    _add_common(sizes)
    plot = commands.add_parser("plot", help="draw results that were written before")
    plot.add_argument("file", type=pathlib.Path)
    plot.add_argument("image", type=pathlib.Path, help="the drawing, .svg or .png")
    table = commands.add_parser("table", help="print the tables of results that were written before")
    table.add_argument("files", type=pathlib.Path, nargs="+")
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--runs", type=int, default=5)
    command.add_argument("--patience", type=float, default=300, help="a run of more seconds is not repeated")
    command.add_argument("--memory", type=int, metavar="BYTES", help="cap of the memory of a timed run")
    command.add_argument("--work", type=pathlib.Path, default=ROOT / "out" / "benchmark", metavar="DIR")
    command.add_argument("--environments", type=pathlib.Path, default=ROOT / "out" / "peers", metavar="DIR")
    command.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results here too")
    command.set_defaults(seconds=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 1 if a tool failed or delivered other rows."""
    options = make_parser().parse_args(arguments)
    if options.command == "table":
        print("\n\n".join(tables.show(json.loads(path.read_text())) for path in options.files))
        return 0
    if options.command == "plot":
        plots.draw(json.loads(options.file.read_text()), options.image)
        return 0
    found = measure(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(tables.show(found))
    return 1 if any(record["error"] for record in found["results"]) else 0


if __name__ == "__main__":
    sys.exit(main())
