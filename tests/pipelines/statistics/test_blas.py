"""Matrix products that stay in one thread."""

import threading

import numpy as np
import pytest

from pipelines.statistics import blas
from pipelines.statistics.covariance import NARROW, Covariance, sum_products


@pytest.fixture
def threads():
    libraries = blas.libraries_of_blas()  # NumPy's, and SciPy's where something has imported it
    before = [library.num_threads for library in libraries]
    for library in libraries:
        library.set_num_threads(3)

    def number():
        (same,) = {library.get_num_threads() for library in libraries}
        return same

    yield number
    for library, threads in zip(libraries, before, strict=True):
        library.set_num_threads(threads)


def test_the_number_of_threads_comes_back(threads):
    def work():
        with blas.one_thread():
            assert threads() == 1
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        work()
    assert threads() == 3


def test_users_that_overlap_share_the_limit(threads):
    entered, leave = threading.Event(), threading.Event()

    def work():
        with blas.one_thread():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=work)
    with blas.one_thread():
        other.start()
        assert entered.wait(10)
    assert threads() == 1
    leave.set()
    other.join()
    assert threads() == 3


@pytest.mark.parametrize("width", [2, NARROW + 1])
def test_narrow_covariances_take_one_thread(threads, monkeypatch, width):
    seen = []

    def spy(values):
        seen.append(threads())
        return sum_products(values)

    monkeypatch.setattr("pipelines.statistics.covariance.sum_products", spy)
    estimator = Covariance(width=width)
    estimator.accumulate(estimator.start(), np.ones((1, width)))
    assert seen == [1 if width <= NARROW else 3]
