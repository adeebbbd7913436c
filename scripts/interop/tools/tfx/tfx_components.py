"""TFX."""

from tfx import v1 as tfx
from tfx.proto import example_gen_pb2

split = example_gen_pb2.Input.Split
config = example_gen_pb2.Input(splits=[split(name=name, pattern=f"{name}/*.tfrecord") for name in ("train", "test")])
examples = tfx.components.ImportExampleGen(input_base="records", input_config=config)
statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"])
schema = tfx.components.ImportSchemaGen(schema_file="records/schema.pbtxt")
problems = tfx.components.ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
pipeline = tfx.dsl.Pipeline(
    pipeline_name="records",
    pipeline_root="tfx",
    components=[examples, statistics, schema, problems],
    metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config("tfx/metadata.db"),
)
tfx.orchestration.LocalDagRunner().run(pipeline)

# What follows compares it.
import pathlib  # noqa: E402

import tensorflow_data_validation as tfdv  # noqa: E402
from tensorflow_metadata.proto.v0 import anomalies_pb2  # noqa: E402

PACKAGE = "tfx"
(found,) = pathlib.Path("tfx/ExampleValidator").glob("anomalies/*/Split-train/SchemaDiff.pb")
assert not anomalies_pb2.Anomalies.FromString(found.read_bytes()).anomaly_info
(found,) = pathlib.Path("tfx/StatisticsGen").glob("statistics/*/Split-train/FeatureStats.pb")
count = tfdv.load_stats_binary(str(found)).datasets[0].num_examples
