"""How many bytes an incomplete item lacks: the poller reads that many, and at most one read more."""

import pytest

from chatserver.edge.websocket import STEP_MESSAGES
from chatserver.net.connection import QUEUED
from chatserver.net.connections import Connections
from chatserver.net.states import State
from chatserver.protocol.websocket import MAX_SEPARATE_CONTROLS
from tests.edge.ways import brought
from tests.support.peers import connect, frame, open_websocket, request, say
from tests.support.serving import eventually, serving
from tests.support.troubled import state_of

pytestmark = pytest.mark.jumping_clock

MESSAGE = frame(b"x" * 10_000)
LONG = frame(b"x" * 100_000)
POST = request("POST", "/rooms/lobby/messages", headers={"Content-Length": "30000"})
CHUNKED = request("POST", "/rooms/lobby/messages", headers={"Transfer-Encoding": "chunked"})


async def test_how_many_announced_bytes_are_missing() -> None:
    async with serving(max_message_bytes=1 << 20) as server:
        connections = server.server.parts.connections
        for state, wire, lacks in (
            (State.HEAD, POST[:-2], 0),
            (State.BODY, POST + b"x" * 9_000, 21_000),
            (State.BODY, CHUNKED + b"1000\r\nxx", 0),
            (State.MESSAGE, MESSAGE[:1], 0),
            (State.MESSAGE, MESSAGE[:3], 0),  # half of an extended length
            (State.MESSAGE, MESSAGE[:8], 10_000),
            (State.MESSAGE, MESSAGE[:9_000], len(MESSAGE) - 9_000),
            (State.MESSAGE, LONG[:70_000], len(LONG) - 70_000),
            (State.MESSAGE, frame(b"x" * 9_000, fin=False), 0),  # the length of the next fragment is unknown
            (State.MESSAGE, frame(b"x" * 9_000, fin=False) + frame(b"y" * 1_000, opcode=0)[:8], 1_000),
        ):
            await eventually(lambda: not connections.held)
            async with connect(server.address) as peer:
                if state is State.MESSAGE:
                    await open_websocket(peer)
                await peer.send(wire)
                # The bytes may arrive in several reads.
                expected = [(state, lacks)]
                await eventually(lambda expected=expected: lacking(connections) == expected)  # type: ignore[misc]


def lacking(connections: Connections) -> list[tuple[State, int]]:
    """The state of each connection, and the bytes that it lacks."""
    there = [each for each in connections.table if each is not None]
    return [(each.state, connections.handlers[each.state].lacking(each)) for each in there]


async def test_messages_in_the_run_queue_answer_a_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pong's deadline does not apply to a peer whose messages wait in `BULK`."""
    async with brought(State.PINGED, monkeypatch) as (scene, _):
        victim, connections = scene.victim, scene.parts.connections
        connections.handlers[victim.state].received(victim, say(type="ping") * (STEP_MESSAGES + 1))
        assert (victim.state, bool(victim.inbox), bool(victim.armed & QUEUED)) == (State.OPEN, True, True)


async def test_a_ping_in_two_pieces_leaves_no_message_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pong was not taken at once, and then the deadline of an unfinished message ran on and closed the client."""
    async with brought(State.OPEN, monkeypatch) as (scene, _):
        victim, connections = scene.victim, scene.parts.connections
        handler, ping = connections.handlers[State.OPEN], frame(b"p" * 20, opcode=9)
        handler.received(victim, ping[:5])
        assert victim.state is State.MESSAGE
        connections.keep(victim, b"", 0)  # as if the peer had not read for a while
        handler.received(victim, ping[5:])
        assert (state_of(victim), victim.blocked) == (State.OPEN, True)


async def test_a_pong_counts_although_our_reply_is_not_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose pong came in one read with a request was closed for want of a pong once it had read the reply."""
    async with brought(State.PINGED, monkeypatch) as (scene, _):
        victim, connections = scene.victim, scene.parts.connections
        connections.keep(victim, b"", 0)  # as if the peer had not read for a while
        connections.handlers[victim.state].received(victim, frame(b"", opcode=10) + say(type="ping"))
        assert (state_of(victim), victim.blocked) == (State.OPEN, True)


async def test_bytes_of_a_message_that_look_like_a_pong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames may wait for a client that reads slowly when a ping is due; six bytes after them were dropped."""
    async with brought(State.PINGED, monkeypatch) as (scene, _):
        victim, connections = scene.victim, scene.parts.connections
        whole = frame(b"", opcode=10)
        victim.inbox = frame(b"p" * len(whole), opcode=9)[: -len(whole)]
        connections.handlers[victim.state].received(victim, whole)
        assert (victim.state, victim.inbox) == (State.OPEN, b"")


@pytest.mark.parametrize(
    ("state", "pongs", "after", "counted", "kept"),
    [
        (State.PINGED, 1, State.OPEN, False, 0),
        (State.PINGED, MAX_SEPARATE_CONTROLS + 1, State.OPEN, True, 0),
        (State.OPEN, 1, State.OPEN, True, 0),
        (State.MESSAGE, 1, State.MESSAGE, False, 4_006),
    ],
)
async def test_a_pong_is_free_only_as_an_answer(
    state: State, pongs: int, after: State, counted: bool, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are counted, and in the middle of a message the same bytes belong to the message."""
    async with brought(state, monkeypatch, message_rate=20.0) as (scene, _):
        victim, connections = scene.victim, scene.parts.connections
        await eventually(lambda: len(victim.inbox) in (0, 4_000))
        before = victim.rate
        connections.handlers[victim.state].received(victim, frame(b"", opcode=10) * pongs)
        assert (victim.state, victim.rate > before, len(victim.inbox)) == (after, counted, kept)
        assert not victim.armed & QUEUED


PUBLISH = request("POST", "/rooms/lobby/messages", b"hi")
#: A request for each way to an answer, and its status.
AHEAD = {
    "a response": (request("GET", "/healthz"), 200),
    "a refusal": (request("GET", "/nothing"), 404),
    "a commit": (PUBLISH, 201),
    "a held poll": (request("GET", "/rooms/lobby/messages?wait=60"), 200),
    "a task": (request("GET", "/rooms/old/messages?before=9"), 200),
    "a task that refuses": (request("PATCH", "/rooms/old/messages/9", {"text": "x"}), 404),
    "further steps": (request("GET", "/metrics"), 200),
}


@pytest.mark.parametrize("kind", AHEAD)
async def test_requests_sent_ahead_are_answered_in_order(kind: str) -> None:
    """The first read was full, so another was queued; the answer came first, and two requests were read as one."""
    wire, status = AHEAD[kind]
    async with serving() as server, connect(server.address) as peer:
        await peer.send((wire + PUBLISH) * 20)
        offsets = []
        for _ in range(20):
            assert (await peer.response()).status == status
            offsets.append((await peer.response()).json["offset"])
        assert offsets == [*range(1, 21)] if kind != "a commit" else [*range(2, 41, 2)]
