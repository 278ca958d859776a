import errno
import socket
import ssl
from typing import NoReturn

import pytest
import trio

from chatserver.client import BadUrl
from chatserver.client.stream import EndedError, dial, parse_target, words_of


def test_every_form_of_a_url_is_understood() -> None:
    for text, url in [
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
    ]:
        assert str(parse_target(text)) == url


def test_other_urls_are_refused_with_a_reason() -> None:
    for text, words in [
        *((text, "names no host") for text in ("", "http://", "http://a b", "http://a\x00b", ":8000", "8000")),
        *(
            (text, "'http'; the form is http://HOST:PORT")
            for text in ("http:/h", "http:h:8", "http//h:8", "http:\\\\h")
        ),
        ("https://https://host", "'https'; the form is https://HOST:PORT"),
        *((text, "is no port, which is a number from 1 to 65535") for text in ("host:port", "h:99999", "h:0", "h:8,")),
        *((text, "an IPv6 address stands in brackets") for text in ("::1:8000", "host:8000:")),
        ("http://a..b", "'a..b' cannot be the name of a host"),
        *((text, "is no URL: ") for text in ("[::1", "http://h/\ud800")),
        ("ftp://host", "is none of http://"),
        *((text, "has no meaning here") for text in ("http://me:pw@host", "http://h/?token=x")),
        ("http://h:8000/rooms/ops", "is the address of a room; say http://h:8000 --room ops "),
        ("https://h/chat/rooms/ops/messages", "is the address of a room; say https://h/chat --room ops "),
        ("h:8000/rooms/ops/", "is the address of a room; say ws://h:8000 --room ops "),
    ]:
        with pytest.raises(BadUrl, match=words):
            pytest.fail(f"{text} is {parse_target(text)}")


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


@pytest.mark.jumping_clock
async def test_a_host_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait(*_: object) -> NoReturn:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", wait)
    with pytest.raises(EndedError, match="no connection within 10 s"):
        await dial(parse_target("http://192.0.2.1"), timeout=10)


def tls_error(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL] it failed")
    error.reason = reason  # type: ignore[assignment]
    return error


REFUSED = OSError(errno.ECONNREFUSED, "Error connecting to ('127.0.0.1', 8000): Connection refused")


def test_the_words_for_an_error_of_the_system() -> None:
    for error, words in [
        (REFUSED, "Connection refused"),
        (ExceptionGroup("all attempts failed", [REFUSED, OSError(errno.ENETUNREACH, "x")]), "Connection refused"),
        (tls_error("WRONG_VERSION_NUMBER"), "TLS: wrong version number; was http:// meant?"),
        (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "TLS: tlsv1 alert protocol version"),
        (tls_error(None), "TLS: [ssl] it failed"),
        (OSError("no number"), "no number"),
    ]:
        around = trio.BrokenResourceError()
        around.__cause__ = error
        assert words_of(around) == words


async def test_a_port_that_nobody_named_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """`chatserver chat localhost` was refused without a hint that the port was missing."""

    async def refuse(*_: object, **__: object) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise REFUSED

    for name in ("open_tcp_stream", "open_ssl_over_tcp_stream"):
        monkeypatch.setattr(trio, name, refuse)
    for url, words in (
        ("localhost", "cannot connect to port 80: Connection refused"),
        ("https://[::1]", "cannot connect to port 443: Connection refused"),
        ("localhost:8000", "cannot connect: Connection refused"),
    ):
        with pytest.raises(EndedError) as raised:
            await dial(parse_target(url), timeout=10)
        assert raised.value.why == words
