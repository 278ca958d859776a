"""Bytes that several tests start from."""

from wsproto.connection import Connection, ConnectionType

GET = b"GET /rooms/lobby/messages?after=k3f9-41&limit=5 HTTP/1.1\r\nHost: chat.example:8000\r\n\r\n"
POST = (
    b"POST /rooms/lobby/messages HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8000\r\n"
    b"User-Agent: python-httpx/0.27\r\n"
    b"Accept: */*\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: 42\r\n"
    b"Authorization: Bearer abcdefghijklmnopqrstuvwxyz\r\n\r\n"
)
UPGRADE = (
    b"GET /ws HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8000\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: chat.v1\r\n\r\n"
)


def request(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: h") -> bytes:
    """A head with these fields after its Host."""
    lines = [line, *([host] if host else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def ws_client() -> Connection:
    """wsproto as the client."""
    return Connection(ConnectionType.CLIENT)
