"""`schema.pbtxt`: what TensorFlow's other tools find in the records of a data set with one row a record."""

from __future__ import annotations

from tensorflow_metadata.proto.v0 import schema_pb2

from loaders.format.spec import Encoding, FeatureSpec

_TYPES: dict[Encoding, schema_pb2.FeatureType] = {
    "bytes_list": schema_pb2.BYTES,
    "float_list": schema_pb2.FLOAT,
    "int64_list": schema_pb2.INT,
}


def make_schema(specs: tuple[FeatureSpec, ...]) -> schema_pb2.Schema:
    """The features of records of one row as a tensorflow_metadata schema, by which `tf.io.parse_example` reads them.

    There is none for records of many rows: a tool would take a record for a row.

    A feature that is neither float32, int64 nor string is one string of bytes; its annotation says what they hold. The
    annotation's tags are the dtype and, where there is one, the unit.
    """
    schema = schema_pb2.Schema()
    for spec in specs:
        encoding = spec.encoding(rows_per_record=1)
        entry = schema.feature.add(name=spec.name, type=_TYPES[encoding])
        entry.presence.min_fraction = 1.0
        entry.annotation.tag.extend([spec.dtype, *([spec.unit] if spec.unit else [])])
        entry.shape.SetInParent()
        if encoding == "bytes_list" and spec.dtype != "string":
            shape = ", ".join("?" if size is None else str(size) for size in spec.shape)
            entry.annotation.comment.append(f"{spec.dtype} [{shape}] in little-endian bytes, in C order")
        else:
            for size in spec.inner_shape:
                entry.shape.dim.add(size=size)
        if spec.class_names and encoding == "int64_list":
            entry.int_domain.min, entry.int_domain.max = 0, len(spec.class_names) - 1
            entry.int_domain.is_categorical = True
    return schema
