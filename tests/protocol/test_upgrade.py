from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import parse_head
from chatserver.protocol.upgrade import accept_upgrade
from chatserver.protocol.websocket import text_frame
from tests.protocol.samples import UPGRADE
from tests.support.errors import error_of
from tests.support.limits import HEAD_LIMITS


def answer(wire: bytes) -> bytes:
    return accept_upgrade(parse_head(wire, HEAD_LIMITS))


def test_wsproto_s_client_accepts_the_answer() -> None:
    for offered in ([], ["chat.v1"], ["other", "chat.v1"], ["other"]):
        client = WSConnection(ConnectionType.CLIENT)
        wire = client.send(Request(host="h", target="/ws", subprotocols=offered))
        client.receive_data(answer(wire) + text_frame(b"hello"))
        accepted, text = client.events()
        assert isinstance(accepted, AcceptConnection)
        assert accepted.subprotocol == ("chat.v1" if "chat.v1" in offered else None)
        assert accepted.extensions == []
        assert isinstance(text, TextMessage)
        assert text.data == "hello"


def test_which_headers_are_added() -> None:
    wire = UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    added = accept_upgrade(parse_head(wire, HEAD_LIMITS), headers=(("Set-Cookie", "a=b"),))
    assert added.endswith(b"Set-Cookie: a=b\r\n\r\n")
    assert b"xtension" not in added


def test_a_dialect_without_a_subprotocol_chooses_none() -> None:
    wire = UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat.v1\r\n\r\n")
    assert b"Sec-WebSocket-Protocol" not in accept_upgrade(parse_head(wire, HEAD_LIMITS), subprotocol=None)


def test_the_fields_of_browsers_are_accepted() -> None:
    wire = UPGRADE.replace(b"Connection: Upgrade", b"Connection: keep-alive, Upgrade")
    assert b" 101 " in answer(wire.replace(b"Upgrade: websocket", b"Upgrade: WebSocket"))


def test_a_wrong_upgrade_is_refused_with_its_status() -> None:
    for old, new, status in (
        (b"Upgrade: websocket\r\n", b"", 426),
        (b"Upgrade: websocket", b"Upgrade: h2c", 426),
        (b"Version: 13", b"Version: 8", 426),
        (b"Version: 13", b"Version: 13, 8", 426),
        (b"Sec-WebSocket-Version: 13\r\n", b"", 426),
        (b"Connection: Upgrade\r\n", b"", 400),
        (b"Connection: Upgrade", b"Connection: keep-alive", 400),
        (b"HTTP/1.1", b"HTTP/1.0", 400),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZ\xfc==", 400),
        (b"Version: 13", b"Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
        (b"Version: 13", b"Version: 13\r\nContent-Length: 5", 400),
        (b"Version: 13", b"Version: 13\r\nTransfer-Encoding: chunked", 400),
    ):
        assert old in UPGRADE
        error = error_of(HttpError, answer, UPGRADE.replace(old, new, 1))
        assert error.code.status == status, new
        assert dict(error.headers).get("Sec-WebSocket-Version") == ("13" if status == 426 else None), new
