"""The client behind a proxy: the PROXY header of a connection, `X-Forwarded-For` and `-Proto` of a request.

Owns: their formats. May not: decide whether the sender is trusted, or know what follows. The PROXY header is that of
HAProxy's proxy-protocol.txt, versions 1 and 2. Only the source address in it is used; the extensions of version 2
(TLVs) are skipped.
"""

import ipaddress
import re
from collections.abc import Callable

import msgspec

from chatserver.protocol.errors import ProtocolError
from chatserver.protocol.head import Head

#: Bytes of a header of version 1, its line break included: the specification's own worst case.
MAX_TEXT = 107
#: Bytes of a header of version 2. The specification has 536 at most without extensions; nginx allows 4,096.
MAX_BINARY = 4096
#: Addresses that are read in `X-Forwarded-For`, from the right. Chains have two or three; an address takes 3 µs.
MAX_HOPS = 32
#: Characters of an address at most, with IPv4 in it; to find out that 16 KiB are none takes 0.4 ms.
MAX_ADDRESS = 45

_TEXT = b"PROXY "
_BINARY = b"\r\n\r\n\x00\r\nQUIT\n"
_BINARY_HEAD = 16  # bytes: signature, version and command, family and protocol, length
_LOCAL, _PROXY = 0x20, 0x21
#: Bytes of one address, by family and protocol. Others (UDP, Unix, unspecified) do not describe a TCP peer.
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}
_PORT_BYTES = 2
_LINE = re.compile(rb"PROXY (TCP4|TCP6) (\S+) (\S+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")


class ProxyError(ProtocolError):
    """A trusted balancer sent something other than a valid header."""


class ProxyHeader(msgspec.Struct, frozen=True):
    size: int  # bytes; the peer's own bytes follow
    source: str | None  # None: the connection is the balancer's own, or its source has no IP address


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the start of the bytes from a balancer, or None while it is incomplete."""
    if data.startswith(_BINARY[: len(data)]):
        return _parse_binary(data)
    if data.startswith(_TEXT[: len(data)]):
        return _parse_text(data)
    raise ProxyError("the connection does not begin with a PROXY header")


def _parse_text(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_TEXT) + 2
    if end < 2:
        if len(data) >= MAX_TEXT:
            raise ProxyError(f"a PROXY line over its limit of {MAX_TEXT} bytes")
        return None
    line = data[:end]
    if _UNKNOWN.fullmatch(line):
        return ProxyHeader(end, None)
    match = _LINE.fullmatch(line)
    if match is None or any(int(port) > 65_535 for port in match.group(4, 5)):
        raise ProxyError("a malformed PROXY line")
    version = 4 if match[1] == b"TCP4" else 6
    source, _ = (_address(text, version) for text in match.group(2, 3))
    return ProxyHeader(end, source)


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise ProxyError("a PROXY line with an invalid address") from None
    if address.version != version:
        raise ProxyError("a PROXY line with an address of the other family")
    return str(address)


def _parse_binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _BINARY_HEAD:
        return None
    command, family = data[12], data[13]
    size = _BINARY_HEAD + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise ProxyError(f"a PROXY header of version and command 0x{command:02x}")
    if size > MAX_BINARY:
        raise ProxyError(f"a PROXY header of {size:,} bytes, limit {MAX_BINARY:,}")
    length = _ADDRESS_BYTES.get(family, 0) if command == _PROXY else 0
    if length and size < _BINARY_HEAD + 2 * (length + _PORT_BYTES):
        raise ProxyError("a PROXY header too short for its addresses")
    if len(data) < size:
        return None
    if not length:
        return ProxyHeader(size, None)
    return ProxyHeader(size, str(ipaddress.ip_address(data[_BINARY_HEAD : _BINARY_HEAD + length])))


def client_of(field: str, trusted: Callable[[str], bool]) -> str | None:
    """The client in `X-Forwarded-For`; if all addresses are trusted, the last one read; None if it is not usable.

    Each proxy appends the address that it received the request from, and the client itself may have sent such a field
    first. So it is read from the right, and the first address that is not a trusted proxy's is the client.
    """
    client = None
    for hop in reversed(field.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        address = _hop_address(hop.strip(" \t"))
        if address is None:
            break
        client = address
        if not trusted(address):
            break
    return client


def _hop_address(hop: str) -> str | None:
    """An address in any form that proxies write: bare, with a port, or in brackets."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        # A zone may be any text, of any length; an address that is too long stays so.
        return str(ipaddress.ip_address(hop.partition("%")[0][: MAX_ADDRESS + 1]))
    except ValueError:
        return None


def is_over_tls(head: Head) -> bool:
    """Whether the client reached its proxy by https."""
    return head.headers.get("x-forwarded-proto", "").lower() == "https"
