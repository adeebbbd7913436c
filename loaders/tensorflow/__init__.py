"""`tf.data` pipelines of the rows, and their state in TensorFlow's and Keras's checkpoints."""

try:
    import tensorflow  # noqa: F401 - only its absence matters here
except ImportError as error:
    raise ImportError("loaders.tensorflow needs TensorFlow: pip install 'npyflow[tensorflow]'") from error
