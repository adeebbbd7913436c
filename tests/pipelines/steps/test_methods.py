"""What a configuration may say of imputation and normalisation, and what it says of mistakes."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config.schema import load_config
from pipelines.errors import ConfigError
from pipelines.steps import encoding, imputation, projection, ranking, scaling
from pipelines.steps.methods import IMPUTE, NORMALIZE, dump_impute, dump_normalize, parse_impute, parse_normalize

FINITE = st.floats(allow_nan=False, allow_infinity=False)
PAIRS = st.tuples(FINITE, FINITE).filter(lambda pair: pair[0] < pair[1])
PROBABILITIES = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: pair[0] < pair[1])
COUNTS = st.integers(1, 1000)
STEPS = st.one_of(
    st.sampled_from([scaling.ZScore(), scaling.MaxAbs(), scaling.Log1p(), ranking.Robust(), ranking.Gaussian()]),
    st.builds(scaling.MinMax, range=PAIRS),
    st.builds(scaling.Scale, scale=FINITE.filter(bool)),
    st.builds(scaling.ScaledRow, by=st.sampled_from(["l2", "mean", "zscore"])),
    st.builds(ranking.Clip, quantiles=PROBABILITIES),
    st.builds(ranking.Quantile, to=st.sampled_from(["uniform", "normal"])),
    st.builds(ranking.Buckets, buckets=st.integers(2, 1000) | PAIRS),
    st.builds(projection.Pca, components=COUNTS),
    st.builds(projection.Whiten, components=COUNTS),
    st.builds(encoding.Vocabulary, size=st.none() | COUNTS, min_count=COUNTS, oov_buckets=st.integers(0, 9)),
    st.builds(encoding.OneHot, classes=COUNTS),
)


@given(st.lists(STEPS, max_size=4))
def test_steps_are_read_as_they_are_written(steps):
    written = yaml.safe_load(yaml.safe_dump(dump_normalize(tuple(steps))))
    assert parse_normalize(written) == tuple(steps)


@given(FINITE)
def test_imputation_is_read_as_it_is_written(number):
    for step in (
        *(kind() for key, kind in IMPUTE.items() if key != "constant"),
        imputation.Constant(constant=number),
    ):
        assert parse_impute(yaml.safe_load(yaml.safe_dump(dump_impute(step)))) == step
    assert parse_impute(dump_impute(None)) == "none"


def test_every_step_can_be_said():
    assert set(NORMALIZE) == {
        *("zscore", "minmax", "maxabs", "scale", "log1p", "row", "robust", "clip", "quantile", "gaussian", "buckets"),
        *("pca", "whiten", "vocabulary", "one_hot"),
    }
    assert set(IMPUTE) == {
        *("mean", "median", "most_frequent", "min", "max", "zero", "constant", "regression"),
    }


def test_nothing_is_said_by_nothing():
    assert (parse_impute(None), parse_normalize(None)) == (None, None)
    assert (parse_normalize("none"), parse_normalize([])) == ((), ())


def test_fractions_are_numbers():
    assert parse_normalize({"scale": "1/255"}) == (scaling.Scale(scale=1 / 255),)
    assert parse_normalize({"clip": ["1/100", 0.99]}) == (ranking.Clip(quantiles=(0.01, 0.99)),)
    assert parse_impute({"constant": "1e3"}) == imputation.Constant(constant=1000.0)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("impute: modus", ["impute", "none, forbid, mean, median", "{constant: A NUMBER}", "found 'modus'"]),
        ("impute: constant", ["impute", "constant: expected a value, as in {constant: A NUMBER}"]),
        ("impute: {constant: a}", ["impute", "constant: expected a number or a fraction", "found 'a'"]),
        ("impute: {constant: true}", ["impute", "constant: expected a number; found True"]),
        ("impute: {constant: .nan}", ["impute", "constant: expected a finite number; found nan"]),
        ("impute: {constant: {constant: 3}}", ["impute", "constant: expected a number; found {'constant': 3}"]),
        ("impute: {mean: 3}", ["impute", "mean takes no value; found 3"]),
        ("impute: {zero: 1}", ["impute", "zero takes no value; found 1"]),
        ("impute: [mean]", ["impute", "expected none, forbid, mean", "found ['mean']"]),
        ("impute: {mean: , median: }", ["impute", "expected none", "found {'mean': None, 'median': None}"]),
        ("normalize: zsore", ["normalize", "none, zscore, minmax", "or a list of these", "found 'zsore'"]),
        ("normalize: [zscore, none]", ["normalize", "found 'none'"]),
        ("normalize: [[zscore]]", ["normalize", "found ['zscore']"]),
        ("normalize: 3", ["normalize", "found 3"]),
        ("normalize: {zscore: 2}", ["normalize", "zscore takes no value; found 2"]),
        ("normalize: {minmax: 3}", ["normalize", "minmax: expected a list of numbers; found 3"]),
        (
            "normalize: {minmax: [0, 1, 2]}",
            ["normalize", "minmax: expected two numbers, the lower one first; found [0.0"],
        ),
        ("normalize: {minmax: [1, 0]}", ["normalize", "minmax: expected two numbers", "found [1.0, 0.0]"]),
        ("normalize: {minmax: [0, a]}", ["normalize", "minmax: expected a number", "found 'a'"]),
        ("normalize: {scale: 0}", ["normalize", "scale: expected a number other than 0"]),
        ("normalize: {scale: 1/0}", ["normalize", "scale: expected a number or a fraction such as 1/255; found '1/0'"]),
        ("normalize: {scale: 1e400}", ["normalize", "scale: expected a finite number"]),
        ("normalize: {scale: [1]}", ["normalize", "scale: expected a number; found [1]"]),
        ("normalize: {row: l3}", ["normalize", "row: expected l2 or mean or zscore; found 'l3'"]),
        ("normalize: row", ["normalize", "row: expected a value, as in {row: L2 OR MEAN OR ZSCORE}"]),
        ("normalize: {clip: [0.9, 0.1]}", ["normalize", "clip: expected two probabilities", "found [0.9, 0.1]"]),
        ("normalize: {clip: [0, 1.5]}", ["normalize", "clip: expected two probabilities", "found [0.0, 1.5]"]),
        ("normalize: {quantile: gauss}", ["normalize", "quantile: expected uniform or normal; found 'gauss'"]),
        ("normalize: {buckets: 1}", ["normalize", "buckets: expected 2 to 1000 buckets; found 1"]),
        ("normalize: {buckets: 2.5}", ["normalize", "buckets: expected an integer or a list of numbers; found 2.5"]),
        ("normalize: {buckets: true}", ["normalize", "buckets: expected an integer or a list of numbers; found True"]),
        ("normalize: {buckets: [2, 1]}", ["normalize", "buckets: expected", "ascending order; found [2.0, 1.0]"]),
        ("normalize: {buckets: []}", ["normalize", "buckets: expected", "found []"]),
        ("normalize: {pca: 0}", ["normalize", "pca: expected an integer of at least 1; found 0"]),
        ("normalize: {whiten: a}", ["normalize", "whiten: expected an integer; found 'a'"]),
        ("normalize: {one_hot: -1}", ["normalize", "one_hot: expected an integer of at least 1; found -1"]),
        ("normalize: {vocabulary: 5}", ["normalize", "vocabulary: expected {vocabulary: {size: AN INTEGER OR NULL"]),
        ("normalize: {vocabulary: {sizes: 5}}", ["vocabulary: unknown key sizes; the keys are size, min_count"]),
        ("normalize: {vocabulary: {size: 0}}", ["vocabulary.size: expected an integer of at least 1; found 0"]),
        ("normalize: {vocabulary: {size: a}}", ["vocabulary.size: expected an integer or null; found 'a'"]),
        ("normalize: {vocabulary: {oov_buckets: -1}}", ["vocabulary.oov_buckets: expected an integer of at least 0"]),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(text, messages):
    with pytest.raises(ConfigError) as raised:
        load_config(f"features: {{x: {{{text}}}}}")
    for message in ["features.x.", *messages]:
        assert message in str(raised.value)
