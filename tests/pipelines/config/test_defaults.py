"""What is chosen where nothing is said, and what does not fit the arrays."""

import re

import numpy as np
import pytest

from pipelines.config.defaults import resolve_feature, without_defaults
from pipelines.config.feature import Feature
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError
from pipelines.statistics.summary import statistics_shape
from pipelines.steps.imputation import Constant, Mean
from pipelines.steps.methods import dump_impute, dump_normalize
from pipelines.steps.scaling import Scale
from tests.support.fitting import resolve, resolve_one


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "expected"),
    [
        ("features", "float32", (32,), ("input", "mean", "zscore", "element", "float32")),
        ("features", "float64", (), ("input", "mean", "zscore", "element", "float32")),
        ("images", "uint8", (28, 28, 3), ("input", "none", "zscore", "channel", "float32")),
        ("images", "uint8", (28, 28, 1), ("input", "none", "zscore", "channel", "float32")),
        ("images", "uint8", (28, 28), ("input", "none", "zscore", "all", "float32")),
        ("images", "uint8", (784,), ("input", "none", "zscore", "element", "float32")),
        ("bands", "uint16", (200,), ("input", "none", "zscore", "element", "float32")),
        ("tokens", "int64", (128,), ("input", "none", "none", "element", "int64")),
        ("count", "int32", (), ("input", "none", "none", "element", "int32")),
        ("level", "uint8", (), ("input", "none", "none", "element", "uint8")),
        ("mask", "bool", (28, 28), ("input", "none", "none", "element", "bool")),
        ("labels", "int64", (), ("label", "none", "none", "element", "int64")),
        ("labels", "int64", (1,), ("label", "none", "none", "element", "int64")),
        ("y", "uint8", (), ("label", "none", "none", "element", "uint8")),
        ("Indian_pines_gt", "uint8", (), ("label", "none", "none", "element", "uint8")),
        ("target", "float32", (), ("label", "forbid", "none", "element", "float32")),
        ("labels", "uint8", (10,), ("label", "none", "none", "element", "uint8")),
        ("gt", "uint8", (64, 64), ("label", "none", "none", "element", "uint8")),
        ("words", "S7", (), ("input", "none", "none", "element", "string")),
        ("waves", "complex64", (9,), ("input", "none", "none", "element", "complex64")),
        ("sequence", "float32", (None, 3), ("input", "mean", "zscore", "element", "float32")),
    ],
)
def test_what_is_chosen_where_nothing_is_said(name, dtype, shape, expected):
    found = resolve_one(dtype, shape, name=name)
    impute = "forbid" if found.forbids_missing else dump_impute(found.impute)
    chosen = (found.spec.role, impute, dump_normalize(found.normalize), found.over, found.spec.dtype)
    assert chosen == expected


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "said", "why"),
    [
        ("y", "int64", (), {}, "label, as its name ends in 'y'; a label is stored as it is$"),
        (
            "site_gt",
            "float32",
            (),
            {},
            "label, as its name ends in 'gt'; a label is stored as it is, and NaN is an error",
        ),
        (
            "x",
            "float32",
            (3,),
            {},
            "input, as its name ends in none of class, classes, gt, .*; floats are taken to be mea",
        ),
        ("x", "uint8", (8, 8, 3), {}, "uint8 with 1, 3 or 4 channels last is taken to be a picture"),
        ("x", "uint8", (8, 8), {}, "uint8 along an axis is taken to be a measurement"),
        ("x", "int16", (8,), {}, "int16 along an axis is taken to be a measurement"),
        ("x", "int16", (), {}, "integers, one a row, may be classes or numbers and are stored as they are"),
        (
            "x",
            "int64",
            (8,),
            {},
            "integers, of more than 16 bits, may be classes or numbers and are stored as they are",
        ),
        ("x", "S3", (), {}, "string is stored as it is"),
        ("x", "float32", (), {"role": "id"}, "id, as it is said; an id is stored as it is$"),
        ("x", "float32", (), {"impute": "median"}, "; impute as it is said, floats are taken to be measurements"),
        (
            "x",
            "float32",
            (),
            {"impute": "none", "normalize": "none"},
            "; impute as it is said, normalize as it is said$",
        ),
    ],
)
def test_it_is_said_why(name, dtype, shape, said, why):
    found = resolve_one(dtype, shape, name=name, **said).why
    assert re.search(why, found), found


def test_declared_missing_values_of_measurements_are_filled():
    assert resolve_one("uint8", (3,), missing=255).impute == Mean()
    assert resolve_one("int64", (3,), missing=-1).impute == Mean()
    assert resolve_one("uint8", (3,), name="labels", missing=255).impute is None


@pytest.mark.parametrize("role", ["label", "weight"])
def test_a_missing_label_is_an_error_unless_it_is_said_to_be_kept(role):
    assert resolve_one("float32", (), role=role).forbids_missing
    assert not resolve_one("float32", (), role=role, impute="none").forbids_missing
    assert not resolve_one("float32", (), role=role, impute="mean").forbids_missing
    assert not resolve_one("float32", (), role=role, missing=-1).forbids_missing
    assert not resolve_one("int64", (), role=role).forbids_missing
    assert not resolve_one("float32", (), role="input").forbids_missing
    assert resolve_one("float32", (), role="input", impute="forbid").forbids_missing
    with pytest.raises(ConfigError, match=r"features.x.impute: forbid is for floats without `missing` or `mask`"):
        resolve_one("int64", (), role=role, impute="forbid")


def test_what_is_said_is_kept():
    found = resolve_one(
        "float64", (3, 2), impute={"constant": -1}, normalize={"scale": "1/255"}, over="all", dtype="float16"
    )
    assert found.impute == Constant(constant=-1)
    assert found.normalize == (Scale(scale=1 / 255),)
    assert (found.over, found.spec.dtype) == ("all", "float16")
    assert statistics_shape(found.over, found.value_shape) == ()


@pytest.mark.parametrize(
    ("over", "shape"),
    [("element", (4, 3)), ("channel", (3,)), ("all", ()), ([0], (4,)), ([-1], (3,)), ([0, 1], (4, 3))],
)
def test_the_shape_of_a_statistic(over, shape):
    found = resolve_one("float32", (4, 3), over=over)
    assert statistics_shape(found.over, found.value_shape) == shape


@pytest.mark.parametrize(
    ("dtype", "shape", "said", "stored"),
    [
        ("float64", (2,), {"normalize": "none"}, ("float64", (2,))),
        ("float16", (2,), {"normalize": "none"}, ("float16", (2,))),
        ("float64", (2,), {"impute": "none", "normalize": "none", "dtype": "float32"}, ("float32", (2,))),
        ("uint8", (2,), {"normalize": "none", "dtype": "int64"}, ("int64", (2,))),
        ("uint16", (2,), {"normalize": "none", "dtype": "float32"}, ("float32", (2,))),
        ("float32", (2,), {"dtype": "float64"}, ("float64", (2,))),
        ("uint8", (2,), {"missing": 255, "impute": "zero", "normalize": "none"}, ("uint8", (2,))),
        ("uint8", (2,), {"missing": 255, "impute": "mean", "normalize": "none"}, ("float32", (2,))),
        ("uint8", (2,), {"missing": 255, "impute": {"constant": -1}, "normalize": "none"}, ("float32", (2,))),
        (
            *("uint8", (2,)),
            {"missing": 255, "impute": {"constant": -1}, "normalize": "none", "dtype": "int16"},
            ("int16", (2,)),
        ),
        ("uint8", (2,), {"missing": 255, "impute": "zero", "normalize": "none", "dtype": "float64"}, ("float64", (2,))),
        ("float32", (9,), {"normalize": {"pca": 4}}, ("float32", (4,))),
        ("float32", (9,), {"normalize": {"buckets": 4}}, ("int64", (9,))),
        ("S5", (), {"normalize": ["vocabulary", {"one_hot": 4}]}, ("float32", (4,))),
        ("S5", (), {"normalize": "vocabulary", "dtype": "int32"}, ("int32", ())),
        ("float32", (None, 9), {"normalize": {"whiten": 4}}, ("float32", (None, 4))),
    ],
)
def test_the_stored_dtype_and_shape(dtype, shape, said, stored):
    spec = resolve_one(dtype, shape, **said).spec
    assert (spec.dtype, spec.shape) == stored


@pytest.mark.parametrize(
    ("dtype", "shape", "said", "messages"),
    [
        (
            "uint8",
            (3,),
            {"impute": "mean"},
            ["impute: uint8 has no missing value", "only none is allowed; found 'mean'"],
        ),
        ("int64", (3,), {"indicator": True}, ["indicator: int64 has no missing value", "found True"]),
        ("bool", (3,), {"normalize": "zscore"}, ["normalize: zscore takes numbers; found bool"]),
        ("S3", (), {"normalize": "log1p"}, ["normalize: log1p takes numbers; found string"]),
        ("complex64", (), {"normalize": "zscore"}, ["normalize: zscore takes numbers; found complex64"]),
        ("S3", (), {"impute": "mean"}, ["impute: string has no missing value"]),
        ("S3", (), {"missing": 3}, ["missing: only numbers can be missing, and this feature is string; found (3.0,)"]),
        ("bool", (), {"mask": "m"}, ["mask: only numbers can be missing, and this feature is bool; found 'm'"]),
        (
            "float32",
            (3,),
            {"normalize": "vocabulary"},
            ["normalize: vocabulary takes integers or strings; found float64"],
        ),
        (
            *("float32", (3,)),
            {"normalize": {"one_hot": 3}, "impute": "none"},
            ["normalize: one_hot takes integers; found float32"],
        ),
        ("S3", (), {"normalize": {"one_hot": 3}}, ["normalize: one_hot takes integers; found string"]),
        (
            *("float32", (3,)),
            {"normalize": ["zscore", {"one_hot": 3}]},
            ["normalize: one_hot takes integers; found float64"],
        ),
        (
            "float32",
            (3,),
            {"normalize": {"buckets": 3}, "impute": "none"},
            ["buckets has no number for a missing value"],
        ),
        (
            *("int16", (3,)),
            {"normalize": {"one_hot": 3}, "impute": "none", "missing": 2},
            ["normalize: one_hot has no number for a missing value; `impute` says"],
        ),
        (
            *("int16", (3,)),
            {"normalize": "vocabulary", "impute": "none", "missing": 2},
            ["normalize: vocabulary has no number for a missing value"],
        ),
        (
            "float32",
            (),
            {"normalize": {"pca": 1}},
            ["normalize: pca: expected a last axis of 1 to 4096 elements", "()"],
        ),
        (
            "float32",
            (3,),
            {"normalize": {"whiten": 4}},
            ["normalize: whiten: expected a last axis of 4 to 4096", "(3,)"],
        ),
        ("float32", (), {"normalize": {"row": "l2"}}, ["normalize: row: expected rows of several elements"]),
        (
            "float32",
            (None, 3),
            {"normalize": {"row": "l2"}},
            ["row takes rows of one shape; found rows of varying length"],
        ),
        ("float32", (None, 3), {"impute": "regression"}, ["impute: regression takes rows of one shape"]),
        ("float32", (), {"impute": "regression"}, ["impute: regression takes rows of 2 to 1024 elements", "shape ()"]),
        ("float32", (2000,), {"impute": "regression"}, ["impute: regression takes rows of 2 to 1024", "(2000,)"]),
        ("float32", (3,), {"impute": "regression", "over": "all"}, ["regression takes", "over element; found", "all"]),
        ("float32", (), {"over": "channel"}, ["over: channel needs an axis", "element and all are allowed"]),
        ("float32", (3,), {"over": [1]}, ["over: expected axes of a row of shape (3,); found (1,)"]),
        ("float32", (3, 2), {"over": [1, -1]}, ["over: expected each axis once; found (1, -1)"]),
        (
            "float32",
            (3,),
            {"by": "g", "normalize": "robust"},
            ["by: expected a method", "found impute mean, normalize robust"],
        ),
        ("float32", (3,), {"by": "g", "impute": "median"}, ["by: expected a method", "found impute median"]),
        ("float32", (3,), {"by": "g", "normalize": ["log1p", "zscore"]}, ["by: expected a method"]),
        ("float32", (3,), {"by": "g", "impute": "none", "normalize": "none"}, ["by: expected a method"]),
        ("float32", (None, 3), {"by": "g"}, ["by: expected rows of one shape; found rows of varying length"]),
        (
            "float32",
            (3,),
            {"dtype": "int32"},
            ["dtype: a transformed feature is float16, float32 or float64; found int32"],
        ),
        (
            "float32",
            (3,),
            {"normalize": {"buckets": 3}, "dtype": "float32"},
            ["dtype: a transformed feature is an integer"],
        ),
        ("int64", (3,), {"dtype": "int32"}, ["dtype: int32 does not hold every value of int64"]),
        (
            *("uint8", (3,)),
            {"missing": 255, "impute": {"constant": -1}, "normalize": "none", "dtype": "uint16"},
            ["dtype: a transformed feature is float16, float32 or float64; found uint16"],
        ),
        ("S3", (), {"dtype": "int32"}, ["dtype: string values do not become int32"]),
        ("int64", (), {"store": "raw"}, ["store: raw is for a feature that is transformed"]),
        ("float32", (), {"class_names": ["a"]}, ["class_names: classes are integers; found float32"]),
    ],
)
def test_what_does_not_fit_the_arrays(dtype, shape, said, messages):
    with pytest.raises(ConfigError) as raised:
        resolve_one(dtype, shape, **said)
    for message in ["features.x.", *messages]:
        assert message in str(raised.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"by": "h"}, r"features.x.by: expected one of the features g, m, x; found 'h'"),
        ({"by": "x"}, r"features.x.by: expected another feature; found 'x' itself"),
        ({"by": "m"}, r"features.x.by: expected one integer, bool or string a row; found m"),
        ({"mask": "g"}, r"features.x.mask: expected bool or integer rows of shape \(3,\) or one value a row; found g"),
    ],
)
def test_what_does_not_fit_other_features(said, message):
    arrays = {"x": np.zeros((4, 3)), "g": np.zeros(4), "m": np.zeros((4, 2), bool)}
    with pytest.raises(ConfigError, match=message):
        resolve(arrays, {"x": said})


@pytest.mark.parametrize("name", ["", "x/float64_bits", "a\nb", "\udcff"])
def test_names_that_no_feature_can_have(name):
    with pytest.raises(ConfigError, match="a name is printable text"):
        resolve_one("float32", (), name=name)


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({}, []),
        ({"missing": [1], "dtype": "float64"}, []),
        ({"impute": "forbid"}, []),
        ({"normalize": "zscore"}, ["mean", "zscore"]),
        ({"impute": "median"}, ["median", "zscore"]),
        ({"indicator": True}, ["mean", "zscore"]),
    ],
)
def test_beside_a_function_only_what_is_said_has_steps(said, steps):
    """Of a feature of which steps are said, what is left open is chosen as without a function."""
    config = parse_config({"features": {"x": said}, "preprocessing_fn": "m.py:f"})
    feature = Feature(name="x", dtype=np.dtype("float32"), shape=(2,), row_axes=1)
    found = resolve_feature(feature, without_defaults(config, ["x"]))
    assert [step.key for step in found.steps] == steps
    assert found.forbids_missing == (said.get("impute") == "forbid")


def test_nothing_is_stored_raw_beside_a_function():
    config = parse_config({"features": {"x": {"normalize": "zscore", "store": "raw"}}})
    with pytest.raises(ConfigError, match=r"features\.x\.store: expected transformed or none beside .*; found raw"):
        without_defaults(config, ["x"])
