"""The sample of shards: rows as they were written."""

import numpy as np
import pytest

from pipelines.errors import DataError
from pipelines.page.stored_rows import sample_shards
from pipelines.reading.batches import Ragged
from tests.support import ragged, shards


@pytest.mark.parametrize("rows_per_record", [1, 4])
def test_rows_are_the_first_of_some_shards(tmp_path, rows_per_record):
    rng = np.random.default_rng(0)
    parts = [
        {"id": 100 * number + np.arange(rows, dtype=np.int32), "x": rng.normal(size=(rows, 3)).astype(np.float32)}
        for number, rows in enumerate([10, 0, 7, 30])
    ]
    features = shards.specs(parts[0])
    manifest = shards.write(tmp_path / "o", {"train": parts}, rows_per_record=rows_per_record, features=features)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in ("id", "x")}
    for most in (1, 5, 20, 1000):
        found = sample_shards(str(tmp_path / "o"), manifest, "train", rows=most)
        assert len(found["id"]) <= most
        places = np.searchsorted(whole["id"], found["id"])
        for name, values in found.items():
            np.testing.assert_array_equal(values, whole[name][places])
    assert len(found["id"]) == 47
    path = tmp_path / "o" / "train" / "train-00000.tfrecord"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"train-00000.*expected in record"):
        sample_shards(str(tmp_path / "o"), manifest, "train")


def test_rows_of_several_lengths(tmp_path):
    lengths = ragged.lengths_of(53)
    manifest = ragged.write(tmp_path / "o", [lengths[:20], [], lengths[20:]])
    found = sample_shards(str(tmp_path / "o"), manifest, "train")
    columns = [column for column in found.values() if isinstance(column, Ragged)]
    assert columns
    assert sorted(columns[0].lengths.tolist()) == sorted(lengths)
