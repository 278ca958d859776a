"""For whom a proxy speaks: the PROXY header of a connection, and `X-Forwarded-For` of a request.

Owns: their forms. May not: decide whether their sender may be believed, or know what follows. The PROXY header is
HAProxy's proxy-protocol.txt, versions 1 and 2.

    header = parse_proxy_header(data)           None while it is not whole, ProxyError if it can never be one
    rest = data[header.size:]

Of what a header may carry, only the source address is used; what extends version 2 (TLVs) is passed over.
"""

import ipaddress
import re
from collections.abc import Callable

import msgspec

from chatserver.protocol.errors import ProtocolError

#: Bytes of a header of version 1, its line break included: the specification's own worst case.
MAX_TEXT = 107
#: Bytes of a header of version 2. The specification promises 536 where nothing extends it; nginx takes 4,096.
MAX_BINARY = 4096
#: Proxies that are looked at in `X-Forwarded-For`, from the right. Chains have two or three; an address takes 3 µs.
MAX_HOPS = 32

_TEXT = b"PROXY "
_BINARY = b"\r\n\r\n\x00\r\nQUIT\n"
_BINARY_HEAD = 16  # bytes: signature, version and command, family and protocol, length
_LOCAL, _PROXY = 0x20, 0x21
#: by family and protocol: bytes of one address. Others (UDP, Unix, unspecified) say nothing about a TCP peer.
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}
_PORT_BYTES = 2
_LINE = re.compile(rb"PROXY (TCP4|TCP6) (\S+) (\S+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")


class ProxyError(ProtocolError):
    """A balancer that is trusted to send a header sent something else."""


class ProxyHeader(msgspec.Struct, frozen=True):
    """What a header says."""

    size: int  # bytes; what follows is the peer's
    source: str | None  # None: the connection is the balancer's own, or comes from nowhere that has an address


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the start of what a balancer has sent."""
    if data.startswith(_BINARY[: len(data)]):
        return _parse_binary(data)
    if data.startswith(_TEXT[: len(data)]):
        return _parse_text(data)
    raise ProxyError("what came first is no PROXY header")


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
        raise ProxyError("a PROXY line that is not as it should be")
    version = 4 if match[1] == b"TCP4" else 6
    source, _ = (_address(text, version) for text in match.group(2, 3))
    return ProxyHeader(end, source)


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise ProxyError("a PROXY line whose address is none") from None
    if address.version != version:
        raise ProxyError("a PROXY line whose address is of the other family")
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
    """The client that `X-Forwarded-For` names; if all are trusted, the last looked at; None if it says nothing of use.

    Each proxy appends the address it heard the request from, and any client may have sent a field of its own to begin
    with. So it is read from the right, and the first address that is no trusted proxy's is the answer.
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
    """An address as proxies write it: bare, with a port, or in brackets."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(hop))
    except ValueError:
        return None
