import pytest

from chatserver.client import BadUrl
from chatserver.client.stream import parse_target


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8000", "ws://localhost:8000/ws"),
        ("http://localhost:8000/", "ws://localhost:8000/ws"),
        ("https://chat.example", "wss://chat.example/ws"),
        ("ws://127.0.0.1:9/ws", "ws://127.0.0.1:9/ws"),
        ("wss://chat.example/behind/a/path", "wss://chat.example/behind/a/path/ws"),
        ("localhost:8000", "ws://localhost:8000/ws"),
        ("localhost", "ws://localhost/ws"),
        ("[::1]:8000", "ws://[::1]:8000/ws"),
        ("HTTP://Localhost:8000", "ws://localhost:8000/ws"),
    ],
)
def test_forms(text: str, url: str) -> None:
    assert str(parse_target(text)) == url


@pytest.mark.parametrize(
    "text",
    ["", "ftp://host", "http://", ":8000", "host:port", "host:99999", "http://me:pw@host", "http://h/?token=x", "[::1"],
)
def test_refused(text: str) -> None:
    with pytest.raises(BadUrl):
        parse_target(text)
