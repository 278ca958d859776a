"""Where records end, and when a ClientHello is whole: bytes only."""

import itertools
import re
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.tls_records import (
    HEADER,
    MAX_HELLO,
    MAX_HELLO_RECORDS,
    MAX_RECORD,
    REFUSAL,
    RecordError,
    hello_is_whole,
    whole_records,
)
from tests.support.certificates import trusting_any
from tests.support.sealed import BareClient


def record(payload: bytes, *, kind: int = 22) -> bytes:
    return bytes((kind, 3, 1)) + len(payload).to_bytes(2, "big") + payload


def hello_message(size: int = 200) -> bytes:
    return b"\x01" + size.to_bytes(3, "big") + bytes(size)


# -- records ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(0, 200))
def test_whole_records_end_where_a_record_ends(payloads: list[bytes], cut: int) -> None:
    """Whatever is cut off the end: what is taken is whole records, and as many as there are."""
    wire = b"".join(record(payload, kind=23) for payload in payloads)
    ends = [0]
    for payload in payloads:
        ends.append(ends[-1] + HEADER + len(payload))
    cut = min(cut, len(wire))
    assert whole_records(wire[:cut]) == max(end for end in ends if end <= cut)


@pytest.mark.parametrize(("length", "fits"), [(MAX_RECORD, True), (MAX_RECORD + 1, False), (65_535, False)])
def test_a_record_has_a_largest_size_which_its_header_tells(length: int, fits: bool) -> None:
    header = b"\x17\x03\x03" + length.to_bytes(2, "big")
    if fits:
        assert whole_records(header) == 0
        assert whole_records(header + bytes(length)) == HEADER + length
    else:
        with pytest.raises(RecordError, match=f"{length:,} bytes"):
            whole_records(header)


# -- hellos -----------------------------------------------------------------------------------------------------------


def check(wire: bytes) -> None:
    """Fed a byte at a time: it is whole with its last byte, and not before; what comes behind makes no difference."""
    assert [at for at in range(len(wire)) if hello_is_whole(wire[:at])] == []
    assert hello_is_whole(wire)
    assert hello_is_whole(wire + b"\xff\xff")


def refused(wire: bytes, words: str) -> None:
    """Refused, and each of its beginnings is unfinished or refused alike."""
    with pytest.raises(RecordError, match=words):
        hello_is_whole(wire)
    for at in range(len(wire)):
        try:
            assert not hello_is_whole(wire[:at])
        except RecordError as error:
            assert re.search(words, str(error))  # noqa: PT017
            break


def test_a_hello_as_openssl_sends_it() -> None:
    check(BareClient(trusting_any()).step())


@pytest.mark.parametrize("cuts", [(1,), (3,), (4,), (5,), (100,), (1, 2, 3, 4, 5, 6)])
def test_a_hello_in_several_records(cuts: tuple[int, ...]) -> None:
    message = hello_message()
    places = (0, *cuts, len(message))
    check(b"".join(record(message[a:b]) for a, b in itertools.pairwise(places)))


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"GET / HTTP/1.1\r\n", "0x47"),
        (b"\x80\x2e\x01\x03\x01", "0x80"),  # SSL 2's hello
        (b"\x17\x03\x03\x00\x05", "0x17"),
        (b"\x16\x02\x00\x00\x05", "major version 2"),
        (b"\x16\x03\x01\x00\x00", "empty or oversized"),
        (b"\x16\x03\x01\xff\xff", "empty or oversized"),
        (record(b"\x02\x00\x00\x01\x00"), "ClientHello"),
        (record(b"\x01\x02\x00\x00"), "131,076 bytes"),
        (record(hello_message(MAX_HELLO)), f"limit {MAX_HELLO:,}"),
        (record(b"\x01") + b"GET / ", "0x47"),
        (b"".join(record(hello_message()[at : at + 1]) for at in range(MAX_HELLO_RECORDS + 1)), "more than 8 records"),
    ],
)
def test_what_is_no_hello(wire: bytes, words: str) -> None:
    refused(wire, words)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_hello_or_not_yet_or_refused(data: bytes) -> None:
    try:
        hello_is_whole(data)
        whole_records(data)
    except RecordError:
        pass


def test_the_refusal_is_an_alert_that_openssl_understands() -> None:
    client = BareClient(trusting_any())
    client.step()
    with pytest.raises(ssl.SSLError, match=r"(?i)alert internal error"):
        client.step(REFUSAL)
