from __future__ import annotations

import io
import pickle
import tokenize
import tracemalloc
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.sources.formats.dtypes import leaves, record_dtype, record_text
from pipelines.sources.formats.npy import MAX_HEADER, read_header
from pipelines.sources.formats.protocol import FormatError, Header
from tests.support.arrays import DTYPES, npy_bytes, values, with_header

VERSIONS = [(1, 0), (2, 0), (3, 0)]


def read(data: bytes) -> Header:
    return read_header(io.BytesIO(data), size=len(data))


def fault(data: bytes) -> str:
    with pytest.raises(FormatError) as error:
        read(data)
    return str(error.value)


def header_text(descr: object = "<f4", fortran: object = False, shape: object = (2, 3)) -> str:
    return repr({"descr": descr, "fortran_order": fortran, "shape": shape})


@hypothesis.given(
    dtype=st.sampled_from([*DTYPES, "S1", "S5", "U3", "M8[ns]", "m8[25s]", "c8", "c16"]),
    order=st.sampled_from("<>"),
    shape=st.lists(st.integers(0, 4), max_size=4).map(tuple),
    fortran=st.booleans(),
    version=st.sampled_from(VERSIONS),
)
def test_reads_what_numpy_writes(
    dtype: str, order: str, shape: tuple[int, ...], fortran: bool, version: tuple[int, int]
) -> None:
    array = values(shape, dtype).astype(np.dtype(dtype).newbyteorder(order))
    data = npy_bytes(np.asarray(array, order="F" if fortran else "C"), version=version)
    file = io.BytesIO(data)
    header = read_header(file, size=len(data))
    assert (header.dtype, header.shape) == (array.dtype, shape)
    assert file.tell() == header.locator == len(data) - header.nbytes
    loaded = np.load(io.BytesIO(data))
    again = np.ndarray(shape, header.dtype, data, header.locator, order="F" if header.fortran else "C")
    assert again.tobytes() == loaded.tobytes()


def test_reads_an_unbuffered_file_that_gives_a_byte_at_a_time() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(1, size or 0))

    data = npy_bytes(np.zeros((2, 3)))
    assert read_header(Slow(data), size=len(data)) == read(data)


def test_reads_the_long_integers_of_python_2() -> None:
    data = with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }", bytes(24))
    assert read(data).shape == (2, 3)
    assert "SyntaxError" in fault(
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }", bytes(24), version=(3, 0))
    )


def test_a_name_that_looks_like_a_long_integer_stays() -> None:
    dtype = np.dtype([("1L, a", "<f4"), ("2L)", "<i2")])
    assert read(npy_bytes(np.zeros(2, dtype))).dtype == dtype


@pytest.mark.parametrize("before", ["\r", "\r\t", "\x0c\n "])
def test_white_space_that_numpy_refuses_is_refused(before: str) -> None:
    for number in ("2", "2L"):
        data = with_header(f"{before}{{'descr': '<f4', 'fortran_order': False, 'shape': ({number},), }}", bytes(8))
        try:
            assert np.load(io.BytesIO(data)).shape == read(data).shape == (2,)
        except (ValueError, tokenize.TokenError):  # NumPy's; the tokenizer's, from Python 3.12 on
            assert "a header that is a dictionary" in fault(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found the end of the file after 0 of 8 bytes"),
        (b"PK\x03\x04" + bytes(100), "expected a .npy file, which begins with \\x93NUMPY; found b'PK"),
        (b"\x93NUMPY\x04\x00" + bytes(100), "expected .npy version 1.0, 2.0 or 3.0; found version 4.0"),
        (b"\x93NUMPY\x01\x01" + bytes(100), "found version 1.1"),
        (b"\x93NUMPY\x01\x00\x10", "the length of the header; found the end of the file after 1 of 2 bytes"),
        (b"\x93NUMPY\x01\x00\x10\x00{}", "a header of 16 bytes; found the end of the file after 2 of 16 bytes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "a header of at most 10000 bytes; found 4294967295 bytes"),
        (with_header("\u00e9", version=(3, 0))[:-1], "the end of the file after 1 of 2 bytes"),
        (with_header("[1, 2]"), "a dictionary of descr, fortran_order and shape; found '[1, 2]'"),
        (with_header("{'descr': '<f4', 'shape': (1,)}"), "a dictionary of descr, fortran_order and shape"),
        (with_header(header_text()[:-1] + ", 'more': 1}"), "a dictionary of descr, fortran_order and shape"),
        (with_header("__import__('os').getcwd()"), "(ValueError)"),
        (with_header("{{}: 1}"), "(TypeError)"),
        (with_header("(" * MAX_HEADER), "a dictionary of descr, fortran_order and shape"),
        (with_header("-" * (MAX_HEADER - 1) + "1"), "a dictionary of descr, fortran_order and shape"),
        (with_header(header_text(descr=[("a", "<f4"), ("b", "O")])), "object (it would have to be unpickled)"),
        (with_header(header_text(descr=[("a", 0x7)]).replace("7", "0x" + "f" * 8000)), "found descr"),
        (with_header(header_text(descr=7)), "found descr 7"),
        (with_header(header_text(descr="nonsense")), "found descr 'nonsense'"),
        (with_header(header_text(descr=[])), "fields, each of its own name; found descr []"),
        (with_header(header_text(descr="(2,)i4")), "found descr '(2,)i4', which has axes of its own"),
        (with_header(header_text(fortran=1)), "fortran_order to be True or False; found int"),
        (with_header(header_text(shape=[2, 3])), "a shape that is a tuple of at most 64 lengths"),
        (with_header(header_text(shape=(2, -3))), "each from 0 to 2**63 - 1; found (2, -3)"),
        (with_header(header_text(shape=(True, 3))), "found (True, 3)"),
        (with_header(header_text(shape=(2.0, 3))), "found (2.0, 3)"),
        (with_header(header_text(shape=(2**63,))), "each from 0 to 2**63 - 1"),
        (with_header(header_text(shape=(7,)).replace("7", "0x" + "f" * 8000)), "a number of thousands of digits"),
        (with_header(header_text(shape=(1,) * 65)), "at most 64 lengths"),
        (with_header(header_text(shape=(2**62, 2**62))), "an array of fewer than 2**63 bytes"),
        (with_header(header_text(shape=(0, 2**62, 2**62))), "an array of fewer than 2**63 bytes"),
        (npy_bytes(np.zeros((2, 3)))[:-1], "of header and float64 values of shape (2, 3); found 175 bytes (truncated)"),
        (npy_bytes(np.zeros((2, 3))) + b"xy", "found 178 bytes (2 trailing bytes)"),
        (npy_bytes(np.array([None, {}])), "a dtype without objects; found object (it would have to be unpickled)"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(data: bytes, message: str) -> None:
    assert message in fault(data)


@pytest.mark.parametrize(
    "dtype", ["V4", "longdouble", "c32", "M8", "m8", [("a", "f4"), ("b", "V3")], [("a", [("b", "M8")])]]
)
def test_refuses_other_dtypes(dtype: Any) -> None:
    assert "expected bool, an integer, float16/32/64, complex64/128, bytes, text, or " in fault(
        npy_bytes(np.zeros(3, dtype))
    )


def test_says_which_field_is_refused() -> None:
    dtype = [("a", "f4"), ("b", [("c", "V3")])]
    assert fault(npy_bytes(np.zeros(3, dtype))).endswith("in field 'b.c'")


def test_fields_whose_joined_names_are_equal_are_refused() -> None:
    dtype = [("a.b", "f4"), ("a", [("b", "i4")])]
    assert "fields, each of its own name" in fault(npy_bytes(np.zeros(3, dtype)))


def test_the_columns_of_a_structured_dtype() -> None:
    inner = np.dtype([("u", ">i2"), ("v", "S3", (2,))])
    dtype = np.dtype([(("title", "a"), "<f4"), ("p", inner, (3,)), ("t", "M8[ms]")], align=True)
    assert [(leaf.name, leaf.dtype.str, leaf.shape) for leaf in leaves(read(npy_bytes(np.zeros(5, dtype))).dtype)] == [
        ("a", "<f4", ()),
        ("p.u", ">i2", (3,)),
        ("p.v", "|S3", (3, 2)),
        ("t", "<M8[ms]", ()),
    ]


PLAIN = st.sampled_from([*DTYPES, ">f8", "S3", "<U2", ">U2", "M8[ns]", ">m8[25s]", "c8", ">c16"])
NAMES = st.lists(st.text("abcß", min_size=1, max_size=3), min_size=1, max_size=3, unique=True)


@st.composite
def structured(draw: st.DrawFn, depth: int = 2) -> np.dtype[Any]:
    """A structured dtype with titles, padding, subarrays and fields of fields."""
    fields = []
    for number, name in enumerate(draw(NAMES)):
        kind = draw(structured(depth - 1)) if depth and draw(st.booleans()) else np.dtype(draw(PLAIN))
        named = (f"title {number}", name) if draw(st.booleans()) else name
        fields.append((named, kind, tuple(draw(st.lists(st.integers(1, 2), max_size=2)))))
    return np.dtype(fields, align=draw(st.booleans()))


@hypothesis.given(dtype=structured(), shape=st.lists(st.integers(0, 3), max_size=2).map(tuple))
def test_structured_dtypes_come_back_as_numpy_reads_them(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    data = npy_bytes(np.zeros(shape, dtype))
    loaded = np.load(io.BytesIO(data))
    header = read(data)
    assert header.dtype == loaded.dtype
    again = record_dtype(record_text(header.dtype))
    assert again == loaded.dtype
    for leaf in leaves(header.dtype):
        column = loaded
        for name in leaf.path:
            column = column[name]
        assert (leaf.dtype, shape + leaf.shape) == (column.dtype, column.shape)
        assert again[leaf.path[0]] == loaded.dtype[leaf.path[0]]


def test_an_undecodable_header() -> None:
    data = bytearray(with_header(header_text(), bytes(24), version=(3, 0)))
    data[14] = 0xFF
    assert "a header in UTF-8" in fault(bytes(data))


def test_a_huge_shape_takes_no_memory() -> None:
    data = with_header(header_text(shape=(2**40, 2**10)), bytes(24))
    tracemalloc.start()
    message = fault(data)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert "truncated" in message


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(FormatError(expected="a", found="b")))
    assert (error.expected, error.found, str(error)) == ("a", "b", "expected a; found b")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A `.npy` file with some bytes changed, put in, or taken out."""
    data = bytearray(npy_bytes(np.zeros(draw(st.lists(st.integers(0, 3), max_size=3)), draw(st.sampled_from(DTYPES)))))
    for _ in range(draw(st.integers(1, 4))):
        # Below 90 is what a header's text takes; the rest is padding.
        at = draw(st.integers(0, min(90, len(data) - 1)))
        piece = draw(st.binary(max_size=3) | st.text("0123456789(){}[]<>'\",:LOTFi8-\\", max_size=8).map(str.encode))
        data[at : at + draw(st.integers(0, 4))] = piece
    return bytes(data)


@st.composite
def odd_headers(draw: st.DrawFn) -> bytes:
    """A well-formed file of a header that holds anything."""
    literals = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple),
        max_leaves=6,
    )
    descr = literals | st.from_regex(r"[<>|=]?[a-zA-Z?]\d{0,3}(\[[a-z]+\])?(,[a-z]\d)?", fullmatch=True)
    shape = literals | st.lists(st.integers(-1, 2**64), max_size=3).map(tuple)
    text = header_text(draw(descr), draw(st.booleans() | literals), draw(shape))
    version = draw(st.sampled_from(VERSIONS))
    return with_header(text, draw(st.binary(max_size=32)), version=version)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")  # of escapes in random text
@hypothesis.settings(max_examples=300)
@hypothesis.given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda tail: b"\x93NUMPY" + tail),
        st.text(max_size=300).map(with_header),
        damaged(),
        odd_headers(),
    )
)
def test_nothing_but_an_npy_error_and_little_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        header = read(data)
    except FormatError:
        pass
    else:
        assert header.locator + header.nbytes == len(data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 2**20
