"""tf.data's service."""

import tensorflow as tf

import loaders

service = tf.data.experimental.service
dispatcher = service.DispatchServer()
worker = service.WorkerServer(service.WorkerConfig(dispatcher.target.partition("://")[2]))
batches = loaders.tfrecords("records", "train", batch_size=16)
sent = batches.apply(service.distribute(processing_mode="distributed_epoch", service=dispatcher.target))

# What follows compares it.
PACKAGE = "tensorflow"
columns = list(sent)
