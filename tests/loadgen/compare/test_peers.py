"""Every peer speaks the protocols that the catalogue names, so that a comparison compares the same thing."""

import http.client
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
import trio

from loadgen.compare.catalogue import PEERS, Can, Peer
from loadgen.compare.comparison import PEERS_DIR
from loadgen.compare.process import HOST, Server, running
from loadgen.compare.scenarios import greet, publishing
from loadgen.net import wire
from tests.loadgen.stage import read_until
from tests.support.peers import PATIENCE, Address, Chatter, chatter


@asynccontextmanager
async def serving(peer: Peer, *, ping_seconds: float = 20.0) -> AsyncIterator[Server]:
    """Run a peer, or skip the test where it is not installed."""
    home = PEERS_DIR / peer.name
    if not peer.kit.is_ready(home):
        pytest.skip(f"{peer.name} is not installed here; loadgen compare --peers {peer.name} does it")

    def command(work: Path, port: int) -> list[str]:
        return peer.kit.command(home, work, port, ping_seconds)

    async with running(command) as server:
        if peer.relay:
            await greet(server, peer.relay)
        yield server


def member(server: Server) -> AbstractAsyncContextManager[Chatter]:
    return chatter(Address(HOST, server.port))


async def ask(server: Server, method: str, path: str, body: bytes = b"", kind: str = "text/plain") -> tuple[int, bytes]:
    """One request on a connection of its own."""

    def play() -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body=body or None, headers={"Content-Type": kind} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    return await trio.to_thread.run_sync(play, abandon_on_cancel=True)


async def pages(server: Server) -> None:
    for path in ("/", "/healthz"):
        status, body = await ask(server, "GET", path)
        assert status == 200
        assert body


async def conversation(server: Server) -> None:
    async with member(server) as ann, member(server) as bob, member(server) as eve:
        assert ann.hello["protocol"] == "chat.v1"
        for each, room in ((ann, "lobby"), (bob, "lobby"), (eve, "another")):
            joined = await each.ask("join", room=room)
            assert (joined["type"], joined["room"]) == ("joined", room)
        for number, text in enumerate(("hi", "h\u00e9 \U0001f600", "x" * 300), start=1):
            ack = await ann.ask("publish", room="lobby", text=text)
            assert (ack["type"], ack["room"], ack["offset"]) == ("ack", "lobby", number)
            for each in (ann, bob):
                heard = await each.next("message")
                assert (heard["room"], heard["text"], heard["offset"]) == ("lobby", text, number)
                assert heard["cursor"] == ack["cursor"]
        await in_order(ann, bob)
        await eve.ask("publish", room="another", text="alone")
        assert (await eve.next("message"))["text"] == "alone", "and nothing of the lobby"
        async with member(server) as gone:
            await gone.ask("join", room="lobby")
        await ann.ask("publish", room="lobby", text="still here")
        assert (await ann.next("message"))["text"] == "still here", "who left is not waited for"


async def in_order(*members: Chatter) -> None:
    """What several say at once comes to all in the order of its offsets."""

    async def speak(each: Chatter) -> None:
        for _ in range(15):
            await each.ask("publish", room="at-once", text="x")

    for each in members:
        await each.ask("join", room="at-once")
    async with trio.open_nursery() as nursery:
        for each in members:
            nursery.start_soon(speak, each)
    said = 15 * len(members)
    for each in members:
        assert [(await each.next("message"))["offset"] for _ in range(said)] == list(range(1, said + 1))


async def dial(server: Server) -> trio.SocketStream:
    """A WebSocket of bare bytes."""
    stream = await trio.open_tcp_stream(HOST, server.port)
    await stream.send_all(wire.upgrade_request("/ws", "localhost"))
    return stream


async def pings(server: Server) -> None:
    """Without a word of ours, each is pinged: otherwise an idle connection would cost some peers nothing."""
    with trio.fail_after(PATIENCE):
        async with await dial(server) as stream:
            got = await read_until(stream, lambda got: b"\x89" in got.partition(b"\r\n\r\n")[2])
    assert got.startswith(b"HTTP/1.1 101 ")


async def relays(peer: Peer, server: Server) -> None:
    """Whoever comes is told that it joined, and then what is posted: nobody speaks before all members are there."""
    async with await dial(server) as member:
        with trio.fail_after(PATIENCE):
            heard = await read_until(member, lambda got: b'"type":"joined"' in got)
            assert b'"type":"message"' not in heard
            posted = publishing(peer.relay)
            status, _ = await ask(server, posted.method, posted.request_path, posted.body, "application/json")
            assert status < 300
            heard = await read_until(member, lambda got: b'"type":"message"' in got)
        assert b'"type":"joined"' not in heard


async def posts_and_polls(server: Server) -> None:
    path = "/rooms/posted/messages"
    status, body = await ask(server, "GET", f"{path}?limit=1")
    assert status == 200
    start = json.loads(body)["cursor"]

    status, body = await ask(server, "POST", path, b"plain")
    receipt = json.loads(body)
    assert (status, receipt["offset"]) == (201, 1)
    status, body = await ask(server, "POST", path, b'{"text":"in JSON"}', "application/json")
    assert (status, json.loads(body)["offset"]) == (201, 2)

    status, body = await ask(server, "GET", f"{path}?after={start}&wait=25")
    page = json.loads(body)
    assert [message["text"] for message in page["messages"]] == ["plain", "in JSON"]
    status, body = await ask(server, "GET", f"{path}?after={receipt['cursor']}&wait=25")
    assert [message["text"] for message in json.loads(body)["messages"]] == ["in JSON"]

    status, body = await ask(server, "GET", f"{path}?after={page['cursor']}&wait=1")
    assert (status, json.loads(body)["messages"]) == (200, [])


async def a_held_poll_is_woken(server: Server) -> None:
    path = "/rooms/held/messages"
    async with member(server) as ann:
        _, body = await ask(server, "GET", f"{path}?limit=1")
        cursor = json.loads(body)["cursor"]
        pages = []

        async def poll() -> None:
            _, body = await ask(server, "GET", f"{path}?after={cursor}&wait=25")
            pages.append(json.loads(body))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await ann.ask("join", room="held")
                await ann.ask("publish", room="held", text="wake up")
        assert [message["text"] for message in pages[0]["messages"]] == ["wake up"]
        assert pages[0]["cursor"] != cursor


#: The test for each ability that the catalogue names.
PARTS: dict[Can, Callable[[Server], Awaitable[None]]] = {
    Can.HTTP: pages,
    Can.CHAT: conversation,
    Can.WEBSOCKET: pings,
    Can.POLL: posts_and_polls,
    Can.ALL: a_held_poll_is_woken,
}


@pytest.mark.parametrize("peer", [pytest.param(peer, id=peer.name) for peer in PEERS.values()])
async def test_a_peer_does_what_the_catalogue_says(peer: Peer) -> None:
    """One process for all of it: to start a server costs more than to ask it."""
    parts = [part for what, part in PARTS.items() if what in peer.can]
    assert parts or peer.relay, "it can something"
    async with serving(peer, ping_seconds=1.0) as server:
        for part in parts:
            await part(server)
        if peer.relay:
            await relays(peer, server)


async def test_the_floor_passes_over_what_makes_no_sense() -> None:
    nonsense = (b"\r\n\r\n", b"GET /\r\n\r\n", b"GET /rooms HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"x" * 2**20)
    async with serving(PEERS["floor"]) as server:
        for each in nonsense:
            async with await trio.open_tcp_stream(HOST, server.port) as stream:
                with suppress(trio.BrokenResourceError):  # it keeps no megabyte of a client
                    await stream.send_all(each)
                assert (await ask(server, "GET", "/"))[0] == 200
            server.require()
