"""What demotes a peer's network, and what does not: slow links, old tokens and mistyped addresses of honest people."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.peers import Peer, chatter, connect, request
from tests.support.serving import Serving, eventually, serving

pytestmark = pytest.mark.jumping_clock

PATH = "/rooms/lobby/messages"


def is_demoted(server: Serving, network: str = "127.0.0.1") -> bool:
    return server.server.parts.connections.demotion.is_demoted(network)


@pytest.fixture
async def server() -> AsyncIterator[Serving]:
    async with serving(message_rate=1.0, max_rooms_per_connection=1) as server:
        yield server


async def no_request(server: Serving, peer: Peer) -> None:
    await peer.send(b"no request\r\n\r\n")
    assert (await peer.response()).status == 400
    await server.counted("bad-request")


async def no_json(server: Serving, peer: Peer) -> None:
    answer = await peer.request("POST", PATH, b"{", headers={"Content-Type": "application/json"})
    assert answer.error == "bad_json"


async def no_frame(server: Serving, peer: Peer) -> None:
    async with chatter(server.address) as chat:
        await chat.peer.send(b"\xff" * 8)
        await server.counted("bad-frame")


async def no_message(server: Serving, peer: Peer) -> None:
    async with chatter(server.address) as chat:
        await chat.say(type="publish", room="lobby", id=1)
        assert (await chat.next("error"))["code"] == "bad_field"


async def floods(server: Serving, peer: Peer) -> None:
    async with chatter(server.address) as chat:
        for number in range(100):
            await chat.say(type="ping", id=number)
        await server.counted("flood")


@pytest.mark.parametrize("breaks_a_rule", [no_request, no_json, no_frame, no_message, floods])
async def test_who_breaks_a_rule_waits_for_others(
    server: Serving, breaks_a_rule: Callable[[Serving, Peer], Awaitable[None]]
) -> None:
    async with connect(server.address) as peer:
        assert not is_demoted(server)
        await breaks_a_rule(server, peer)
    assert is_demoted(server)
    assert await server.metric("chatserver_demoted") == 1
    assert not is_demoted(server, "192.0.2.1")


async def test_slow_links_old_tokens_and_mistyped_addresses_are_no_offence(server: Serving) -> None:
    async with connect(server.address) as slow, connect(server.address) as peer:
        await slow.send(b"GET / HTTP/1.1\r\n")
        for path, token, status in (("/nowhere", "", 404), ("/session", "not.a.token", 401)):
            fields = {"Authorization": f"Bearer {token}"} if token else {}
            assert (await peer.request("GET", path, headers=fields)).status == status
        assert (await slow.response()).status == 408
    await server.counted("head-deadline")
    assert not is_demoted(server)


async def test_a_trusted_proxy_is_not_demoted_but_its_client_is() -> None:
    async with serving(trusted_proxy=("127.0.0.1",)) as server, connect(server.address) as proxy:
        fields = {"X-Forwarded-For": "192.0.2.7", "Content-Type": "application/json"}
        assert (await proxy.request("POST", PATH, b"{", headers=fields)).status == 400
        await proxy.send(request("GET", "/rooms")[:-2] + b"no field\r\n\r\n")
        assert (await proxy.response()).status == 400
        await eventually(lambda: is_demoted(server, "192.0.2.7"))
        assert not is_demoted(server)


@pytest.mark.parametrize(
    ("fields", "sent"),
    [({"Content-Length": "100000"}, b""), ({"Transfer-Encoding": "chunked"}, b"1;" + b"e" * 900 + b"\r\nx\r\n")],
)
async def test_a_body_that_is_refused_at_once_is_the_offence_of_a_proxys_client(
    fields: dict[str, str], sent: bytes
) -> None:
    """The proxy was named in the log, and nobody was demoted."""
    async with serving(trusted_proxy=("127.0.0.1",)) as server, connect(server.address) as proxy:
        await proxy.send(request("POST", PATH, headers={"X-Forwarded-For": "192.0.2.7", **fields}) + sent)
        assert (await proxy.response()).status in (400, 413)
        assert is_demoted(server, "192.0.2.7")
        assert not is_demoted(server)


async def test_a_rate_that_is_exceeded_is_no_offence() -> None:
    """After a stall of the server, a person's program sends at once all that had to wait."""
    async with (
        serving(publish_rate=0.01, message_rate=1.0, request_rate=1.0, max_rooms_per_connection=1) as server,
        connect(server.address) as peer, chatter(server.address) as chat,
    ):  # fmt: skip
        assert [(await peer.request("POST", PATH, b"hi")).status for _ in range(6)] == [201] + [429] * 5
        for number in range(20):
            await chat.say(type="ping", id=number)
        assert (await chat.next("error"))["code"] == "rate_limited"
        assert not is_demoted(server)
