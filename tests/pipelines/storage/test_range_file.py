"""Ranges of a remote file: the bytes of a local one, in few requests, through errors that pass."""

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
from pipelines.storage import files, range_file, retry
from pipelines.storage.range_file import Piece, RangeFile, read_pieces
from tests.support.arrays import RamFileSystem, _RamReader, empty_ram

DATA = bytes(range(256)) * 4000
PATH = "broken://bucket/x"


class BrokenFileSystem(RamFileSystem):
    """`broken://`: a connection ends after so many bytes; 0 for connections that do not end."""

    bytes_each = 0

    @classmethod
    def scheme(cls) -> str:
        return "broken"

    def open(self, path: str, *_: Any, **__: Any) -> Any:
        return _Reader(self._get(path))


class _Reader(_RamReader):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = BrokenFileSystem.bytes_each or 2**40

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            raise ConnectionResetError("the connection was reset")
        count = super().readinto(memoryview(buffer)[: self._left])
        self._left -= count
        return count


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(retry.time, "sleep", lambda _: None)
    empty_ram()
    RamFileSystem.contents[PATH] = DATA
    BrokenFileSystem.bytes_each = 0
    range_file._turn.cache_clear()
    yield
    range_file._turn.cache_clear()
    BrokenFileSystem.bytes_each = 0
    empty_ram()


def steps() -> st.SearchStrategy[list[tuple[int, int, bool]]]:
    """Places, how many bytes are read there, and whether that was announced."""
    return st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, 400_000), st.booleans()), max_size=8)


@given(steps=steps(), exact=st.booleans(), each=st.sampled_from([0, 50_000, 300_001]))
def test_reads_what_a_local_file_has(steps: list[tuple[int, int, bool]], exact: bool, each: int) -> None:
    RamFileSystem.contents[PATH] = DATA
    BrokenFileSystem.bytes_each = each
    local = io.BytesIO(DATA)
    remote: Any = files.open_ranges(PATH) if exact else files.open_input(PATH)
    with remote:
        for offset, count, announced in steps:
            if exact and announced:
                remote.will_read(offset, offset + count)
            assert remote.seek(offset) == local.seek(offset)
            found = b"".join(iter(lambda left=[count]: take(remote, left), b"")) if exact else remote.read(count)
            assert found == local.read(count)
        remote.seek(100)
        assert remote.read() == DATA[100:]
    BrokenFileSystem.bytes_each = 0


def take(file: Any, left: list[int]) -> bytes:
    piece: bytes = file.read(left[0])
    left[0] -= len(piece)
    return piece


def test_what_was_announced_is_one_request() -> None:
    with counters.counting() as counter, files.open_ranges(PATH) as file:
        file.will_read(1000, 300_000)
        buffer = bytearray(10_000)
        for offset in (1000, 20_000, 100_000, 290_000):
            file.seek(offset)
            done = 0
            while done < len(buffer):
                done += file.readinto(memoryview(buffer)[done:])
            assert bytes(buffer) == DATA[offset : offset + 10_000]
    assert counter.read(counters.REQUESTS).rows == 1
    assert counter.read(counters.BYTES_READ).rows == 299_000


def test_a_connection_that_ends_is_opened_again_where_it_stood() -> None:
    BrokenFileSystem.bytes_each = 200_000
    with counters.counting() as counter, files.open_ranges(PATH) as file:
        assert file.read() == DATA
    assert counter.read(counters.RETRIES).rows == len(DATA) // 200_000
    assert counter.read(counters.BYTES_READ).rows == len(DATA)


def test_a_connection_that_always_ends_is_an_error_in_the_end() -> None:
    class Ending(_Reader):
        def readinto(self, buffer: Any) -> int:
            raise ConnectionResetError("the connection was reset")

    system = BrokenFileSystem({})
    system.open = lambda *_, **__: Ending(DATA)  # type: ignore[method-assign]

    class Store:
        def open(self, path: str, *, exact: bool) -> Any:
            from pipelines.storage.stores import _BeamOpened

            return _BeamOpened(system, path, exact=exact)

    file = RangeFile(Store(), PATH, exact=True)  # type: ignore[arg-type]
    with counters.counting() as counter, file, pytest.raises(ConnectionResetError):
        file.read(10)
    assert counter.read(counters.RETRIES).rows == retry.ATTEMPTS - 1


def test_a_file_that_is_read_on_needs_few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    request = range_file.RangeFile._request
    monkeypatch.setattr(
        range_file.RangeFile, "_request", lambda self, a, b: (request(self, a, b), asked.append((a, self._stop)))[0]
    )
    with files.open_input(PATH) as file:
        while file.read(1000):
            pass
    assert asked[0] == (0, range_file.FIRST_AHEAD_BYTES)  # a header
    assert len(asked) <= 6
    assert [stop for _, stop in asked[:-1]] == [start for start, _ in asked[1:]]


def reading(path: str, start: int, count: int, put: Callable[[bytes], object]) -> Piece:
    """A piece that hands on the bytes that it reads."""

    def read(file: RangeFile) -> None:
        file.will_read(start, start + count)
        file.seek(start)
        left = [count]
        put(b"".join(iter(lambda: take(file, left), b"")))

    return path, read


def pieces_of(places: Sequence[tuple[int, int, int]], found: dict[int, bytes]) -> Iterator[Piece]:
    """The files' numbers, where each piece begins, and its bytes."""
    for number, (file, start, count) in enumerate(places):
        yield reading(f"{PATH}-{file}", start, count, functools.partial(found.__setitem__, number))


@given(
    places=st.lists(st.tuples(st.integers(0, 2), st.integers(0, len(DATA) // 2), st.integers(1, 200_000)), max_size=60),
    each=st.sampled_from([0, 50_000]),
)
def test_pieces_that_are_read_at_the_same_time_are_those_of_local_files(
    places: list[tuple[int, int, int]], each: int
) -> None:
    contents = {f"{PATH}-{file}": DATA[file:] for file in range(3)}
    RamFileSystem.contents.update(contents)
    BrokenFileSystem.bytes_each = each
    found: dict[int, bytes] = {}
    with counters.counting() as counter:
        read_pieces(pieces_of(places, found), files.open_ranges)
    BrokenFileSystem.bytes_each = 0
    assert [found[number] for number in range(len(places))] == [
        contents[f"{PATH}-{file}"][start : start + count] for file, start, count in places
    ]
    assert counter.read(counters.BYTES_READ).rows == sum(count for _, _, count in places)
    assert counter.read(counters.REQUESTS).rows == len(places) + counter.read(counters.RETRIES).rows


def test_as_many_pieces_as_may_be_are_read_at_a_time_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_file, "READS_AT_ONCE", 4)
    together, counting = threading.Barrier(4), threading.Lock()
    now, most = 0, 0

    def read(_: RangeFile) -> None:
        nonlocal now, most
        with counting:
            now += 1
            most = max(most, now)
        together.wait(20)  # a piece that is read alone is an error
        threading.Event().wait(0.01)  # `sleep` does not wait here
        with counting:
            now -= 1

    askers = [threading.Thread(target=read_pieces, args=([(PATH, read)] * 8, files.open_ranges)) for _ in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert (now, most, together.broken) == (0, 4, False)


def test_after_an_error_no_piece_is_begun_and_nothing_is_left_open() -> None:
    begun: list[int] = []
    opened: list[RangeFile] = []

    def fail(_: RangeFile) -> None:
        raise ValueError("this one")

    def pieces() -> Iterator[Piece]:
        for number in range(100_000):
            begun.append(number)
            yield (f"{PATH}-{number % 3}", fail) if number >= 50 else reading(PATH, number, 1000, len)

    def open_file(path: str) -> RangeFile:
        opened.append(files.open_ranges(path))
        return opened[-1]

    threads = threading.active_count()
    with pytest.raises(ValueError, match="this one"):
        read_pieces(pieces(), open_file)
    assert 50 < len(begun) <= 50 + 2 * range_file.READS_AT_ONCE
    assert threading.active_count() == threads
    assert opened
    assert all(file.closed for file in opened)


def test_no_pieces_are_read_of_nothing() -> None:
    read_pieces(iter(()), files.open_ranges)


def test_a_process_that_is_forked_while_others_read_does_not_wait_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_file, "READS_AT_ONCE", 1)
    RamFileSystem.contents[f"{PATH}-0"] = DATA
    begun, ended = threading.Event(), threading.Event()

    def wait(_: RangeFile) -> None:
        begun.set()
        ended.wait(60)

    def read_elsewhere() -> None:
        found: dict[int, bytes] = {}
        read_pieces(pieces_of([(0, 5, 10)] * 3, found), files.open_ranges)
        assert found == dict.fromkeys(range(3), DATA[5:15])

    reader = threading.Thread(target=read_pieces, args=([(PATH, wait)], files.open_ranges))
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
