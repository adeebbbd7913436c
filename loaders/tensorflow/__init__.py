"""`tf.data` pipelines of the rows, and their state in TensorFlow's and Keras's checkpoints."""
