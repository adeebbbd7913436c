"""Statistics of units of rows, computed in this process."""

import functools


def run(estimator, units):
    """The `result` of an estimator for units of rows, one at least."""
    state = estimator.start()
    for _ in range(estimator.passes):
        accumulators = (estimator.accumulate(state, unit) for unit in units)
        state = estimator.update(state, functools.reduce(estimator.merge, accumulators))
    return estimator.result(state)
