"""The opening handshake of a WebSocket (RFC 6455 section 4.2): a request head in, the 101 answer out.

Owns: the checks before a connection becomes a WebSocket. No extension is ever accepted: permessage-deflate costs 300 KB
a connection in zlib's window and lets 16 KiB on the wire become 16 MiB in memory.
"""

import re
from binascii import b2a_base64
from hashlib import sha1

from chatserver.protocol.errors import Headers, HttpError
from chatserver.protocol.head import NO_BODY, Head, has_token
from chatserver.protocol.response import header_lines, status_line
from chatserver.reasons import ErrorCode

SUBPROTOCOL = "chat.v1"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_HOW = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
_ANSWER = status_line(101) + header_lines((("Upgrade", "websocket"), ("Connection", "Upgrade")))


def accept_upgrade(head: Head, *, headers: Headers = (), subprotocol: str | None = SUBPROTOCOL) -> bytes:
    """The 101 answer to a GET, with `headers` added, such as a cookie. Raises HttpError for an invalid upgrade."""
    sent = head.headers
    if not has_token(sent.get("upgrade"), "websocket"):
        message = (
            "this path speaks WebSocket, and no Upgrade: websocket has arrived: a proxy may have removed it; event "
            "streams and long-polls (transports sse and poll) do without"
        )
        raise HttpError(ErrorCode.UPGRADE_REQUIRED, message, headers=_HOW)
    if sent.get("sec-websocket-version") != "13":
        raise HttpError(
            ErrorCode.UPGRADE_REQUIRED, "the only supported WebSocket version is 13 (RFC 6455)", headers=_HOW
        )
    if head.version == "1.0" or not has_token(sent.get("connection"), "upgrade"):
        raise HttpError(ErrorCode.BAD_REQUEST, "an upgrade needs HTTP/1.1 and Connection: Upgrade")
    if head.body is not NO_BODY:
        raise HttpError(ErrorCode.BAD_REQUEST, "an upgrade has no body")
    key = sent.get("sec-websocket-key", "")
    if not _KEY.fullmatch(key):
        raise HttpError(ErrorCode.BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64")
    # SHA-1 because the RFC says so; nothing secret depends on it.
    accept = b2a_base64(sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest(), newline=False)
    offered = sent.get("sec-websocket-protocol")
    # A client that offers only unknown protocols is accepted without one, and may close the connection.
    chosen = b""
    if subprotocol is not None and has_token(offered, subprotocol):
        chosen = b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode("ascii")
    return b"%bSec-WebSocket-Accept: %b\r\n%b%b\r\n" % (_ANSWER, accept, chosen, header_lines(headers))
