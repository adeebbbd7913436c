"""Records of another content than the manifest says are refused when they are parsed."""

import numpy as np
import pytest

from loaders.format.decode import RecordError, parse
from tests.support import shards


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("rows", [2, 4])
def test_a_record_of_another_number_of_rows_is_refused(dtype, rows):
    values = {"x": np.ones((3, 2), dtype)}
    features = shards.specs(values)
    record = shards.encode(values, features, 4)

    with pytest.raises(RecordError, match=rf"expected {2 * rows} values in feature x; found"):
        parse(record, features, names=frozenset("x"), rows=rows, rows_per_record=4)


def test_a_missing_feature_is_named():
    values = {"a": np.zeros(2, "u1")}
    record = shards.encode(values, shards.specs(values), 2)
    features = shards.specs({"b": np.zeros(2, "u1")})

    with pytest.raises(RecordError, match="expected the name in feature b; found b'a'"):
        parse(record, features, names=frozenset("b"), rows=2, rows_per_record=2)
