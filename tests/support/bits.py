"""Values with any bits, of every dtype, compared bit for bit."""

import numpy as np

from loaders.format.spec import DTYPES as ALL_DTYPES

DTYPES = tuple(dtype for dtype in ALL_DTYPES if dtype != "string")


SHAPES = [(), (1,), (3,), (2, 1, 3)]


def any_bits(dtype, shape, seed=0):
    """Random bits as values: NaNs with payloads, infinities, subnormals and both ends of the integers."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    bits = np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)
    if dtype == "bool":
        bits &= 1
    return bits.view(dtype).reshape(shape)


def assert_same_bits(found, expected):
    found = np.asarray(found)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()
