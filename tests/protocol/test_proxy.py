"""PROXY headers: whole, a byte at a time, with bytes after them, and bytes that are no header."""

import ipaddress
import tracemalloc
from unittest.mock import Mock

from hypothesis import example, given
from hypothesis import strategies as st

from chatserver.protocol.proxy import (
    MAX_BINARY,
    MAX_HOPS,
    MAX_TEXT,
    ProxyError,
    ProxyHeader,
    client_of,
    parse_proxy_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
ADDRESSES = b"\xc0\x00\x02\x07" + b"\xc6\x33\x64\x01" + b"\x12\x34\x01\xbb"


def binary(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body


def check(wire: bytes, source: str | None) -> None:
    """A header is incomplete until its last byte, then complete with any bytes after it."""
    expected = ProxyHeader(len(wire), source)
    assert [at for at in range(len(wire)) if parse_proxy_header(wire[:at]) is not None] == []
    assert parse_proxy_header(wire) == expected
    for trailing in (b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", wire):
        assert parse_proxy_header(wire + trailing) == expected


def test_the_source_in_a_proxy_header() -> None:
    for wire, source in (
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", "192.0.2.7"),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
        (b"PROXY TCP6 2001:0DB8::0007 2001:DB8:0:0:0:0:0:1 1 2\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN " + b"x" * (MAX_TEXT - 16) + b"\r\n", None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        (binary(0x21, 0x11, ADDRESSES), "192.0.2.7"),
        (binary(0x21, 0x11, ADDRESSES + b"\x04\x00\x02no"), "192.0.2.7"),  # a TLV
        (binary(0x21, 0x11, ADDRESSES.ljust(MAX_BINARY - 16)), "192.0.2.7"),
        (binary(0x20, 0x00, b""), None),  # LOCAL: a health check of the balancer
        (binary(0x20, 0x11, ADDRESSES), None),
        (binary(0x21, 0x00, b""), None),
        (binary(0x21, 0x12, ADDRESSES), None),  # UDP
        (binary(0x21, 0x31, bytes(216)), None),  # Unix
    ):  # fmt: skip
        check(wire, source)


def test_bytes_that_are_no_header() -> None:
    """The bytes are refused, and each prefix is incomplete or refused."""
    for wire in (
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 \xff 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY TCP4 " + b"1" * (MAX_TEXT - len(b"PROXY TCP4 ")),
        b"PROXY UNKNOWN " + b"x" * MAX_TEXT + b"\r\n",
        SIGNATURE + b"\x11\x11\x00\x0c" + ADDRESSES,  # version 1 in the binary form
        SIGNATURE + b"\x22\x11\x00\x0c" + ADDRESSES,  # no such command
        binary(0x21, 0x11, ADDRESSES[:-1]),
        binary(0x21, 0x21, ADDRESSES),
        SIGNATURE + b"\x21\x11\xff\xff",
        SIGNATURE[:-1] + b"X",
        b"\r\n\r\nGET / HTTP/1.1",
    ):
        for at in range(len(wire) + 1):
            try:
                assert parse_proxy_header(wire[:at]) is None
            except ProxyError:
                break
        else:
            raise AssertionError(f"not refused: {wire!r}")


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: SIGNATURE + rest))
@example(b"")
def test_any_bytes_are_a_header_incomplete_or_refused(data: bytes) -> None:
    """Only ProxyError is raised, no header is longer than its bytes, and later bytes change nothing."""
    try:
        header = parse_proxy_header(data)
    except ProxyError:
        return
    if header is not None:
        assert 0 < header.size <= len(data)
        assert parse_proxy_header(data + b"x") == header
        assert parse_proxy_header(data[: header.size]) == header


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_the_address_is_read_back(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    line = f"PROXY TCP{address.version} {address} {address} {port} {port}\r\n".encode()
    check(line, str(address))
    ports = port.to_bytes(2, "big") * 2
    check(binary(0x21, 0x11 if address.version == 4 else 0x21, address.packed * 2 + ports), str(address))


# -- X-Forwarded-For, read from the right


def trusted(address: str) -> bool:
    return address.startswith(("10.", "fd00:"))


def test_the_client_is_the_first_untrusted_address_from_the_right() -> None:
    for field, client in (
        ("192.0.2.7,10.0.0.1,10.0.0.2", "192.0.2.7"),
        ("203.0.113.9, 192.0.2.7, 10.0.0.1", "192.0.2.7"),  # the client's own claim stands further left
        ("10.0.0.9, 192.0.2.7", "192.0.2.7"),
        ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("192.0.2.7:5678", "192.0.2.7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:5678, fd00::1", "2001:db8::7"),
        ("2001:0DB8:0::7", "2001:db8::7"),
        ("0000:0000:0000:0000:0000:ffff:192.168.100.200", str(ipaddress.ip_address("::ffff:c0a8:64c8"))),
        ("0000:0000:0000:0000:0000:ffff:192.168.100.2000", None),
        ("fe80::7%eth0", "fe80::7"),  # of a zone a client in the proxy's network could send 16 KB, and it was kept
        (" 192.0.2.7\t,  10.0.0.1 ", "192.0.2.7"),
        ("", None),
        (",", None),
        ("unknown", None),
        ("_hidden, 10.0.0.1", "10.0.0.1"),  # a hidden hop: the nearest known address counts
        ("192.0.2.7, unknown", None),
        ("192.0.2.256", None),
        ("192.0.2.7, ", None),
        ("127.1", None),
        ("localhost", None),
    ):
        assert client_of(field, trusted) == client


@given(st.text(alphabet="0123456789abcdef.:[], x", max_size=60) | st.text(max_size=100))
def test_a_field_sent_by_the_client_has_no_effect(claimed: str) -> None:
    """The address that the proxy appends counts, whatever the client sends in the field."""
    client_of(claimed, trusted)  # an address or nothing
    assert client_of(f"{claimed}, 192.0.2.7, 10.0.0.1", trusted) == "192.0.2.7"


def test_no_more_hops_are_looked_at_than_a_chain_has() -> None:
    """8,000 addresses of its own network from a trusted proxy would take 25 ms of the loop."""
    for hops in (MAX_HOPS, MAX_HOPS + 1, 4000):
        trusts = Mock(return_value=True)
        assert client_of(", ".join(["192.0.2.7"] + ["10.0.0.1"] * (hops - 1)), trusts) is not None
        assert trusts.call_count == MAX_HOPS, hops


def test_of_a_long_text_only_the_length_of_an_address_is_read() -> None:
    """`ipaddress` puts all of it into its error, four times as long: 0.4 ms of the loop."""
    claimed = "\x81" * 16_000
    tracemalloc.start()
    try:
        assert client_of(claimed, trusted) is None
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
