"""Plans a build of 100 TB for 10,000 workers, and opens its million shards: what grows with the size is measured.

python scripts/scale.py     100 TB in 1,000,000 files, 1,000,000 shards, 10,000 workers
python scripts/scale.py --terabytes 1 --files 10000 --shards 10000 --workers 100

No value is read or written. The files are a listing and headers, in a file system that makes them up (`scale://`). What
a build does with those on its driver is the real code: listing, headers, checks, plan, lists of tasks and shards,
manifest. So is what a worker does before its first row, and a loader up to its first batches, of small shards. To
read, compute and write the rows is not done but counted, in the last table. Memory is what a step needed beside what
was held.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import math
import multiprocessing
import pathlib
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from fsspec import AbstractFileSystem, register_implementation

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import loaders
from loaders.format import names
from loaders.format.encode import encode_records
from loaders.format.manifest import Manifest, Shard
from loaders.format.record_layout import record_bytes, record_layout
from loaders.format.spec import FeatureSpec
from loaders.numpy import Loader
from pipelines.config.schema import parse_config
from pipelines.output.directory import Output
from pipelines.output.tasks import Written, read_shard_list, write_shard_list
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.publish.croissant import make_croissant
from pipelines.publish.manifest import gather
from pipelines.runners.handoff import Handoff, hand_over
from pipelines.sources.headers import OPEN_AT_ONCE
from pipelines.sources.provenance import Provenance, raw_specs
from pipelines.sources.table import scan

T = TypeVar("T")

WIDTH = 340
"""The float32 values of a row, which has a label of 8 bytes beside them."""

SHARD_ROWS, SHARD_WIDTH = 16, 4096
"""The rows of each shard that is loaded, and their float32 values: a quarter of a MiB."""


class MadeUp(AbstractFileSystem):  # type: ignore[misc]
    """`scale://`: files of which there are a name, a size and the first bytes."""

    protocol = "scale"
    sizes: ClassVar[Mapping[str, int]] = {}
    content: ClassVar[Callable[[str], bytes]]

    def find(self, path: str, detail: bool = False, **_: Any) -> Any:
        """All files, as one root has them."""
        found = {name: {"name": name, "size": size, "mtime": 1e9} for name, size in self.sizes.items()}
        return found if detail else list(found)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """The size of a file."""
        path = self._strip_protocol(path)
        if path in self.sizes:
            return {"name": path, "size": self.sizes[path], "type": "file", "mtime": 1e9}
        return {"name": path, "size": 0, "type": "directory"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """What is known of a file, in a range of it."""
        return type(self).content(self._strip_protocol(path))[start:end]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return io.BytesIO(self.cat_file(path))


register_implementation("scale", MadeUp, clobber=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """What was done.

    Attributes:
        name: What it is.
        seconds: The processor's time that it took; other programs do not matter.
        memory: The bytes that it needed beside what was held; None where the system does not say.
        made: What came out.
    """

    name: str
    seconds: float
    memory: int | None
    made: str


class Steps(list[Step]):
    """Steps one after the other."""

    def do(self, name: str, work: Callable[[], T], describe: Callable[[T], str]) -> T:
        """Does one and measures it."""
        held = _restart_peak()
        begun = time.process_time()
        found = work()
        seconds = time.process_time() - begun
        memory = None if held is None else max(_status("VmHWM") - held, 0)
        self.append(Step(name=name, seconds=seconds, memory=memory, made=describe(found)))
        print(f"scale: {name}: {seconds:.1f} s", file=sys.stderr, flush=True)
        return found


def _restart_peak() -> int | None:
    """Lets the peak of this process's memory begin anew; its memory now, or None where Linux does not say."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(key: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def make_sources(files: int, terabytes: float) -> None:
    """Makes up half as many files of features, and as many of labels with as many rows."""
    parts = files // 2
    rows = int(terabytes * 1e12 / parts / (4 * WIDTH + 8))
    headers, sizes = {}, {}
    for feature, dtype, shape in (("features", "<f4", (WIDTH,)), ("labels", "<i8", ())):
        file = io.BytesIO()
        description = {"descr": dtype, "fortran_order": False, "shape": (rows, *shape)}
        np.lib.format.write_array_header_1_0(file, description)
        headers[feature] = file.getvalue()
        size = len(headers[feature]) + rows * math.prod(shape) * np.dtype(dtype).itemsize
        sizes |= {f"bucket/{feature}/{number:07d}.npy": size for number in range(parts)}
    MadeUp.sizes, MadeUp.content = sizes, lambda path: headers[path.split("/")[1]]


def plan_build(steps: Steps, *, shards: int, directory: pathlib.Path) -> tuple[Plan, Handoff[Plan]]:
    """What the driver does before a row is read."""
    config = parse_config({"shard_bytes": 2**40})
    table = steps.do(
        "sources listed, headers read and checked",
        lambda: scan("scale://bucket", config),
        lambda table: f"{len(table.parts):,} parts, {table.nbytes / 1e12:,.0f} TB",
    )
    # Each task writes a shard of every split, and the largest has 0.8 of the rows.
    each = math.ceil(table.nbytes * 0.8 / (shards / 3))
    config = parse_config({"shard_bytes": max(each, 1)})
    plan = steps.do(
        "plan made",
        lambda: make_plan(table, resolve_config(config, table)),
        lambda plan: f"{plan.task_count:,} tasks of {plan.config.shard_bytes / 2**20:,.0f} MiB a shard",
    )
    steps.do(
        "tasks, and units of pass 1, listed for a job",
        lambda: pickle.dumps((list(range(plan.task_count)), plan.training_units.runs())),
        lambda listed: f"{len(plan.training_units):,} units; {show(len(listed))} in the job's graph",
    )
    path = directory / "plan"
    handed = steps.do(
        "plan written for the workers", lambda: hand_over(plan, str(path)), lambda _: show(path.stat().st_size)
    )
    steps.do("fingerprint of the sources", lambda: plan.table.fingerprint(modified=False), lambda _: "32 digits")
    return plan, handed


def _work(handed: Handoff[Plan], pipe: Any) -> None:
    """What a worker does before it reads, in a process of its own."""
    steps = Steps()
    plan = steps.do("worker: plan loaded", handed.load, lambda plan: "once a process")
    steps.do(
        "worker: blocks of its first task", lambda: plan.blocks(plan.task(0)), lambda found: f"{len(found)} blocks"
    )
    last = plan.task(plan.task_count - 1)
    steps.do("worker: blocks of its last task", lambda: plan.blocks(last), lambda found: f"{len(found)} blocks")
    spans = plan.blocks(plan.task(0))
    steps.do("worker: order of the task's rows", lambda: plan.row_order(spans), lambda order: f"{len(order):,} rows")
    pipe.send(list(steps))


def elsewhere(target: Callable[..., None], argument: object) -> list[Step]:
    """The steps of a function in a process of its own, which holds nothing before."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(argument, there))
    process.start()
    there.close()  # so that a process that fails ends the waiting
    found: list[Step] = here.recv()
    process.join()
    return found


def _written(plan: Plan) -> list[Written]:
    """What each task would say that it has written: the rows dealt out evenly, divided by the splits' fractions."""
    specs, held, left = plan.specs, plan.rows_per_record, plan.table.rows
    bytes_of = functools.cache(functools.partial(_shard_bytes, specs, held))
    found = []
    for number in range(plan.task_count):
        own = left // (plan.task_count - number)
        left -= own
        rows = {"train": own - 2 * (own // 10), "validation": own // 10, "test": own // 10}
        shards = {
            split: Shard(file=plan.shard_file(split, number), rows=count, bytes=bytes_of(count), crc32c=f"{number:08x}")
            for split, count in rows.items()
        }
        found.append(Written(shards=shards, dropped=0))
    return found


def _shard_bytes(specs: tuple[FeatureSpec, ...], rows_per_record: int, rows: int) -> int:
    full, left = divmod(rows, rows_per_record)
    last = record_bytes(specs, rows_per_record, rows=left) if left else 0
    return full * record_bytes(specs, rows_per_record) + last


def publish(steps: Steps, plan: Plan, directory: pathlib.Path) -> Manifest:
    """What the driver does when all shards are written."""
    output = Output(str(directory))
    path = pathlib.Path(output.shard_list)
    path.parent.mkdir(parents=True, exist_ok=True)
    steps.do(
        "list of shards written",
        functools.partial(write_shard_list, _written(plan), output),
        lambda _: show(path.stat().st_size),
    )
    written = steps.do("list of shards read", lambda: read_shard_list(output), lambda found: f"{len(found):,} tasks")
    splits = steps.do(
        "shards and rows checked against the plan",
        lambda: gather(plan, written),
        lambda splits: f"{sum(map(len, splits.values())):,} shards",
    )
    sources = steps.do("sources.json made", lambda: Provenance.of(plan.table).dumps(), lambda text: show(len(text)))
    steps.do(
        "sources.json read", lambda: Provenance.loads(sources, path=""), lambda found: f"{len(found.parts):,} parts"
    )
    manifest = manifest_of(plan, splits)
    steps.do("croissant.json made", lambda: make_croissant(manifest), lambda text: show(len(text)))
    text = steps.do("manifest made", manifest.dumps, lambda text: show(len(text)))
    steps.do("manifest read", lambda: Manifest.loads(text), lambda found: f"{found.rows('train'):,} rows of train")
    return manifest


def manifest_of(plan: Plan, splits: Mapping[str, tuple[Shard, ...]]) -> Manifest:
    """The manifest of these shards."""
    return Manifest(
        features=plan.specs,
        splits=splits,
        files=(),
        rows_per_record=plan.rows_per_record,
        record_bytes=record_bytes(plan.specs, plan.rows_per_record),
        seed=0,
        source_fingerprint="",
        transform=None,
        config=plan.config.dump(),
        versions={},
        sources=raw_specs(plan.table),
    )


def show(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e3:,.0f} kB"


def _load(shards: int, pipe: Any) -> None:
    """What a loader of as many shards does, up to its first batch; all shards hold the same few rows."""
    steps = Steps()
    x = np.arange(SHARD_ROWS * SHARD_WIDTH, dtype=np.float32).reshape(SHARD_ROWS, SHARD_WIDTH)
    spec = FeatureSpec(name="x", dtype="float32", shape=(SHARD_WIDTH,))
    one = encode_records(record_layout((spec,), rows=SHARD_ROWS, rows_per_record=SHARD_ROWS), {"x": x}).tobytes()
    files = tuple(
        Shard(file=f"train/train-{number:07d}.tfrecord", rows=SHARD_ROWS, bytes=len(one), crc32c="00000000")
        for number in range(shards)
    )
    manifest = Manifest(
        features=(spec,),
        splits={"train": files},
        files=(),
        rows_per_record=SHARD_ROWS,
        record_bytes=len(one),
        seed=0,
        source_fingerprint="",
        transform=None,
        config={},
        versions={},
    )
    text = manifest.dumps().encode()
    del manifest
    MadeUp.sizes = {f"data/{shard.file}": len(one) for shard in files} | {f"data/{names.MANIFEST}": len(text)}
    MadeUp.content = lambda path: text if path.endswith(names.MANIFEST) else one
    steps.do("loaders.open", lambda: loaders.open("scale://data"), lambda found: f"{found.splits['train']:,} rows")
    loader = steps.do(
        "loader made",
        lambda: Loader("scale://data", "train", batch_size=256),
        lambda found: f"{len(found):,} batches",
    )
    batches = iter(loader)
    steps.do("first batch of an epoch", lambda: next(batches), lambda batch: f"{len(batch['x'])} rows of all shards")
    more = min(100, len(loader) - 2)
    steps.do("more batches", lambda: [next(batches) for _ in range(more)], lambda found: f"{len(found)} of 256 rows")
    state = steps.do("state of the loader", loader.state_dict, lambda state: f"{len(pickle.dumps(state))} bytes")
    steps.do("new loader at this state", lambda: _resume(state), lambda batch: f"its {len(batch['x'])} rows")
    pipe.send(list(steps))


def _resume(state: Mapping[str, Any]) -> Any:
    loader = Loader("scale://data", "train", batch_size=256)
    loader.load_state_dict(state)
    return next(iter(loader))


def count(plan: Plan, workers: int, megabytes: float) -> list[tuple[str, str]]:
    """What is not done here, counted: how much there is of it, and what it comes to."""
    table, tasks = plan.table, plan.task_count
    sources = sum(len(part.sources) for part in table.parts)
    blocks = sum(plan.block_count(group) for group in range(len(plan.groups)))
    requests = (blocks + len(plan.training_units)) * sources // len(table.parts)
    minutes = 2 * table.nbytes / (workers * megabytes * 1e6) / 60
    return [
        ("requests for a listing", f"{math.ceil(sources / 1000):,} of 1,000 names"),
        (
            "headers",
            f"{sources:,} requests; on the driver {sources * 0.05 / OPEN_AT_ONCE / 60:,.0f} minutes at 50 ms each",
        ),
        ("rows", f"{table.rows:,}"),
        ("requests for rows", f"{requests:,} in both passes; {requests // workers:,} a worker"),
        ("partial sums of pass 1", f"{len(plan.training_units.runs()):,}"),
        ("tasks", f"{tasks:,}; {math.ceil(tasks / workers)} waves of {workers:,} workers"),
        ("records of tasks", f"{tasks:,} small files, listed with {math.ceil(tasks / 1000):,} requests"),
        ("rows read", f"{2 * table.nbytes / 1e12:,.0f} TB; {minutes:,.1f} minutes, at {megabytes:g} MB/s a worker"),
    ]


def report(steps: list[Step], counted: list[tuple[str, str]]) -> Iterator[str]:
    """Two tables in Markdown."""
    yield from ("| done here | seconds of a core | memory | |", "| --- | ---: | ---: | --- |")
    for step in steps:
        memory = "?" if step.memory is None else show(step.memory)
        yield f"| {step.name} | {step.seconds:.2f} | {memory} | {step.made} |"
    yield from ("", "| counted | |", "| --- | --- |")
    yield from (f"| {name} | {what} |" for name, what in counted)


def simulate(*, terabytes: float, files: int, shards: int, workers: int, megabytes: float) -> tuple[list[Step], Any]:
    """All of it."""
    steps = Steps()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        make_sources(files, terabytes)
        plan, handed = plan_build(steps, shards=shards, directory=directory)
        steps += elsewhere(_work, handed)
        publish(steps, plan, directory)
    steps += elsewhere(_load, shards)
    return steps, count(plan, workers, megabytes)


def main() -> None:
    """Prints what was measured and counted."""
    parser = argparse.ArgumentParser(description="Plans a build and opens its shards; no row is read.")
    parser.add_argument("--terabytes", type=float, default=100, metavar="N", help="the size of the sources (100)")
    parser.add_argument("--files", type=int, default=1_000_000, metavar="N", help="how many there are (1,000,000)")
    parser.add_argument("--shards", type=int, default=1_000_000, metavar="N", help="about so many (1,000,000)")
    parser.add_argument("--workers", type=int, default=10_000, metavar="N", help="how many share the work (10,000)")
    parser.add_argument("--megabytes", type=float, default=100, metavar="N", help="what each reads in a second (100)")
    for line in report(*simulate(**vars(parser.parse_args()))):
        print(line)


if __name__ == "__main__":
    main()
