"""Values that travel as paths."""

import dataclasses
import pickle

import pytest

from pipelines.errors import WorkerError
from pipelines.plan import handoff
from pipelines.plan.handoff import Kept, keep


@dataclasses.dataclass(frozen=True)
class Value(Kept):
    numbers: tuple[int, ...]


LARGE = Value(tuple(range(10_000)))


def test_it_is_pickled_as_a_path_and_comes_back(tmp_path, monkeypatch):
    value = keep(LARGE, str(tmp_path / "value"))
    pickled = pickle.dumps(value)
    assert len(pickled) < 300 < len(pickle.dumps(LARGE))
    assert pickle.loads(pickled) is value  # in this process nothing is read
    monkeypatch.setattr(handoff, "_loaded", {})
    read = pickle.loads(pickled)
    assert read == LARGE
    assert read is not value
    assert pickle.dumps(read) == pickled  # a worker may send it on


def test_what_was_kept_can_be_kept_elsewhere(tmp_path, monkeypatch):
    again = keep(keep(LARGE, str(tmp_path / "one")), str(tmp_path / "two"))
    (tmp_path / "one").unlink()
    monkeypatch.setattr(handoff, "_loaded", {})
    assert pickle.loads(pickle.dumps(again)) == LARGE


def test_a_changed_value_is_itself_again(tmp_path):
    changed = dataclasses.replace(keep(LARGE, str(tmp_path / "value")), numbers=(1,))
    assert pickle.loads(pickle.dumps(changed)) == Value((1,))


def test_another_value_in_the_file_is_an_error(tmp_path, monkeypatch):
    pickled = pickle.dumps(keep(LARGE, str(tmp_path / "value")))
    keep(Value((1,)), str(tmp_path / "value"))
    monkeypatch.setattr(handoff, "_loaded", {})
    with pytest.raises(WorkerError, match="value: expected the plan of this job"):
        pickle.loads(pickled)


def test_few_values_are_remembered(tmp_path):
    for number in range(5):
        keep(Value((number,)), str(tmp_path / str(number)))
    assert len(handoff._loaded) == handoff.REMEMBERED
