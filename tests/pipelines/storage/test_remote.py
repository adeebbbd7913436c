"""Ranges of a remote file: the bytes of a local one, in few requests, through errors that pass; and writing."""

import functools
import io
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import counters
from pipelines.storage import files, remote, retry
from pipelines.storage.remote import ReadTask, read_pieces
from tests.support.arrays import RamFileSystem, empty_ram, register

DATA = bytes(range(256)) * 4000
PATH = "broken://bucket/x"


@register
class BrokenFileSystem(RamFileSystem):
    """`broken://`: some requests fail as a connection does that ends."""

    protocol = "broken"
    failing = 0
    """Of so many requests one fails; 0 for none."""
    asked = 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        BrokenFileSystem.asked += 1
        if self.failing and self.asked % self.failing == 0:
            raise ConnectionResetError("the connection was reset")
        return super().cat_file(path, start, end)


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(retry.time, "sleep", lambda _: None)
    empty_ram()
    RamFileSystem.contents[PATH] = DATA
    BrokenFileSystem.failing = BrokenFileSystem.asked = 0
    remote._turn.cache_clear()
    yield
    remote._turn.cache_clear()
    BrokenFileSystem.failing = 0
    empty_ram()


@given(
    places=st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, 400_000)), max_size=8),
    sized=st.booleans(),
    failing=st.sampled_from([0, 2, 3]),
)
def test_reads_what_a_local_file_has(places: list[tuple[int, int]], sized: bool, failing: int) -> None:
    RamFileSystem.contents[PATH] = DATA
    BrokenFileSystem.failing = failing
    local = io.BytesIO(DATA)
    with files.open_input(PATH, size=len(DATA) if sized else None) as file:
        for offset, count in places:
            assert file.seek(offset) == local.seek(offset)
            assert file.read(count) == local.read(count)
        file.seek(100)
        assert file.read() == DATA[100:]
        assert file.seek(-5, io.SEEK_END) == len(DATA) - 5
        assert file.read() == DATA[-5:]
    BrokenFileSystem.failing = 0


@given(start=st.integers(0, len(DATA) + 10), count=st.integers(1, 400_000))
def test_a_range_is_one_request_and_ends_with_the_file(start: int, count: int) -> None:
    RamFileSystem.contents[PATH] = DATA
    with counters.counting() as counter:
        assert files.read_range(PATH, start, start + count) == DATA[start : start + count]
    assert counter.read(counters.REQUESTS).rows == 1
    assert counter.read(counters.BYTES_READ).rows == len(DATA[start : start + count])


def test_requests_that_fail_are_made_again_and_counted() -> None:
    BrokenFileSystem.failing = 3
    with counters.counting() as counter:
        for start in range(0, len(DATA), 100_000):
            assert files.read_range(PATH, start, start + 100_000) == DATA[start : start + 100_000]
    assert counter.read(counters.RETRIES).rows == BrokenFileSystem.asked // 3 > 0
    assert counter.read(counters.REQUESTS).rows == BrokenFileSystem.asked
    assert counter.read(counters.BYTES_READ).rows == len(DATA)


def test_a_connection_that_always_ends_is_an_error_in_the_end() -> None:
    BrokenFileSystem.failing = 1
    with counters.counting() as counter, pytest.raises(OSError, match=r"the connection was reset.*broken://bucket/x"):
        files.read_range(PATH, 0, 10)
    assert counter.read(counters.RETRIES).rows == retry.ATTEMPTS - 1


def test_a_file_that_is_read_on_needs_few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    read_range = remote.read_range

    def read(path: str, start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return read_range(path, start, stop)

    monkeypatch.setattr(remote, "read_range", read)
    with files.open_input(PATH) as file:
        while file.read(1000):
            pass
    assert asked[0] == (0, remote.FIRST_AHEAD_BYTES)  # a header
    assert len(asked) <= 6
    assert [stop for _, stop in asked[:-1]] == [start for start, _ in asked[1:]]


def test_a_file_whose_size_is_known_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with counters.counting() as counter, files.open_input(PATH, size=len(DATA)) as file:
        assert file.seek(0, io.SEEK_END) == len(DATA)
        assert counter.read(counters.REQUESTS).rows == 0
        file.seek(len(DATA) - 100)
        assert file.read() == DATA[-100:]
    assert counter.read(counters.REQUESTS).rows == 1


@pytest.mark.parametrize("size", [0, 10, 250, 251, 1000])
def test_a_large_file_is_written_in_parts(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PART_BYTES", 125)
    with files.create("ram://bucket/y") as file:
        for first in range(0, size, 60):
            file.write(DATA[first : min(first + 60, size)])
    assert RamFileSystem.contents["ram://bucket/y"] == DATA[:size]


def reading(path: str, start: int, count: int, put: Callable[[bytes], object]) -> ReadTask:
    """A piece that hands on the bytes that it reads."""
    return lambda: put(files.read_range(path, start, start + count))  # type: ignore[return-value]


def pieces_of(places: Sequence[tuple[int, int, int]], found: dict[int, bytes]) -> Iterator[ReadTask]:
    """The files' numbers, where each piece begins, and its bytes."""
    for number, (file, start, count) in enumerate(places):
        yield reading(f"{PATH}-{file}", start, count, functools.partial(found.__setitem__, number))


@given(
    places=st.lists(st.tuples(st.integers(0, 2), st.integers(0, len(DATA) // 2), st.integers(1, 200_000)), max_size=60),
    failing=st.sampled_from([0, 3]),
)
def test_pieces_that_are_read_at_the_same_time_are_those_of_local_files(
    places: list[tuple[int, int, int]], failing: int
) -> None:
    contents = {f"{PATH}-{file}": DATA[file:] for file in range(3)}
    RamFileSystem.contents.update(contents)
    BrokenFileSystem.failing = failing
    found: dict[int, bytes] = {}
    with counters.counting() as counter:
        read_pieces(pieces_of(places, found))
    BrokenFileSystem.failing = 0
    assert [found[number] for number in range(len(places))] == [
        contents[f"{PATH}-{file}"][start : start + count] for file, start, count in places
    ]
    assert counter.read(counters.BYTES_READ).rows == sum(count for _, _, count in places)
    assert counter.read(counters.REQUESTS).rows == len(places) + counter.read(counters.RETRIES).rows


def test_as_many_pieces_as_may_be_are_read_at_a_time_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "READS_AT_ONCE", 4)
    together, counting = threading.Barrier(4), threading.Lock()
    now, most = 0, 0

    def read() -> None:
        nonlocal now, most
        with counting:
            now += 1
            most = max(most, now)
        together.wait(20)  # a piece that is read alone is an error
        threading.Event().wait(0.01)  # `sleep` does not wait here
        with counting:
            now -= 1

    askers = [threading.Thread(target=read_pieces, args=([read] * 8,)) for _ in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert (now, most, together.broken) == (0, 4, False)


def test_after_an_error_no_piece_is_begun_and_no_thread_is_left() -> None:
    begun: list[int] = []

    def fail() -> None:
        raise ValueError("this one")

    def pieces() -> Iterator[ReadTask]:
        for number in range(100_000):
            begun.append(number)
            yield fail if number >= 50 else reading(PATH, number, 1000, len)

    threads = threading.active_count()
    with pytest.raises(ValueError, match="this one"):
        read_pieces(pieces())
    assert 50 < len(begun) <= 50 + 2 * remote.READS_AT_ONCE
    assert threading.active_count() == threads


def test_no_pieces_are_read_of_nothing() -> None:
    read_pieces(iter(()))


def test_a_process_that_is_forked_while_others_read_does_not_wait_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "READS_AT_ONCE", 1)
    RamFileSystem.contents[f"{PATH}-0"] = DATA
    begun, ended = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        ended.wait(60)

    def read_elsewhere() -> None:
        found: dict[int, bytes] = {}
        read_pieces(pieces_of([(0, 5, 10)] * 3, found))
        assert found == dict.fromkeys(range(3), DATA[5:15])

    reader = threading.Thread(target=read_pieces, args=([wait],))
    reader.start()
    begun.wait()
    process = multiprocessing.get_context("fork").Process(target=read_elsewhere)
    process.start()
    process.join(30)
    code = process.exitcode
    process.kill()
    ended.set()
    reader.join()
    assert code == 0
