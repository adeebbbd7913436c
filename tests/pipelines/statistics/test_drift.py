"""Drift against NumPy, computed from the rows themselves."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.statistics.drift import CHANCE, compare, compare_classes
from pipelines.statistics.summary import moments, summarize

VALUES = st.one_of(st.integers(-1000, 1000).map(lambda value: value / 8), st.just(np.nan))


def of(rows):
    return summarize(moments(rows, "element"))


@given(
    st.integers(1, 3).flatmap(
        lambda width: st.tuples(
            *(hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.just(width)), elements=VALUES) for _ in range(2))
        )
    )
)
def test_drift_is_that_of_the_rows(pair):
    shifts, logs, missing = [], [], []
    for old, new in zip(pair[0].T, pair[1].T, strict=True):
        missing.append(abs(np.isnan(old).mean() - np.isnan(new).mean()))
        old, new = old[~np.isnan(old)], new[~np.isnan(new)]
        if not len(old) or not len(new):
            continue
        deviations = [0.0 if len(set(each.tolist())) == 1 else each.std() for each in (old, new)]
        shifts.append(abs(new.mean() - old.mean()) / (deviations[0] or 1.0))
        with np.errstate(divide="ignore"):
            logs.append(0.0 if not any(deviations) else np.log(np.divide(deviations[1], deviations[0])))
    found = compare(of(pair[0]), of(pair[1]))
    np.testing.assert_allclose(found.shift, max(shifts, default=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.missing, max(missing), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(np.log(found.spread), max(map(abs, logs), default=0), rtol=1e-9, atol=1e-9)


def test_the_ratio_says_which_is_greater():
    narrow, wide = np.array([[-1.0], [1.0]]), np.array([[-4.0], [4.0]])
    assert compare(of(narrow), of(wide)).ratio == pytest.approx(4)
    assert compare(of(wide), of(narrow)).ratio == pytest.approx(1 / 4)
    assert compare(of(wide), of(narrow)).spread == pytest.approx(4)


def test_a_constant_feature_that_moves_is_measured_in_its_own_unit():
    constant = np.full((5, 1), 3.0)
    assert compare(of(constant), of(constant + 2)).shift == 2
    assert compare(of(constant), of(constant)).spread == 1
    assert compare(of(constant), of(np.array([[2.0], [4.0]]))).spread == np.inf
    assert compare(of(np.array([[2.0], [4.0]])), of(constant)).spread == np.inf


def test_nothing_to_compare_is_no_drift():
    nothing = of(np.zeros((0, 2)))
    found = compare(nothing, of(np.ones((3, 2))))
    assert (found.shift, found.ratio, found.missing) == (0, 1, 0)


def test_samples_of_one_distribution_differ_by_chance_only():
    generator = np.random.default_rng(0)
    for rows in (20, 200):
        old, new = generator.normal(size=(2, rows, 1000))
        new[generator.random(new.shape) < 0.1] = old[generator.random(new.shape) < 0.1] = np.nan
        plain, certain = compare(of(old), of(new)), compare(of(old), of(new), errors=CHANCE)
        assert plain.shift > 0.2
        assert (certain.shift, certain.missing) == (0, 0)
        assert certain.spread < 1.2
    moved = compare(of(old), of(new + 1), errors=CHANCE).shift
    assert 0.4 < moved < compare(of(old), of(new + 1)).shift


@given(*(hnp.arrays(np.int64, st.integers(0, 20), elements=st.integers(-3, 3)) for _ in range(2)))
def test_classes_are_compared_by_their_shares(old, new):
    found = compare_classes(np.unique(old, return_counts=True), np.unique(new, return_counts=True))
    assert found.new.tolist() == sorted(set(new.tolist()) - set(old.tolist()))
    both = len(old) and len(new)
    shares = [abs((old == value).mean() - (new == value).mean()) for value in range(-3, 4)] if both else [0]
    assert found.distance == pytest.approx(max(shares))


def test_classes_differ_by_chance_too():
    old, new = np.random.default_rng(0).integers(0, 5, (2, 100))
    classes = [np.unique(each, return_counts=True) for each in (old, new)]
    assert compare_classes(*classes).distance > 0.02
    assert compare_classes(*classes, errors=CHANCE).distance == 0
    other = np.unique(new * 0, return_counts=True)
    assert 0.3 < compare_classes(classes[0], other, errors=CHANCE).distance < 0.8


def test_text_and_bytes_are_the_same_classes():
    text, data = np.array(["a", "ä"]), np.array([b"a", "ä".encode(), b"b"])
    assert compare_classes((text, np.array([1, 1])), (data, np.array([1, 1, 1]))).new.tolist() == [b"b"]
    assert compare_classes((text, np.array([1, 0])), (data, np.array([0, 1, 0]))).new.tolist() == ["ä".encode()]
