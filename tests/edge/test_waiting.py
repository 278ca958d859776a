"""States in which a connection waits, and what it may send meanwhile.

Faults: test_planted_faults.py; deadlines and floods: tests/attacks/.
"""

from typing import Any

import pytest
import trio

from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.room import Room
from chatserver.edge.waiting import MAX_STREAM_BYTES
from chatserver.log.interface import LogUnavailable
from chatserver.net.states import State
from tests.edge.planting import PATIENT
from tests.edge.ways import brought
from tests.support.groups import SteppedLog
from tests.support.peers import chatter, connect, open_websocket, publish, request
from tests.support.serving import eventually, serving

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize(
    "state",
    [State.HEAD, State.BODY, State.KEEPALIVE, State.SERVING, State.HELD, State.STREAM, State.MESSAGE],
    ids=lambda each: each.name,
)
async def test_a_step_that_was_queued_before_the_state_changes_nothing(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paused publisher, for example, is resumed for its room after its time is up, when its next request waits."""
    async with brought(state, monkeypatch, serving_deadline=PATIENT) as (scene, _):
        await trio.sleep(1.0)  # a deadline that began again would be later
        victim, connections = scene.victim, scene.parts.connections
        before = victim.state, victim.deadline
        connections.resume(victim)
        await eventually(lambda: connections.scheduler.idle)
        assert (victim.alive, victim.state, victim.deadline) == (True, *before)
        scene.go_on.set()


@pytest.mark.parametrize("state", [State.STREAM, State.PINGED])
async def test_a_peer_that_has_vanished_is_judged_by_its_flush_window(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats would be sent to it until TCP gives up; and a pong may come late behind what is not yet taken."""
    limits: dict[str, Any] = {"heartbeat_interval": 1.0, "pong_deadline": 1.0, "flush_window": 3.0}
    async with brought(state, monkeypatch, **limits) as (scene, _):
        server, lost = scene.server, scene.victim.descriptor
        monkeypatch.setattr("chatserver.net.sockets.outstanding", lambda each: 100 if each == lost else 0)
        await server.counted("flush-deadline")
        assert await server.closes("pong-deadline") == 0
        assert [line["reason"] for line in server.logs if line["event"] == "misbehaved"] == ["flush-deadline"]


async def test_the_pong_deadline_begins_when_all_before_the_ping_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow reader's kernel acknowledges the ping up to a second before the reader gets to it."""
    unacknowledged = [100]
    monkeypatch.setattr("chatserver.net.sockets.outstanding", lambda descriptor: unacknowledged[0])
    async with brought(State.OPEN, monkeypatch, pong_deadline=1.0, flush_window=3.0) as (scene, _):
        await scene.until_state("PINGED")
        await trio.sleep(0.9)
        unacknowledged[0] = 0
        await trio.sleep(1.0)
        assert scene.victim.state is State.PINGED
        await scene.server.counted("pong-deadline")


async def test_a_slow_reader_cannot_put_off_the_end_of_its_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had something unacknowledged whenever a pong was due, and took it before the end of each flush window."""
    until = trio.current_time() + 36.0
    limits: dict[str, Any] = {"ping_interval": 1.0, "pong_deadline": 1.0, "flush_window": 1.0}
    async with brought(State.OPEN, monkeypatch, **limits) as (scene, _):
        victim = scene.victim
        session = victim.context
        assert isinstance(session, WebSocketSession)
        left = property(lambda self: until - trio.current_time())
        monkeypatch.setattr(type(session.principal), "seconds_left", left)
        monkeypatch.setattr("chatserver.net.sockets.outstanding", lambda _: 100 if victim.backlog is None else 0)
        await trio.sleep(36.0)
        await scene.server.counted("expired")


async def test_a_late_acknowledgement_delays_a_heartbeat_by_a_flush_window_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A message that was sent just before made the silence of a stream a window and an interval long."""
    limits: dict[str, Any] = {"heartbeat_interval": 4.0, "flush_window": 6.0}
    async with brought(State.STREAM, monkeypatch, **limits) as (scene, peer):
        began = trio.current_time()
        monkeypatch.setattr("chatserver.net.sockets.outstanding", lambda _: 100 if scene.victim.backlog is None else 0)
        came = []
        for _ in range(3):
            await peer.until(b":\n")
            came.append(round(trio.current_time() - began))
        assert came == [4, 10, 16]


@pytest.mark.parametrize("waits_for", ["a commit", "a task"])
async def test_an_answer_that_comes_after_the_deadline_is_dropped(
    waits_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, go_on, done = SteppedLog(), trio.Event(), trio.Event()

    async def head(room: str) -> None:
        with trio.CancelScope(shield=True):  # as a thread that is in the middle of something
            await go_on.wait()
        done.set()
        raise LogUnavailable("too late")

    monkeypatch.setattr(log, "head", head)
    wire = (
        request("POST", "/rooms/lobby/messages", b"hi") if waits_for == "a commit" else request("GET", "/rooms/lobby")
    )
    async with serving(engine=log, serving_deadline=1.0) as server, connect(server.address) as peer:
        await peer.send(wire)
        assert (await peer.response()).status == 503
        if waits_for == "a commit":
            log.steps.release()
            await eventually(lambda: log.statistics().groups == 1)
        else:
            go_on.set()
            await done.wait()
        assert await peer.rest() == b""
        await peer.end()
        await server.counted("serving-deadline")


async def test_a_publisher_goes_on_though_its_room_stays_congested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers may keep a room congested: a member that wrote one line there was not read, then disconnected."""
    async with serving(serving_deadline=1.0) as server, chatter(server.address) as member:
        await member.ask("join", room="lobby")
        monkeypatch.setattr(Room, "congested", True)
        assert (await member.ask("publish", room="lobby", text="hi"))["type"] == "ack"
        assert (await member.ask("ping"))["type"] == "pong"
        assert await server.closes("serving-deadline") == 0


# -- what an honest client may send ---------------------------------------------------------------------------------


async def test_a_client_that_comes_back_may_join_all_its_rooms_at_once() -> None:
    """Its requests, which are dear here, do not count against its messages."""
    async with (
        serving(message_rate=1.0, request_rate=0.1, max_rooms_per_connection=40, max_empty_rooms=40) as server,
        connect(server.address) as peer,
    ):
        assert (await peer.request("GET", "/healthz")).status == 200
        friend = await open_websocket(peer)
        for number in range(40):
            assert (await friend.ask("join", room=f"r{number}"))["type"] == "joined"


async def test_what_the_client_of_an_event_stream_may_send() -> None:
    """Its request does not count, and MAX_STREAM_BYTES after it are dropped; more than one a second end the stream."""
    async with serving(request_rate=50.0) as server, connect(server.address) as peer:
        await peer.send(request("GET", "/rooms/lobby/events") + b"x")
        await peer.head()
        (connection,) = filter(None, server.server.parts.connections.table)
        assert connection.inbox == b"", "what came with the request is dropped too"
        await peer.send(b"x" * MAX_STREAM_BYTES)
        await publish(server.address, "lobby", "hello")
        await peer.until(b"hello")
        await peer.send(b"x" * 1000)
        await peer.rest()
        await server.counted("flood")
