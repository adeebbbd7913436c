"""The checksum of a file, from those of its frames."""

import google_crc32c
import numpy as np
import pytest

from loaders.format.crc_combine import file_crc32c, frame_starts
from loaders.format.record_layout import frame


@pytest.mark.parametrize("sizes", [[0], [1], [5, 0, 3], [7] * 300, [100_003, 1, 2**21]], ids=str)
def test_it_is_that_of_the_file(sizes):
    random = np.random.default_rng(0)
    content = np.frombuffer(b"".join(frame(random.bytes(size)) for size in sizes), np.uint8)
    starts = frame_starts(content)
    assert starts.tolist() == np.cumsum([0, *(size + 16 for size in sizes)]).tolist()[:-1]
    assert file_crc32c(content, starts) == google_crc32c.value(content)


def test_damage_is_told_from_other_content():
    content = np.frombuffer(b"".join(map(frame, (b"one", b"two"))), np.uint8).copy()
    starts, whole = frame_starts(content), file_crc32c(content, frame_starts(content))
    content[13] ^= 1  # data: only its own checksum tells
    assert file_crc32c(content, starts) == whole != google_crc32c.value(content)
    content[8] ^= 1
    assert file_crc32c(content, starts) is None
    assert frame_starts(content[:-1]) is None
    content[4] = 1
    assert frame_starts(content) is None
