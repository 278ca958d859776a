import socket
from typing import NoReturn

import pytest
import trio

from chatserver.client import BadUrl
from chatserver.client.stream import EndedError, dial, parse_target, split_page_url


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
        ("https://chat.example/rooms/", "wss://chat.example/rooms/ws"),
        ("http://Käse.example/ein Gruß/%20", "ws://xn--kse-qla.example/ein%20Gru%C3%9F/%20/ws"),
    ],
)
def test_forms(text: str, url: str) -> None:
    assert str(parse_target(text)) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://host",
        "http://",
        "http://a b",
        "http://a..b",
        "http://a\x00b",
        ":8000",
        "host:port",
        "host:99999",
        "http://me:pw@host",
        "http://h/?token=x",
        "[::1",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(BadUrl):
        parse_target(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://h:8000/rooms/ops", "say http://h:8000 --room ops"),
        ("https://h/chat/rooms/ops/messages", "say https://h/chat --room ops"),
        ("h:8000/rooms/ops/", "say ws://h:8000 --room ops"),
    ],
)
def test_an_address_of_a_room_is_refused_with_the_right_form(text: str, words: str) -> None:
    with pytest.raises(BadUrl, match=f"^'{text}' is the address of a room; {words} .bad_url.$"):
        parse_target(text)


@pytest.mark.parametrize(
    ("text", "server", "room"),
    [
        ("http://h:8000", "http://h:8000", ""),
        ("http://h:8000/#ops", "http://h:8000/", "ops"),
        ("https://h/chat/#ops/42", "https://h/chat/", "ops"),
        ("h:8000#%6fps", "h:8000", "ops"),
        ("http://h:8000/#", "http://h:8000/", ""),
    ],
)
def test_the_address_that_the_page_has_for_a_room(text: str, server: str, room: str) -> None:
    assert split_page_url(text) == (server, room)


class EmptyResolver(trio.abc.HostnameResolver):
    """A resolver without any host."""

    async def getaddrinfo(self, *_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError


@pytest.mark.parametrize("url", ["http://chat.exmaple:8000", "https://chat.exmaple"])
async def test_the_error_names_the_unknown_host(url: str) -> None:
    trio.socket.set_custom_hostname_resolver(EmptyResolver())
    with pytest.raises(EndedError, match=r"cannot find chat\.exmaple: Name or service not known"):
        await dial(parse_target(url), timeout=10)
