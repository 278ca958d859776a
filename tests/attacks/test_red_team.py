"""What a red team found at default limits: each of these ended the process, or held it up, for everybody.

Real bytes over real sockets against the real server, and a healthy neighbour beside each that must notice nothing: it
hears every message, and its own round trips are answered. A bug of ours is planted behind a seam that is here to stay:
the log, or Python's own collector.
"""

import gc
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from chatserver.log.groups import Outcomes
from chatserver.log.interface import MAX_READ_BYTES, Draft, Log, Record, Stored
from chatserver.log.memory import MemoryLog
from chatserver.observe.memory import Collector
from tests.support.groups import LateLog
from tests.support.peers import (
    PATIENCE,
    Address,
    Chatter,
    Peer,
    ask,
    chatter,
    connect,
    open_websocket,
    publish,
    request,
)
from tests.support.serving import eventually, free_flags, neighbour, reader, sample, server_process, serving

#: Nearly the longest text that there is.
LONG = "x" * 8000
#: Seconds of a limit that would be over long after a test has given up waiting.
TOO_LATE = 3 * PATIENCE


def keep_to(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next server use this log."""
    monkeypatch.setattr("chatserver.server.open_log", lambda url: log)


async def hears_all(friend: Chatter, room: str, count: int) -> None:
    """So many messages of a room, each once and in order."""
    for offset in range(1, count + 1):
        message = await friend.next("message", "gap")
        assert (message["type"], message["room"], message["offset"]) == ("message", room, offset)


def posting(text: str, room: str = "busy") -> bytes:
    return request("POST", f"/rooms/{room}/messages", text.encode())


# -- publishers that are gone before their room has room again --------------------------------------------------------


class SteppedLog(LateLog):
    """Stores a group when it is told to, or each at once."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = 0  # begun
        self._steps = trio.Semaphore(0)
        self.free = False

    async def before_commit(self) -> None:
        self.groups += 1
        if not self.free:
            await self._steps.acquire()

    def step(self) -> None:
        self._steps.release()

    async def begun(self, groups: int) -> None:
        await eventually(lambda: self.groups >= groups)


@asynccontextmanager
async def crowd(address: Address, members: int) -> AsyncIterator[None]:
    """So many in the busy room that read what comes and look at none of it."""

    async def listen(*, task_status: trio.TaskStatus[None]) -> None:
        async with chatter(address) as member:
            await member.ask("join", room="busy")
            task_status.started()
            while True:
                await member.peer.more()
                member.peer.buffer = b""

    async with trio.open_nursery() as nursery:
        for _ in range(members):
            await nursery.start(listen)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_publishers_that_are_gone_when_their_room_has_room_again(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has read its 201, and waits in the room until what was said after it is told: half a ring of it."""
    log = SteppedLog()
    keep_to(log, monkeypatch)
    async with (
        serving() as server,
        reader(server),
        chatter(server.address) as friend,
        crowd(server.address, 150),
        AsyncExitStack() as stack,
    ):
        await friend.ask("join", room="busy")
        peers = [await stack.enter_async_context(connect(server.address)) for _ in range(100)]
        first, paused, behind = peers[0], peers[1:20], peers[20:]
        await first.send(posting(LONG))
        await log.begun(1)
        for peer in paused:
            await peer.send(posting(LONG))
        await server.in_phase("serving", 1 + len(paused))
        log.step()
        await log.begun(2)
        for peer in behind:
            await peer.send(posting(LONG))
        await server.in_phase("serving", len(paused) + len(behind))
        log.step()
        for peer in (first, *paused):
            assert (await peer.response()).status == 201
        gone, staying = paused[::2], paused[1::2]
        for peer in gone:
            if how == "end":
                await peer.end()
            else:
                peer.reset()
        if how == "reset":
            await server.counted("peer-reset", len(gone))
        log.free = True
        log.step()
        await hears_all(friend, "busy", len(peers))
        for peer in behind:
            assert (await peer.response()).status == 201
        for peer in (first, *staying):
            assert (await peer.request("GET", "/healthz")).status == 200, "it was read again"


async def test_websocket_publishers_that_reset_while_their_room_is_congested(monkeypatch: pytest.MonkeyPatch) -> None:
    log = SteppedLog()
    keep_to(log, monkeypatch)
    async with (
        serving() as server,
        reader(server),
        chatter(server.address) as friend,
        AsyncExitStack() as stack,
    ):
        await friend.ask("join", room="busy")
        speakers = [await stack.enter_async_context(chatter(server.address)) for _ in range(100)]
        for speaker in speakers:
            await speaker.say(type="publish", id=1, room="busy", text=LONG)

        async def all_wait() -> bool:
            return sample((await ask(server.address, "GET", "/metrics")).body, "chatserver_log_pending") >= 100

        await eventually(all_wait)
        for speaker in speakers:
            speaker.peer.reset()
        await server.counted("peer-reset", len(speakers))
        log.free = True
        log.step()
        await hears_all(friend, "busy", len(speakers))


# -- bugs of ours, planted --------------------------------------------------------------------------------------------


class BreakingLog(MemoryLog):
    """Raises what no log should, for some rooms, texts and times."""

    async def read(self, room: str, *, after: int, limit: int, max_bytes: int = MAX_READ_BYTES) -> list[Record]:
        if room == "broken":
            raise RuntimeError("planted")
        return await super().read(room, after=after, limit=limit, max_bytes=max_bytes)

    def _commit(self, drafts: Sequence[Draft]) -> Outcomes:
        return [self._mar(draft, outcome) for draft, outcome in zip(drafts, super()._commit(drafts), strict=True)]

    def _mar(self, draft: Draft, outcome: Any) -> Any:
        if draft.text == "no outcome":
            return None
        if draft.text == "cannot be encoded":
            return Stored(msgspec.structs.replace(outcome.record, text="\ud800"), fresh=True)
        return outcome


@pytest.mark.jumping_clock
async def test_a_fault_in_feeding_a_member_from_the_log_costs_that_member(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_to(BreakingLog(), monkeypatch)
    async with (
        serving(faults=1, ring_messages=16, send_buffer=8192) as server,
        neighbour(server),
        chatter(server.address, receive_buffer=4096) as unlucky,
        chatter(server.address, receive_buffer=4096) as slow,
    ):
        for member, room in ((unlucky, "broken"), (slow, "busy")):
            await member.ask("join", room=room)
            async with connect(server.address) as poster:
                for _ in range(60):
                    assert (await poster.request("POST", f"/rooms/{room}/messages", LONG.encode())).status == 201
        assert (await unlucky.closed()).code == 1011
        await server.counted("internal-error")
        await hears_all(slow, "busy", 60)


@pytest.mark.jumping_clock
async def test_a_fault_in_answering_a_publisher_costs_that_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_to(BreakingLog(), monkeypatch)
    async with (
        serving(faults=2) as server,
        neighbour(server),
        chatter(server.address) as friend,
        chatter(server.address) as speaker,
        connect(server.address) as poster,
    ):
        await friend.ask("join", room="busy")
        await poster.send(posting("no outcome", "elsewhere"))
        assert (await poster.response()).status == 500
        await speaker.say(type="publish", id=1, room="elsewhere", text="no outcome")
        assert (await speaker.closed()).code == 1011
        await server.counted("internal-error", 2)
        await publish(server.address, "busy", "hello")
        await hears_all(friend, "busy", 1)


@pytest.mark.jumping_clock
async def test_a_fault_in_one_rooms_news_costs_no_other_room(monkeypatch: pytest.MonkeyPatch) -> None:
    log = BreakingLog()
    keep_to(log, monkeypatch)
    async with (
        serving(faults=1) as server,
        neighbour(server),
        chatter(server.address) as friend,
        chatter(server.address) as unlucky,
    ):
        await unlucky.ask("join", room="unlucky")
        for room in ("busy", "calm"):
            await friend.ask("join", room=room)
        for room, text in (("busy", "hello"), ("unlucky", "cannot be encoded"), ("calm", "hello")):
            await friend.say(type="publish", id=room, room=room, text=text)  # together: they may be one group
        heard = [await friend.next("message") for _ in range(2)]
        assert sorted(message["room"] for message in heard) == ["busy", "calm"]
        assert (await unlucky.ask("ping"))["type"] == "pong"


@pytest.mark.jumping_clock
async def test_a_fault_in_keeping_house_costs_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(faults=1, collector=Collector) as server, neighbour(server):
        collect, planted = gc.collect, [RuntimeError("planted")]

        def fail_once(*arguments: int) -> int:
            if planted:
                raise planted.pop()
            return collect(*arguments)

        monkeypatch.setattr(gc, "collect", fail_once)

        async def told() -> bool:
            return await server.metric("chatserver_faults_total") == 1

        await eventually(told)
        assert [line["event"] for line in server.logs if line["log_level"] == "error"] == ["fault"]


# -- what held a place, or the end, for too long ----------------------------------------------------------------------

STREAM = request("GET", "/rooms/lonely/events")


async def end_behind_the_request(peer: Peer) -> None:
    await peer.send(STREAM)
    await peer.end()


async def end_behind_another_request(peer: Peer) -> None:
    await peer.send(STREAM + STREAM)
    await peer.end()


async def end_later(peer: Peer) -> None:
    await peer.send(STREAM)
    await peer.head()
    await peer.end()


async def end_behind_other_bytes(peer: Peer) -> None:
    await peer.send(STREAM)
    await peer.head()
    await peer.send(b"what nobody asked for" * 1000)
    await trio.sleep(0.1)  # it may not come together
    await peer.end()


@pytest.mark.jumping_clock
@pytest.mark.parametrize("end", [end_behind_the_request, end_behind_another_request, end_later, end_behind_other_bytes])
async def test_half_closed_event_streams_are_ended_at_once(end: Callable[[Peer], Any]) -> None:
    """The heartbeat would find nobody gone: who has only half closed takes it."""
    async with serving(heartbeat_interval=TOO_LATE) as server, neighbour(server), connect(server.address) as friend:
        await friend.send(request("GET", "/rooms/busy/events"))
        await friend.head()
        async with connect(server.address) as peer:
            await end(peer)
            with trio.fail_after(PATIENCE):
                await peer.rest()

        async def alone() -> bool:
            return await server.metric("chatserver_connections", phase="stream") == 1

        await eventually(alone)
        await publish(server.address, "busy", "hello")
        assert b'"hello"' in await friend.until(b'"hello"')


@pytest.mark.jumping_clock
async def test_an_event_stream_with_something_behind_its_request_goes_on() -> None:
    async with serving(heartbeat_interval=TOO_LATE) as server, neighbour(server), connect(server.address) as peer:
        await peer.send(STREAM + STREAM)
        await peer.head()
        await peer.send(b"what nobody asked for" * 1000)
        await publish(server.address, "lonely", "hello")
        assert b'"hello"' in await peer.until(b'"hello"')


async def test_what_peers_have_not_read_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """The kernel goes on sending when the process has ended: 22 KB took as long as their reader."""
    limits = ("drain-timeout", "flush-window", "keepalive-deadline")
    flags = free_flags(tmp_path, *(word for name in limits for word in (f"--{name}", str(TOO_LATE))))
    async with AsyncExitStack() as stack:
        async with server_process(tmp_path, *flags) as server:
            for _ in range(5):
                await publish(server.address, "busy", LONG)
            websocket, events, answer = [
                await stack.enter_async_context(connect(server.address, receive_buffer=4096)) for _ in range(3)
            ]
            await (await open_websocket(websocket)).say(type="join", id=1, room="busy", after=0)
            await events.send(request("GET", "/rooms/busy/events?after=0"))
            await answer.send(request("GET", "/rooms/busy/messages?after=0"))
            for peer in (websocket, events, answer):
                await trio.lowlevel.wait_readable(peer.transport.socket)  # and the rest does not fit
            server.process.send_signal(signal.SIGTERM)
            assert await server.ended() == 0
        for peer in (websocket, answer):
            assert (await peer.rest()).count(LONG.encode()) == 5
        everything = await events.rest()  # whole ones, and the rest when it comes back
        assert 1 <= everything.count(LONG.encode()) == everything.count(b"id: ")
        assert everything.rpartition(b"retry: ")[2].strip().isdigit()
