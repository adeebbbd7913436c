"""`schema.pbtxt`: the features of a data set as TensorFlow's other tools know them."""

from __future__ import annotations

from tensorflow_metadata.proto.v0 import schema_pb2

from loaders.format.spec import FeatureSpec


def make_schema(specs: tuple[FeatureSpec, ...]) -> schema_pb2.Schema:
    """The features of the shards' rows as a tensorflow_metadata schema.

    The annotation's tags are the dtype and, where there is one, the unit.
    """
    schema = schema_pb2.Schema()
    for spec in specs:
        entry = schema.feature.add(name=spec.name, type=_schema_type(spec))
        entry.presence.min_fraction = 1.0
        entry.annotation.tag.extend([spec.dtype, *([spec.unit] if spec.unit else [])])
        if spec.ragged:
            entry.value_count.min = 0
        else:
            entry.shape.SetInParent()
            for size in spec.inner_shape:
                entry.shape.dim.add(size=size)
        if spec.class_names:
            entry.int_domain.min, entry.int_domain.max = 0, len(spec.class_names) - 1
            entry.int_domain.is_categorical = True
    return schema


def _schema_type(spec: FeatureSpec) -> schema_pb2.FeatureType:
    if spec.dtype.startswith("float"):
        return schema_pb2.FLOAT
    return schema_pb2.BYTES if spec.dtype.startswith(("string", "complex")) else schema_pb2.INT
