"""TFX, with `pipelines.analyzers` in its Transform."""

import keras
import tensorflow_transform as tft
from tfx import v1 as tfx
from tfx.proto import example_gen_pb2
from tfx_bsl.public import tfxio

from pipelines import analyzers as npa


def preprocessing_fn(inputs):
    """What Transform asks for, with statistics of npyflow."""
    features = npa.scale_to_z_score(npa.impute(inputs["features"], "median"))
    return {"features": features, "label": inputs["label"], "row": inputs["row"]}


def run_fn(arguments):
    """What Trainer asks for."""
    schema = tft.TFTransformOutput(arguments.transform_output).transformed_metadata.schema
    options = tfxio.TensorFlowDatasetOptions(batch_size=16, label_key="label")
    train = arguments.data_accessor.tf_dataset_factory(arguments.train_files, options, schema)
    model = keras.Sequential([keras.layers.Dense(4, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(
        train.map(lambda batch, label: (batch["features"], label)), steps_per_epoch=arguments.train_steps, verbose=0
    )
    model.export(arguments.serving_model_dir, verbose=False)


def pipeline():
    """From records to a model."""
    split = example_gen_pb2.Input.Split
    splits = [split(name=name, pattern=f"{name}/*.tfrecord") for name in ("train", "test")]
    config = example_gen_pb2.Input(splits=splits)
    examples = tfx.components.ImportExampleGen(input_base="records", input_config=config)
    rows = examples.outputs["examples"]
    statistics = tfx.components.StatisticsGen(examples=rows)
    imported = tfx.components.ImportSchemaGen(schema_file="records/schema.pbtxt")
    schema = imported.outputs["schema"]
    problems = tfx.components.ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema)
    transform = tfx.components.Transform(examples=rows, schema=schema, module_file=__file__)
    trainer = tfx.components.Trainer(
        module_file=__file__,
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=tfx.proto.TrainArgs(splits=["train"], num_steps=3),
        eval_args=tfx.proto.EvalArgs(splits=["test"], num_steps=1),
    )
    return tfx.dsl.Pipeline(
        pipeline_name="records",
        pipeline_root="tfx",
        components=[examples, statistics, imported, problems, transform, trainer],
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config("tfx/metadata.db"),
    )


if __name__ == "__main__":
    tfx.orchestration.LocalDagRunner().run(pipeline())

# What follows compares it.
if __name__ == "__main__":
    import pathlib

    import numpy as np
    import tensorflow as tf
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    PACKAGE = "tfx"
    (found,) = pathlib.Path("tfx/ExampleValidator").glob("anomalies/*/Split-train/SchemaDiff.pb")
    assert not anomalies_pb2.Anomalies.FromString(found.read_bytes()).anomaly_info
    (found,) = pathlib.Path("tfx/StatisticsGen").glob("statistics/*/Split-train/FeatureStats.pb")
    count = tfdv.load_stats_binary(str(found)).datasets[0].num_examples
    files = [str(path) for path in pathlib.Path("tfx/Transform").glob("transformed_examples/*/Split-train/*.gz")]
    spec = {"features": tf.io.FixedLenFeature([4], tf.float32), "row": tf.io.FixedLenFeature([], tf.int64)}
    records = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
    found = tf.io.parse_example(records, spec)
    raw = np.load("raw.npy")[found["row"]].astype(np.float64)
    np.testing.assert_allclose(found["features"], (raw - raw.mean(0)) / raw.std(0), rtol=1e-6)
    (model,) = pathlib.Path("tfx/Trainer").glob("model/*/Format-Serving/saved_model.pb")
