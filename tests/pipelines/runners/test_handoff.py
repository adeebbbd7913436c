"""Values that travel as references to files."""

import dataclasses
import pickle

import pytest

from pipelines.errors import WorkerError
from pipelines.runners import handoff
from pipelines.runners.failures import Recorded, recorded
from pipelines.runners.handoff import hand_over


@dataclasses.dataclass(frozen=True)
class Value:
    numbers: tuple[int, ...]


LARGE = Value(tuple(range(10_000)))


def test_a_reference_is_pickled_and_its_value_comes_back(tmp_path, monkeypatch):
    reference = hand_over(LARGE, str(tmp_path / "value"))
    pickled = pickle.dumps(reference)
    assert len(pickled) < 300 < len(pickle.dumps(LARGE))
    assert pickle.loads(pickled) == reference
    assert reference.load() is LARGE  # in this process nothing is read
    monkeypatch.setattr(handoff, "_loaded", {})
    read = pickle.loads(pickled).load()
    assert read == LARGE
    assert read is not LARGE
    assert reference.load() is read  # once a process


def test_another_value_in_the_file_is_an_error(tmp_path, monkeypatch):
    reference = hand_over(LARGE, str(tmp_path / "value"))
    hand_over(Value((1,)), str(tmp_path / "value"))
    monkeypatch.setattr(handoff, "_loaded", {})
    with pytest.raises(WorkerError, match="value: expected the plan of this job"):
        reference.load()


def test_few_values_are_remembered(tmp_path):
    for number in range(5):
        hand_over(Value((number,)), str(tmp_path / str(number)))
    assert len(handoff._loaded) == handoff.REMEMBERED


def test_a_function_of_a_worker_is_given_the_value(tmp_path, monkeypatch):
    reference = hand_over(LARGE, str(tmp_path / "value"))
    monkeypatch.setattr(handoff, "_loaded", {})
    call = Recorded(lambda item, value: (item, value), str(tmp_path / "errors"))
    assert call(3, reference) == (3, LARGE)
    (tmp_path / "value").write_bytes(b"")
    monkeypatch.setattr(handoff, "_loaded", {})
    with pytest.raises(WorkerError):
        call(3, reference)
    assert isinstance(recorded(str(tmp_path / "errors")), WorkerError)
