"""tf.distribute's parameter server.

A line more: `loaders.tfrecords`, of records, as workers make their data set inside a traced function
"""

import socket

import tensorflow as tf

import loaders


def free():
    """An address of this machine; those of other machines come by TF_CONFIG."""
    with socket.create_server(("localhost", 0)) as found:
        return f"localhost:{found.getsockname()[1]}"


cluster = tf.train.ClusterSpec({"worker": [free()], "ps": [free()]})
servers = [tf.distribute.Server(cluster, job_name=job) for job in cluster.jobs]
resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
coordinator = tf.distribute.coordinator.ClusterCoordinator(tf.distribute.ParameterServerStrategy(resolver))
rows = coordinator.create_per_worker_dataset(lambda: loaders.tfrecords("records", "train", batch_size=16))
batches, step = iter(rows), tf.function(lambda iterator: next(iterator))
steps = [coordinator.schedule(step, (batches,)) for _ in range(3)]
coordinator.join()

# What follows compares it.
PACKAGE = "tensorflow"
columns = [step.fetch() for step in steps]
