"""Every peer speaks what the catalogue says that it does, so that a comparison compares the same thing."""

import json

import pytest
import trio
import trio_websocket

from loadgen.compare.catalogue import PEERS, Can, Peer
from tests.loadgen.compare.speaking import HOST, PATIENCE, ask, member, serving


def able(what: Can) -> list[object]:
    """The peers that can, as parameters."""
    return [pytest.param(peer, id=peer.name) for peer in PEERS.values() if what in peer.can]


@pytest.mark.parametrize("peer", able(Can.HTTP))
async def test_pages(peer: Peer) -> None:
    async with serving(peer) as server:
        for path in ("/", "/healthz"):
            status, body = await ask(server, "GET", path)
            assert status == 200
            assert body


@pytest.mark.parametrize("peer", able(Can.CHAT))
async def test_conversation(peer: Peer) -> None:
    async with serving(peer) as server, member(server) as ann, member(server) as bob, member(server) as eve:
        await ann.join("lobby")
        await bob.join("lobby")
        await eve.join("another")
        for number, text in enumerate(("hi", "h\u00e9 \U0001f600", "x" * 300), start=1):
            await ann.say(type="publish", id=number, room="lobby", text=text)
            ack = await ann.hear("ack")
            assert (ack["id"], ack["room"], ack["offset"]) == (number, "lobby", number)
            for each in (ann, bob):
                heard = await each.hear("message")
                assert (heard["room"], heard["text"], heard["offset"]) == ("lobby", text, number)
                assert heard["cursor"] == ack["cursor"]
        await eve.say(type="publish", id=9, room="another", text="alone")
        await eve.hear("ack")
        assert (await eve.hear("message"))["text"] == "alone", "and nothing of the lobby"


@pytest.mark.parametrize("peer", able(Can.CHAT))
async def test_members_who_left_are_not_missed(peer: Peer) -> None:
    async with serving(peer) as server, member(server) as ann:
        await ann.join("lobby")
        async with member(server) as bob:
            await bob.join("lobby")
        await ann.say(type="publish", id=1, room="lobby", text="still here")
        await ann.hear("ack")
        await ann.hear("message")


@pytest.mark.parametrize("peer", able(Can.WEBSOCKET))
async def test_pings(peer: Peer) -> None:
    """Without a word of ours, each is pinged: otherwise an idle connection would cost some peers nothing."""
    async with serving(peer, ping_seconds=1.0) as server:
        with trio.fail_after(PATIENCE):
            stream = await trio.open_tcp_stream(HOST, server.port)
            async with stream:
                await stream.send_all(
                    b"GET /ws HTTP/1.1\r\nHost: peer\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
                received = b""
                while b"\x89" not in received.partition(b"\r\n\r\n")[2]:
                    more = await stream.receive_some()
                    assert more, "hung up before a ping"
                    received += more
    assert received.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("peer", [pytest.param(peer, id=peer.name) for peer in PEERS.values() if peer.prime])
async def test_a_primed_peer_tells_whoever_comes_that_it_joined(peer: Peer) -> None:
    async with serving(peer) as server:
        with trio.fail_after(PATIENCE):
            async with trio_websocket.open_websocket(HOST, server.port, "/ws", use_ssl=False) as socket:
                await socket.send_message(json.dumps({"type": "join", "id": -1, "room": "lobby"}))
                assert json.loads(await socket.get_message())["type"] == "joined"


@pytest.mark.parametrize("peer", able(Can.POST | Can.POLL))
async def test_posts_and_polls(peer: Peer) -> None:
    path = "/rooms/lobby/messages"
    async with serving(peer) as server:
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


@pytest.mark.parametrize("peer", able(Can.ALL))
async def test_a_held_poll_is_woken(peer: Peer) -> None:
    path = "/rooms/lobby/messages"
    async with serving(peer) as server, member(server) as ann:
        _, body = await ask(server, "GET", f"{path}?limit=1")
        cursor = json.loads(body)["cursor"]
        pages = []

        async def poll() -> None:
            _, body = await ask(server, "GET", f"{path}?after={cursor}&wait=25")
            pages.append(json.loads(body))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await ann.join("lobby")
                await ann.say(type="publish", id=1, room="lobby", text="wake up")
                await ann.hear("ack")
        assert [message["text"] for message in pages[0]["messages"]] == ["wake up"]
        assert pages[0]["cursor"] != cursor
