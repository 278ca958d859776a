"""Requests and messages made to a size."""

from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.fingerprint.exchange import Exchange
from loadgen.fingerprint.probes.sizes import blank, padding


@settings(deadline=None)
@given(size=st.integers(6, 20_000), line=st.integers(100, 5_000))
def test_padding_takes_exactly_its_bytes(size: int, line: int) -> None:
    def head(*fields: tuple[str, str]) -> bytes:
        return Exchange("127.0.0.1").request("GET", "/", fields)

    fields = padding(size, line)
    assert len(head(*fields)) - len(head()) == size
    assert all(5 < len(name) + len(value) + 4 <= line for name, value in fields)


def test_no_padding() -> None:
    assert padding(0, 4000) == ()


@settings(deadline=None)
@given(size=st.integers(0, 300_000))
def test_blanks(size: int) -> None:
    assert b"".join(blank(size)) == b" " * size
