"""TensorFlow Data Validation."""

import tensorflow_data_validation as tfdv

schema = tfdv.load_schema_text("records/schema.pbtxt")
statistics = tfdv.generate_statistics_from_tfrecord("records/train/*.tfrecord")
problems = tfdv.validate_statistics(statistics, schema)

# What follows compares it.
PACKAGE = "tensorflow-data-validation"
assert not problems.anomaly_info, problems
count = statistics.datasets[0].num_examples
