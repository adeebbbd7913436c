"""The checksums of frames."""

import google_crc32c
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loaders.format import record_layout


@given(rows=st.integers(0, 5), size=st.integers(4, 300), seed=st.integers(0, 9))
def test_each_row_has_its_checksum(rows: int, size: int, seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, (rows, size), dtype=np.uint8)

    assert record_layout.crc32c(data).tolist() == [google_crc32c.value(row) for row in data]


def test_the_check_value_of_crc32c() -> None:
    # RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and ascending.
    data = np.stack([np.zeros(32, np.uint8), np.full(32, 255, np.uint8), np.arange(32, dtype=np.uint8)])

    assert record_layout.crc32c(data).tolist() == [0x8A9136AA, 0x62A8AB43, 0x46DD794E]
