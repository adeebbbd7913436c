"""Which values are missing: the same in NumPy and in the graph."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.reading import missing
from pipelines.reading.batches import Ragged
from tests.support.fitting import resolve_one, transform

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def in_graph(feature, inputs):
    tensors = {name: tf.constant(x.astype("uint8" if x.dtype == bool else x.dtype)) for name, x in inputs.items()}
    return missing.missing_in_graph(feature, tensors)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([*INTEGERS, "float32", "float64"]),
    st.lists(
        st.sampled_from([0, 1, 5, 255, -1, -9999, 0.5, 1e30, float("inf"), -float("inf")]), min_size=1, max_size=4
    ),
)
def test_declared_values_are_missing(dtype, declared):
    feature = resolve_one(dtype, (2,), missing=declared, impute="zero", normalize="none")
    kind = np.dtype(dtype)
    values = [
        v for v in (0, 1, 5, 7, 255, -1, -9999, 3) if kind.kind == "f" or np.iinfo(kind).min <= v <= np.iinfo(kind).max
    ]
    special = [0.5, np.inf, -np.inf, np.nan, 1e30] if kind.kind == "f" else []
    x = np.resize(np.array([*values, *special]), (10, 2)).astype(kind)
    expected = np.isnan(x.astype(float)) | np.isin(
        x.astype(float), np.array(declared).astype(kind if kind.kind == "f" else float)
    )
    np.testing.assert_array_equal(in_graph(feature, {"x": x}).numpy(), expected)
    found = missing.marked(feature, {"x": x})
    np.testing.assert_array_equal(np.isnan(found), expected)
    np.testing.assert_array_equal(found[~expected], x[~expected])


def test_a_value_that_the_dtype_rounds_is_missing_as_it_is_stored():
    x = np.array([[-9999.9], [1.0], [65504.0]], np.float16)
    feature = resolve_one("float16", (1,), missing=[-9999.9, 1e30])
    assert missing.representable(feature) == (float(np.float16(-9999.9)),)
    np.testing.assert_array_equal(np.isnan(missing.marked(feature, {"x": x})), [[True], [False], [False]])
    found = transform({"x": x}, {"x": {"missing": [-9999.9, 1e30], "impute": {"constant": 2}, "normalize": "none"}})[
        "x"
    ]
    np.testing.assert_array_equal(found, np.array([[2.0], [1.0], [65504.0]], np.float16))


def test_what_declares_nothing_is_not_copied():
    x = np.ones((5, 2), np.float32)
    assert missing.marked(resolve_one("float32", (2,)), {"x": x}) is x
    assert in_graph(resolve_one("uint8", (2,)), {"x": x.astype(np.uint8)}) is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "int16", "uint8"])
def test_the_dtype_of_what_is_marked(dtype):
    feature = resolve_one(dtype, (1,), missing=3, impute="zero", normalize="none")
    found = missing.marked(feature, {"x": np.array([[3], [4]], dtype)})
    assert found.dtype == missing.marked_dtype(feature) == (dtype if dtype.startswith("float") else "float64")
    np.testing.assert_array_equal(found, [[np.nan], [4]])


def test_rows_with_lengths_of_their_own():
    values = np.array([[1.0, np.nan], [-9.0, 4.0], [3.0, 8.0]])
    x = Ragged(values=values, lengths=np.array([2, 0, 1]))
    mask = Ragged(values=np.array([[0, 0], [0, 0], [0, 1]], bool), lengths=x.lengths)
    said = {"missing": -9, "mask": "m", "normalize": "none", "indicator": True}
    found = transform({"x": x, "m": mask}, {"x": said}, units=1)
    np.testing.assert_array_equal(found["x"].lengths, x.lengths)
    np.testing.assert_array_equal(found["x"].values, [[1.0, 4.0], [2.0, 4.0], [3.0, 4.0]])
    np.testing.assert_array_equal(found["x_missing"].values, [[False, True], [True, False], [False, True]])
