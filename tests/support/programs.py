"""Data sets of strangers, whose transform does more than compute."""

import dataclasses
import shutil

import tensorflow as tf

from tests.support.manifests import change_manifest, list_files

OPERATION = "WriteFile"


def plant(root, victim, *, nested=False):
    """Replaces the transform of a data set by one of the same features that also writes a file.

    The manifest agrees with it: whoever can write a data set can write its digests.

    Args:
        root: The data set.
        victim: The file that is written when the transform is run.
        nested: Whether the operation lies in the branch of a condition.
    """
    place = root / "transform" / "transform_fn"
    model = tf.saved_model.load(str(place)).transform_fn
    concrete = model if hasattr(model, "structured_input_signature") else model.concrete_functions[0]
    (inputs,), _ = concrete.structured_input_signature

    def write():
        tf.io.write_file(str(victim), "owned")
        return tf.constant(0)

    @tf.function(input_signature=[{name: tf.TensorSpec(spec.shape, spec.dtype) for name, spec in inputs.items()}])
    def transform_fn(batch):
        first = next(iter(batch.values()))
        if nested:
            tf.cond(tf.shape(first)[0] >= 0, write, lambda: tf.constant(1))
        else:
            write()
        return {name: tf.identity(values) for name, values in model(batch).items()}

    module = tf.Module()
    module.model, module.transform_fn = tf.saved_model.load(str(place)), transform_fn
    other = root.parent / f"{root.name}-planted"
    tf.saved_model.save(module, str(other))
    shutil.rmtree(place)
    shutil.move(other, place)
    change_manifest(root, lambda document: document.update(files=_relisted(root, document["files"])))


def _relisted(root, files):
    others = [file for file in files if not file["file"].startswith("transform/")]
    return others + [dataclasses.asdict(file) for file in list_files(root, "transform")]
