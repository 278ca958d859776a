"""Requests and messages made to a size."""

from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.fingerprint.probes.sizes import blank, padding
from loadgen.wire import request


@settings(deadline=None)
@given(size=st.integers(6, 20_000), line=st.integers(100, 5_000))
def test_padding_takes_exactly_its_bytes(size: int, line: int) -> None:
    def head(*fields: str) -> bytes:
        return request("GET", "/", "127.0.0.1", *fields)

    fields = padding(size, line)
    assert len(head(*fields)) - len(head()) == size
    assert all(5 < len(field + "\r\n") <= line for field in fields)


def test_no_padding() -> None:
    assert padding(0, 4000) == ()


@settings(deadline=None)
@given(size=st.integers(0, 300_000))
def test_blanks(size: int) -> None:
    assert b"".join(blank(size)) == b" " * size
