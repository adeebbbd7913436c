"""Jobs of Dataflow: their graph as DataflowRunner makes it, and what their workers have and do."""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from pipelines.analyze import fit, rounds
from pipelines.analyze.accumulate import add_units
from pipelines.config.schema import parse_config
from pipelines.errors import GraphWritten
from pipelines.maintain.verify import verify
from pipelines.output.directory import Output, read_manifest
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.sources.table import scan
from pipelines.write.shards import write_task
from tests.support import dataflow_service, own_pipeline
from tests.support.arrays import write_files
from tests.support.builds import build

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGE = "example.com/npyflow:1"
CONFIG = {"shard_bytes": 65536, "features": {"x": {"impute": "median", "normalize": "zscore"}}}

COMPOSITES = (  # whose inside is Beam's or tf.transform's
    "List",
    "Reshuffle",
    "KnowNothing",
    "AddUp",
    "GatherShards",
    "ListUnits",
    "DistributeUnits",
    "ExportTransform/Analyze",
    "WriteTransform",
)

STEPS = [
    "Analyze/LearnFromRows/AddUnits0/List",
    "Analyze/LearnFromRows/AddUnits0/Reshuffle",
    "Analyze/LearnFromRows/AddUnits0/Call",
    "Analyze/LearnFromRows/AddUp0",
    "Analyze/LearnFromRows/LearnRound0",
    "Analyze/LearnFromRows/LeaveSample1",
    "Analyze/LearnFromRows/AddUnits1/List",
    "Analyze/LearnFromRows/AddUnits1/Reshuffle",
    "Analyze/LearnFromRows/AddUnits1/Call",
    "Analyze/LearnFromRows/AddUp1",
    "Analyze/LearnFromRows/LearnRound1",
    "Analyze/KeepLearned",
    "Analyze/ExportTransform/ExportTransform",
    "Analyze/MarkDone",
    "Write/WriteShards/List",
    "Write/WriteShards/Reshuffle",
    "Write/WriteShards/Call",
    "Write/GatherShards",
    "Write/KeepShardList",
]


def make_arrays(root, *, parts=3, rows=12_000):
    rng = np.random.default_rng(5)
    x = rng.normal(3, 2, (rows, 8)).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    arrays = {f"x-{part}.npy": piece for part, piece in enumerate(np.split(x, parts))}
    labels = np.arange(rows, dtype=np.int64)
    return write_files(root, arrays | {f"y-{part}.npy": piece for part, piece in enumerate(np.split(labels, parts))})


class Graph:
    """A job as DataflowRunner would submit it.

    Attributes:
        job: The job, as JSON values.
        pipeline: Its graph.
        transforms: The steps of the graph by their ids.
        producer: The id of the step without parts that makes a collection.
        parent: The id of the step that a step is a part of.
    """

    def __init__(self, root, submit, *options):
        (root / "staging").mkdir(parents=True)
        arguments = [
            "--runner=DataflowRunner --project=p --region=us-central1 --job_name=j --no_auth",
            f"--temp_location={root}/temp --staging_location={root}/staging --template_location={root}/job.json",
            "--dataflow_endpoint=http://localhost:9",
        ]
        with pytest.raises(GraphWritten, match=r"job\.json: the graph of the job; nothing has run"):
            submit(root / "out", [*" ".join(arguments).split(), *options])
        self.job = json.loads((root / "job.json").read_text())
        self.pipeline = dataflow_service.read_pipeline(str(root / "staging" / "pipeline.pb"))
        self.transforms = self.pipeline.components.transforms
        self.parent = {part: number for number, step in self.transforms.items() for part in step.subtransforms}
        leaves = {number: step for number, step in self.transforms.items() if not step.subtransforms}
        self.producer = {made: number for number, step in leaves.items() for made in step.outputs.values()}

    @classmethod
    def of_build(cls, source, root, config, *options):
        """The job of a build."""
        config = parse_config(config)
        return cls(root, lambda output, options: build(source, output, config, beam_options=options), *options)

    @classmethod
    def of_own_pipeline(cls, source, root, *options):
        """The job of a user's own pipeline, whose functions are in no module that a worker has."""
        run = runpy.run_path(own_pipeline.__file__)["run"]
        return cls(root, lambda output, options: run(source, str(output), options), *options)

    def own_step(self, number):
        """The name of the step of npyflow that a step is, or is a part of."""
        path, found = [number], None
        while path[-1] in self.parent:
            path.append(self.parent[path[-1]])
        for above in reversed(path):
            name = self.transforms[above].unique_name
            if name and (not self.transforms[above].subtransforms or re.search(rf"({'|'.join(COMPOSITES)})\d*$", name)):
                found = name
                break
        return found

    def steps(self):
        """The names of npyflow's steps, in the order of the graph."""
        leaves = [number for number, step in self.transforms.items() if not step.subtransforms]
        return list(dict.fromkeys(self.own_step(number) for number in self._in_order() if number in set(leaves)))

    def _in_order(self):
        pending = list(reversed(self.pipeline.root_transform_ids))
        while pending:
            number = pending.pop()
            yield number
            pending += reversed(self.transforms[number].subtransforms)

    def payloads(self):
        """What travels in each step: pickled functions, and the elements of lists."""
        return {step.unique_name: step.spec.payload for step in self.transforms.values()}

    def pardos(self):
        for number, step in self.transforms.items():
            if step.spec.urn == "beam:transform:pardo:v1":
                yield number, step, beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)

    def before(self, number):
        """The names of npyflow's steps whose elements a step's input is made of."""
        own = self.own_step(number)
        pending, found, seen = [number], set(), set()
        while pending:
            step = self.transforms[pending.pop()]
            for made in step.inputs.values():
                maker = self.producer[made]
                if self.own_step(maker) != own:
                    found.add(self.own_step(maker))
                elif maker not in seen:
                    seen.add(maker)
                    pending.append(maker)
        return found


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_arrays(tmp_path_factory.mktemp("dataflow") / "src")


@pytest.fixture(scope="module")
def graph(source, tmp_path_factory):
    return Graph.of_build(source, tmp_path_factory.mktemp("graph") / "job", CONFIG)


@pytest.mark.slow
def test_the_steps_and_their_names(graph):
    assert graph.steps() == STEPS


def test_what_is_grouped_by_key(graph):
    """Numbers of units and tasks, and what has been added up over them; never what they read."""
    grouped = {}
    for number, step in graph.transforms.items():
        if step.spec.urn == "beam:transform:group_by_key:v1":
            grouped.setdefault(graph.own_step(number), set()).update(graph.before(number))
    assert grouped == {
        **{f"Analyze/LearnFromRows/AddUnits{n}/Reshuffle": {f"Analyze/LearnFromRows/AddUnits{n}/List"} for n in (0, 1)},
        **{f"Analyze/LearnFromRows/AddUp{n}": {f"Analyze/LearnFromRows/AddUnits{n}/Call"} for n in (0, 1)},
        "Write/WriteShards/List": set(),  # spreads its own numbers
        "Write/WriteShards/Reshuffle": {"Write/WriteShards/List"},
        "Write/GatherShards": {"Write/WriteShards/Call"},
    }


def test_what_was_added_up_and_written_does_not_grow_with_the_rows(tmp_path):
    sizes = []
    for rows in (3_000, 300_000):
        table = scan(make_arrays(tmp_path / f"src{rows}", rows=rows), parse_config({"shard_bytes": 2**30}))
        plan = make_plan(
            table, resolve_config(parse_config({"features": {"x": {"impute": "none", "normalize": "none"}}}), table)
        )
        features = rounds.analyzed_features(plan)
        needs = rounds.schedule(features.values())[0]
        added = add_units(plan.training_units.runs()[0], plan, needs, fit.begin(features.values()))
        written = write_task(next(iter(plan.tasks())), plan, Output(str(tmp_path / "out")))
        sizes.append((len(pickle.dumps(added)), len(pickle.dumps(written))))
    assert sizes[1][0] < 1.2 * sizes[0][0] < 200_000  # most of it the sample of 2,048 rows
    assert sizes[1][1] < 1.2 * sizes[0][1] < 1_000


def test_side_inputs_have_one_element(graph):
    """What makes them makes one element, whatever is built."""
    taken = {}
    for number, step, payload in graph.pardos():
        for name in payload.side_inputs:
            maker = graph.own_step(graph.producer[step.inputs[name]])
            if maker != graph.own_step(number):
                taken.setdefault(graph.own_step(number), set()).add(maker)
    assert taken == {
        "Analyze/LearnFromRows/AddUnits1/Call": {"Analyze/LearnFromRows/LeaveSample1"},
        "Analyze/LearnFromRows/LearnRound1": {"Analyze/LearnFromRows/LearnRound0"},
        "Write/WriteShards/Call": {"Analyze/MarkDone"},
    }


@pytest.mark.slow
def test_pickled_functions_are_small_however_many_files_there_are(graph, tmp_path):
    many = Graph.of_build(make_arrays(tmp_path / "src", parts=100), tmp_path / "job", CONFIG)
    few, many = ({name: len(payload) for name, payload in found.payloads().items()} for found in (graph, many))
    assert few.keys() == many.keys()
    assert max(few.values()) < 8_192
    longer = 100  # the paths of the output differ in length, and lists in the numbers of units
    assert all(many[name] < size + longer for name, size in few.items())


@pytest.mark.slow
def test_for_a_function_of_the_user_rows_are_read_and_not_grouped(source, tmp_path):
    module = tmp_path / "mine.py"
    module.write_text(MODULE)
    (tmp_path / "helpers.py").write_text(HELPERS)
    found = Graph.of_build(source, tmp_path / "job", {"preprocessing_fn": f"{module}:scale", "shard_bytes": 65536})
    reads = "Analyze/ExportTransform/ReadRecordBatches"
    assert [step for step in found.steps() if "ExportTransform" in step] == [
        f"{reads}/ListUnits",
        f"{reads}/DistributeUnits",
        f"{reads}/TakeUnit/Keys",
        f"{reads}/ToRecordBatch",
        "Analyze/ExportTransform/Analyze",
        "Analyze/ExportTransform/WriteTransform",
        "Analyze/ExportTransform/PutTransform",
    ]
    for number, step in found.transforms.items():
        if step.spec.urn == "beam:transform:group_by_key:v1" and reads in step.unique_name:
            assert found.before(number) <= {f"{reads}/ListUnits"}


def make_own_arrays(root, *, parts=3):
    rng = np.random.default_rng(5)
    arrays = {f"features-{part}.npy": rng.normal(size=(200, 16)).astype(np.float32) for part in range(parts)}
    return write_files(root, arrays | {f"labels-{part}.npy": rng.integers(0, 4, 200) for part in range(parts)})


@pytest.fixture(scope="module")
def own_graph(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    return Graph.of_own_pipeline(make_own_arrays(root / "src"), root / "job")


def test_a_pipeline_of_ones_own_reads_by_a_splittable_function(own_graph):
    """What was not begun of its ranges can be given to another worker; rows are shuffled once."""
    split = [step.unique_name for _, step, payload in own_graph.pardos() if payload.restriction_coder_id]
    assert split == ["ReadNpy/Read"]
    assert "beam:requirement:pardo:splittable_dofn:v1" in own_graph.pipeline.requirements
    steps = own_graph.transforms.values()
    grouped = {step.unique_name for step in steps if step.spec.urn == "beam:transform:group_by_key:v1"}
    assert grouped == {  # by the number of the shard; the others group what was counted
        "WriteDataset/ToShards",
        "WriteDataset/AddUp/CombinePerKey/GroupByKey",
        "WriteDataset/Gather/Gather/CombinePerKey/GroupByKey",
    }


def test_the_graph_of_a_pipeline_of_ones_own_stays_below_the_limit_of_dataflow(own_graph, tmp_path):
    """Its files take some twenty bytes each, so that 250,000 of them fit into 10 MB."""
    many = Graph.of_own_pipeline(make_own_arrays(tmp_path / "src", parts=500), tmp_path / "job")
    few, many = (len(found.pipeline.SerializeToString()) for found in (own_graph, many))
    assert few < 100_000
    assert (many - few) / (1_000 - 6) < 40


# What runs.

MODULE = """
import helpers
import tensorflow as tf
import tensorflow_transform as tft

TABLE = {"shift": 3}

def scale(inputs):
    x = helpers.fill(inputs["x"])
    return {"x": helpers.Shift(TABLE["shift"]).of(x), "largest": x * 0 + tft.max(x), "y": inputs["y"]}
"""

HELPERS = """
import tensorflow as tf

class Shift:
    def __init__(self, by):
        self.by = by

    def of(self, x):
        return x + self.by

def fill(x):
    return tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)
"""


@pytest.fixture
def command(tmp_path):
    """Runs the script with the command line of this checkout; returns what it printed."""
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    (bin_directory / "npyflow").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipelines.cli "$@"\n')
    (bin_directory / "npyflow").chmod(0o755)
    path = f"{bin_directory}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(*arguments, returncode=0):
        script = ["bash", str(ROOT / "scripts" / "dataflow.sh"), *map(str, arguments)]
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == returncode, done.stdout + done.stderr
        return done.stdout if returncode == 0 else done.stderr

    return run


JOB = ("--project=p", "--region=us-central1", "--name=j")


@pytest.mark.slow
def test_the_script_prints_the_whole_command(command, source):
    printed = command(
        source, "gs://b/sets/one/", *JOB, f"--image={IMAGE}", "--set=shard_bytes=64KiB", "--disk=50", "--print"
    )
    assert printed.split() == [
        "npyflow",
        "build",
        source,
        "gs://b/sets/one/",
        "--runner=DataflowRunner",
        *("--project=p", "--region=us-central1", "--job_name=j"),
        "--temp_location=gs://b/sets/_dataflow-j/temp",
        "--staging_location=gs://b/sets/_dataflow-j/staging",
        "--machine_type=n2-standard-4",  # 8 tasks of 64 KiB
        "--max_num_workers=2",
        "--autoscaling_algorithm=THROUGHPUT_BASED",
        "--disk_size_gb=50",
        "--number_of_worker_harness_threads=1",
        f"--sdk_container_image={IMAGE}",
        "--sdk_location=container",
        "--set=shard_bytes=64KiB",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gs://b/x", *JOB], "expected two places, of the arrays and of the data set; found 1"),
        (["gs://b/x", "gs://b/y", "--region=r"], "expected --project=PROJECT; found none"),
        (["gs://b/x", "gs://b/y", "--project=p"], "expected --region=REGION; found none"),
        (["gs://b/x", "gs://b/", *JOB, "--machine=m"], "expected --work=gs://"),
    ],
)
def test_what_the_script_needs(command, arguments, message):
    assert f"dataflow.sh: {message}" in command(*arguments, "--print", returncode=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "shard", "expected"),
    [
        (10**3, "128MiB", "n2-standard-4 --max_num_workers=60"),
        (10**3, "8GiB", "n2-highmem-4 --max_num_workers=1"),
        (10**3, "40GiB", "n2-highmem-4 --max_num_workers=1 --experiments=no_use_multiple_sdk_containers"),
    ],
)
def test_machines_follow_from_the_plan(row, shard, expected, tmp_path):
    """A file without its data: the script reads headers only."""
    with open(tmp_path / "x.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**7, row)})
        file.truncate(file.tell() + row * 10**7)
    script = [
        sys.executable,
        str(ROOT / "scripts" / "dataflow_machine.py"),
        str(tmp_path),
        f"--set=shard_bytes={shard}",
    ]
    found = subprocess.run(
        script, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert found.stdout == f"--machine_type={expected}\n"


@pytest.mark.slow
def test_options_of_the_script_arrive_in_the_job(command, source, tmp_path):
    (tmp_path / "work" / "staging").mkdir(parents=True)
    command(
        *(source, tmp_path / "out", *JOB, f"--image={IMAGE}", f"--work={tmp_path}/work"),
        *(
            "--machine=n2-highmem-2",
            "--disk=50",
            "--max_workers=7",
            "--no_auth",
            "--dataflow_endpoint=http://localhost:9",
        ),
        *(f"--template_location={tmp_path}/job.json", "--worker_zone=us-central1-a"),
    )
    job = json.loads((tmp_path / "job.json").read_text())
    assert (job["name"], job["type"]) == ("j", "JOB_TYPE_BATCH")
    assert job["environment"]["tempStoragePrefix"] == f"{tmp_path}/work/temp"
    (pool,) = job["environment"]["workerPools"]
    assert (pool["machineType"], pool["diskSizeGb"], pool["numThreadsPerWorker"]) == ("n2-highmem-2", 50, 1)
    assert pool["autoscalingSettings"] == {"algorithm": "AUTOSCALING_ALGORITHM_BASIC", "maxNumWorkers": 7}
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    options = job["environment"]["sdkPipelineOptions"]["options"]
    assert (options["region"], options["project"], options["streaming"]) == ("us-central1", "p", False)
    assert options["worker_zone"] == "us-central1-a"


@pytest.mark.slow
def test_a_job_from_the_script_to_the_data_set(command, source, tmp_path):
    """The workers have the package that the job brings, and nothing of the user's own files."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.py").write_text(MODULE)
    (tmp_path / "mine" / "helpers.py").write_text(HELPERS)
    (tmp_path / "work" / "staging").mkdir(parents=True)
    configuration = ["--set=shard_bytes=64KiB", f"--preprocessing_fn={tmp_path}/mine/mine.py:scale"]
    service = dataflow_service.Service(tmp_path)
    with service.serving() as address:
        printed = command(
            *(source, tmp_path / "out", *JOB, f"--work={tmp_path}/work", "--machine=n2-standard-4"),
            *("--no_auth", f"--dataflow_endpoint={address}", *configuration),
        )
    assert service.errors == []
    assert f"{tmp_path}/out is built" in printed
    staged = dataflow_service.staged_files(dataflow_service.read_pipeline(f"{tmp_path}/work/staging/pipeline.pb"))
    assert {"workflow.tar.gz", "requirements.txt"} <= staged.keys()
    check_requirements(staged["requirements.txt"].read_text().splitlines())
    alone = build(
        source,
        tmp_path / "alone",
        parse_config({"shard_bytes": 65536, "preprocessing_fn": f"{tmp_path}/mine/mine.py:scale"}),
    )
    assert verify(str(tmp_path / "out")).problems == ()
    assert read_manifest(str(tmp_path / "out")).splits == alone.splits


def check_requirements(lines):
    pins = [line.partition(";")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    assert set(lines) <= set(pins)
    named = {line.split("==")[0] for line in lines}
    assert named >= {
        "apache-beam",
        "gcsfs",
        "numpy",
        "pydantic",
        "PyYAML",
        "tensorflow",
        "tensorflow-transform",
        "tfx-bsl",
    }
    assert not named & {"pytest", "ruff", "mypy", "mlxtend", "matplotlib"}


@pytest.mark.slow
def test_a_graph_that_is_run_later_makes_the_same_data_set(source, tmp_path):
    later = Graph.of_build(source, tmp_path / "job", CONFIG, f"--setup_file={ROOT}/setup.py")
    assert not list((tmp_path / "job" / "out").rglob("*.tfrecord"))
    dataflow_service.run_on_workers(later.pipeline, tmp_path / "workers")
    assert not (tmp_path / "job" / "out" / "manifest.json").exists()
    manifest = build(source, tmp_path / "job" / "out", parse_config(CONFIG))
    assert manifest.splits == build(source, tmp_path / "alone", parse_config(CONFIG)).splits
    assert not [path for path in (tmp_path / "job" / "out").rglob("*") if path.name.startswith((".", "_"))]


@pytest.mark.slow
def test_a_pipeline_of_ones_own_makes_the_same_data_set_on_workers(tmp_path):
    """They have the package that the job brings, and no other file than the arrays."""
    source = make_own_arrays(tmp_path / "src")
    job = Graph.of_own_pipeline(source, tmp_path / "job", f"--setup_file={ROOT}/setup.py")
    dataflow_service.run_on_workers(job.pipeline, tmp_path / "workers")
    own_pipeline.run(source, str(tmp_path / "here"))
    assert verify(str(tmp_path / "job" / "out")).problems == ()
    assert read_manifest(str(tmp_path / "job" / "out")).splits == read_manifest(str(tmp_path / "here")).splits
