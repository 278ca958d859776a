"""A company's network: the one way out is an HTTP proxy, which HTTPS_PROXY names."""

from base64 import b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from chatserver.client.stream import EndedError, dial, parse_target
from tests.client.listener import TRANSPORTS, listening
from tests.support.answering import answering
from tests.support.certificates import authority, certificate
from tests.support.serving import serving

NAME = "chat.example"
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ndenied"


async def proxied(tell: Callable[[bytes], None], to: int, client: trio.SocketStream) -> None:
    """Answer CONNECT, and forward to the server, whatever its name."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await client.receive_some(1)
    tell(head)
    await client.send_all(OPEN)
    server = await trio.open_tcp_stream("127.0.0.1", to)

    async def answers() -> None:
        async for data in server:
            await client.send_all(data)

    async with server, trio.open_nursery() as nursery:
        nursery.start_soon(answers)
        async for data in client:
            await server.send_all(data)
        nursery.cancel_scope.cancel()


async def test_each_transport_goes_through_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(tmp_path, names=(NAME,))
    (tmp_path / "roots.pem").write_bytes(authority().cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    heads: list[bytes] = []
    async with (
        serving(tls_cert=cert, tls_key=key, allow_host=(NAME,)) as server,
        answering(partial(proxied, heads.append, server.address.port)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:p%40ss@{proxy}")
        for number, transport in enumerate(TRANSPORTS):
            async with listening(f"https://{NAME}", transport=transport) as listener:
                listener.say(f"by {transport}")
                assert (await listener.texts(number + 1))[-1] == f"by {transport}"
    secret = b64encode(b"ann:p@ss")
    wanted = b"CONNECT chat.example:443 HTTP/1.1\r\nHost: chat.example:443\r\nProxy-Authorization: Basic %b\r\n\r\n"
    assert set(heads) == {wanted % secret}


async def ended(url: str) -> str:
    with pytest.raises(EndedError) as raised:
        await dial(parse_target(url), timeout=10)
    return raised.value.why


async def test_what_a_proxy_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer_with(data: bytes, client: trio.SocketStream) -> None:
        await client.receive_some(4096)
        await client.send_all(data)

    for answer, words in (
        (DENIED, "answered 403 Forbidden"),
        (b"HTTP/1.1 407 \x9b\r\n\r\n", "answered 407"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP, or hung up"),
        (b"", "does not speak HTTP, or hung up"),
    ):
        async with answering(partial(answer_with, answer)) as proxy:
            for url in (proxy, f"http://{proxy}"):
                monkeypatch.setenv("https_proxy", url)
                assert await ended(f"https://{NAME}:8443") == f"cannot connect: the proxy {proxy} {words}"


async def test_which_servers_are_behind_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def refuse(host: str, port: int) -> None:
        await trio.lowlevel.checkpoint()
        asked.append((host, port))
        raise OSError

    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    monkeypatch.setenv("HTTPS_PROXY", "http://[::2]:3128")
    monkeypatch.setenv("NO_PROXY", "intern.example,other:8443, 10.0.0.0/8")
    for url, is_behind in (
        ("https://chat.example", True),
        ("https://[::3]", True),
        ("https://other", True),
        ("https://other:8443", False),
        ("https://chat.intern.example", False),
        ("https://10.2.3.4:8443", False),
        ("https://192.0.2.1", True),
        ("http://chat.example", False),
        *((f"https://{name}", False) for name in ("localhost", "127.0.0.2", "[::1]")),
    ):
        asked.clear()
        why = await ended(url)
        target = parse_target(url)
        assert asked == [("::2", 3128) if is_behind else (target.host, target.port)], url
        assert (why == "cannot connect: the proxy ::2:3128 cannot be reached") == is_behind
    for wrong in ("socks5://proxy:1080", "https://proxy", "http://", "http://proxy:port", "http://[::2"):
        monkeypatch.setenv("HTTPS_PROXY", wrong)
        assert "HTTPS_PROXY is no" in await ended("https://chat.example")
