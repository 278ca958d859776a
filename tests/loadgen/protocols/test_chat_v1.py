"""The victims of a chat: what they say on one connection after the other, and what they take for an answer."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from wsproto import events

from loadgen.net import target
from loadgen.net.answers import UNANSWERED
from loadgen.net.line import EndedError
from loadgen.net.timers import NEVER, now
from loadgen.protocols import changes, chat_v1
from loadgen.protocols.chat_v1 import StreamVictim, WebSocketVictim
from loadgen.protocols.http import http_peer
from loadgen.victims.probe import Context, Schedule
from loadgen.victims.victim import Newcomers, PlannedEndError, Victim, failure_in
from tests.loadgen.planted import Plant, planted
from tests.loadgen.stage import PATIENCE, WebSocket, answering, listening, read_until, request_of, unread, until

CREATED = b"HTTP/1.1 201 X\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("said", "is_planned"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n6\r\n: hi\n\n\r\n0\r\n\r\n", True),
        (b"Connection: close\r\n\r\n: hi\n\nretry: 100\n\n", True),
        (b"Connection: close\r\n\r\nretry: 100\n\n: hi\n\n", False),  # as if it had died
        (b"Connection: close\r\n\r\nretry: 100\n\n", False),  # and before it said anything
    ],
)
async def test_an_event_stream_ends_as_planned_by_its_last_chunk_or_a_last_retry(said: bytes, is_planned: bool) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        if await stream.receive_some():
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + said)

    async with answering(serve) as port:
        victim = StreamVictim(Context(target.find(f"http://127.0.0.1:{port}"), "run"), 0, Schedule(0.0, 3600.0))
        with pytest.raises(ExceptionGroup) as raised:
            await victim.live()
    assert isinstance(failure_in(raised.value), PlannedEndError) is is_planned


@pytest.mark.parametrize(
    ("is_stored", "is_acknowledged", "failed"),
    [
        (True, True, {}),  # the message did not come back before the end
        (True, False, {}),  # nor its receipt
        (False, False, {}),  # it is sent again
        (False, True, {UNANSWERED: 1}),  # it is lost
    ],
)
async def test_a_message_under_way_at_a_planned_end_is_looked_for_in_the_room_and_sent_again_if_it_is_not_there(
    is_stored: bool, is_acknowledged: bool, failed: dict[str, int]
) -> None:
    """A server that restarted in good order failed the message of each of its users that crossed with the end."""
    async with listening() as server, trio.open_nursery() as nursery:
        context = Context(target.find(server.url), "run")
        context.recorder.timeout_seconds, begun = PATIENCE, now()
        victim = WebSocketVictim(context, 0, Schedule(begun, 1.0))
        nursery.start_soon(victim.run)
        kept: list[dict[str, object]] = []

        async def joined() -> WebSocket:
            peer = await server.websocket()
            assert (await peer.hear())["type"] == "join"
            await peer.say(type="joined", id=-1, messages=kept)
            return peer

        async def serve(peer: WebSocket, *, keeps: bool = True, tells: bool = True, echoes: bool = True) -> object:
            said, message = await peer.hear(), {"text": "", "offset": len(kept) + 1}
            message["text"] = said["text"]
            kept.extend([message] * keeps)
            if tells:
                await peer.say(type="ack", id=said["id"], offset=message["offset"])
            if echoes:
                await peer.say(type="message", **message)
            return said["id"]

        first = await joined()
        victim.issue(begun + 0.5)
        assert await serve(first) == 0
        victim.issue(begun + 1.5)
        assert await serve(first, keeps=is_stored, tells=is_acknowledged, echoes=False) == 1
        await until(lambda: victim.acknowledged.keys() == {0, 1} if is_acknowledged else True)
        await first.send(events.CloseConnection(1012))
        second = await joined()
        if not is_stored and not is_acknowledged:
            assert await serve(second) == 1
        if failed:
            await until(lambda: not victim._locked_out)
            context.recorder.timeout_seconds = 0.0
            victim.fail_pending()
        await until(lambda: not victim.pending)
        [result] = context.recorder.results(Counter())
        assert (result.latency.count, result.failed) == (2, failed)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("kind", "told", "failed"),
    [
        ("edit", {"type": "edit", "target": 1, "text": "run-0 1"}, ""),
        ("delete", {"type": "delete", "target": 1}, ""),
        ("react", {"type": "reaction", "target": 1}, ""),
        ("edit", {"type": "edit", "target": 1, "text": "run-0 0"}, "a change of another message"),
        ("edit", {"type": "delete", "target": 1}, "a change of another message"),
        ("delete", {"type": "delete", "target": 2}, "a change of another message"),
        ("react", None, UNANSWERED),  # it is acknowledged, and nobody hears of it
    ],
)
async def test_a_change_is_done_when_the_right_message_has_changed_in_the_right_way(
    kind: str, told: dict[str, object] | None, failed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _changing(kind, monkeypatch) as (peer, victim):
        await peer.say(type="ack", id=1, offset=2)
        if told:
            await peer.say(**told, offset=2, room="run-0")
        else:
            await until(lambda: 1 in victim.acknowledged)
            _time_is_over(victim)
        await until(lambda: not victim.pending)
        [result] = victim.context.recorder.results(Counter())
        assert (result.latency.count, result.failed) == (2, {failed: 1} if failed else {})
        assert victim.changes.replaced([0, 1]) == ({0} if kind != "react" else set()), "of these the text is gone"


@pytest.mark.parametrize("number", [0, 2, -1])
async def test_a_receipt_that_comes_twice_or_for_what_was_not_said_is_a_failure(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was no failure, or that of a message that nobody had sent and that was lost."""
    async with _changing("edit", monkeypatch) as (peer, victim):
        await peer.say(type="ack", id=number, offset=1)
        await until(lambda: not victim.pending)
        [result] = victim.context.recorder.results(Counter())
        assert result.failed == {"acknowledged twice, or what was never said": 1}
        assert victim.acknowledged == {0: 1}


async def test_a_server_that_passes_over_what_it_does_not_know_fails_the_first_change_of_each_kind_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was "no answer in time", for each of them."""
    async with _changing("delete", monkeypatch) as (peer, victim):
        victim.issue(victim.schedule.due(2) + 0.5)
        await _serve(peer, offset=2)
        await until(lambda: 2 not in victim.pending)
        _time_is_over(victim)
        [result] = victim.context.recorder.results(Counter())
        assert result.failed == {"no answer to the first delete, but to what was sent later": 1}
        assert not victim.changes.begin(3, 2, 2, "", turn=1), "the next one"


async def test_what_is_said_again_in_place_of_a_refused_change_may_come_after_later_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine the next one had been sent by then: "a message came out of order", of a sound server."""
    async with _changing("edit", monkeypatch) as (peer, victim):
        victim.issue(victim.schedule.due(2) + 0.5)
        await _serve(peer, offset=2)
        await peer.say(type="error", id=1, code="unknown_type")
        await _serve(peer, offset=3)
        await until(lambda: not victim.pending)
        [result] = victim.context.recorder.results(Counter())
        assert (result.latency.count, result.failed) == (3, {})


ACK: dict[str, object] = {"type": "ack", "id": 0, "offset": 7, "room": "run-new-ws-0"}
ECHO: dict[str, object] = {"type": "message", "text": "run-new-ws-0 0", "offset": 7, "room": "run-new-ws-0"}


@pytest.mark.parametrize(
    ("told", "failed"),
    [
        ([ACK, ECHO], ""),
        ([ECHO, ACK], ""),
        (
            [{"type": "presence", "room": "others"}, {**ECHO, "text": "run-new-ws-0 64"}, ECHO, ACK],
            "",
        ),
        ([ACK, {**ECHO, "room": "others"}], "a message of another room"),
        ([ECHO, {**ACK, "room": "others"}], "a message of another room"),
        ([ACK, {**ECHO, "text": "run-new-ws-1 1"}], "a message of another client"),
        ([{"type": "error", "id": 0, "code": "full"}], "error full"),
    ],
)
async def test_a_newcomer_is_served_when_its_message_is_acknowledged_and_back_in_its_room(
    told: list[dict[str, object]], failed: str
) -> None:
    async with listening() as server, trio.open_nursery() as nursery:
        context = Context(target.find(server.url), "run")
        context.recorder.timeout_seconds, begun = PATIENCE, now()
        newcomers = Newcomers(context, WebSocketVictim, Schedule(begun, 3600.0), 0)
        newcomers.pending[0] = begun
        nursery.start_soon(newcomers._come, 0, begun)
        peer = await server.websocket()
        assert (await peer.hear())["type"] == "join"
        await peer.say(type="joined", id=-1, messages=[])
        said = await peer.hear()
        assert (said["id"], said["text"], said["room"]) == (0, "run-new-ws-0 0", "run-new-ws-0")
        assert context.newcomers_left == {"run-new-ws-0": {0: NEVER}}
        for each in told:
            await peer.say(**each)
        await until(lambda: not newcomers.pending)
        [result] = context.recorder.results(Counter())
        assert result.failed == ({failed: 1} if failed else {})
        if not failed:
            assert context.newcomers_said == {"run-new-ws-0": {0: 7}}
            await until(lambda: context.newcomers_left["run-new-ws-0"][0] < NEVER)
        nursery.cancel_scope.cancel()


async def test_a_join_that_is_refused_is_a_failure_at_once() -> None:
    async with listening() as server, trio.open_nursery() as nursery:
        context = Context(target.find(server.url), "run")
        nursery.start_soon(WebSocketVictim(context, 0, Schedule(now() + 3600, 1.0)).run)
        peer = await server.websocket()
        await peer.hear()
        await peer.say(type="error", id=-1, code="full")
        await until(lambda: context.last_failure == "error full")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", chat_v1.PROTOCOL.victims)
@pytest.mark.parametrize(("plant", "failed"), [(Plant(), {}), (Plant(refuse=True), {"answered 503": 1})])
async def test_a_newcomer_of_each_kind_says_something_in_a_room_of_its_kind_and_leaves(
    kind: type[Victim], plant: Plant, failed: dict[str, int]
) -> None:
    with planted(plant) as server:
        context = Context(target.find(server.url), "run")
        context.recorder.timeout_seconds, begun = PATIENCE, now()
        newcomers, room = Newcomers(context, kind, Schedule(begun, 3600.0), 0), f"run-new-{kind.name}-0"
        newcomers.pending[0] = begun
        await newcomers._come(0, begun)
        assert not newcomers.pending
        assert [result.failed for result in context.recorder.results(Counter())] == [failed]
        assert context.newcomers_said == {room: {} if failed else {0: 1}}
        assert (context.newcomers_left[room][0] < NEVER) is (not failed)


def _time_is_over(victim: Victim) -> None:
    victim.context.recorder.timeout_seconds = 0.0
    victim.fail_pending()


async def _serve(peer: WebSocket, offset: int) -> None:
    said = await peer.hear()
    assert said["type"] == "publish"
    await peer.say(type="ack", id=said["id"], offset=offset)
    await peer.say(type="message", text=said["text"], offset=offset)


@asynccontextmanager
async def _changing(kind: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[WebSocket, WebSocketVictim]]:
    """A victim whose first message is kept at offset 1, and whose second operation has changed that."""
    monkeypatch.setattr(chat_v1, "CHANGES_EVERY", 2)
    monkeypatch.setattr("loadgen.protocols.changes._KINDS", {kind: changes._KINDS[kind]})
    async with listening() as server, trio.open_nursery() as nursery:
        context = Context(target.find(server.url), "run")
        context.recorder.timeout_seconds, begun = PATIENCE, now()
        victim = WebSocketVictim(context, 0, Schedule(begun, 1.0))
        nursery.start_soon(victim.run)
        peer = await server.websocket()
        await peer.hear()
        await peer.say(type="joined", id=-1, messages=[])
        victim.issue(begun + 0.5)
        await _serve(peer, offset=1)
        await until(lambda: not victim.pending)
        victim.issue(begun + 1.5)
        said = await peer.hear()
        assert (said["type"], said["id"], said["offset"]) == (kind, 1, 1)
        yield peer, victim
        nursery.cancel_scope.cancel()


async def test_what_is_posted_as_an_event_stream_ends_is_answered_first_and_comes_on_the_next_stream() -> None:
    """The request was cut off by ourselves, and failed."""
    created = b'HTTP/1.1 201 X\r\nContent-Length: 12\r\n\r\n{"offset":%d}'
    event = b'id: e-%d\ndata: {"text":"run-0 %d","offset":%d}\n\n'
    chunk, end = b"%x\r\n%s\r\n", b"0\r\n\r\n"
    async with listening() as server, trio.open_nursery() as nursery:
        context = Context(target.find(server.url), "run")
        context.recorder.timeout_seconds, begun = PATIENCE, now()
        victim = StreamVictim(context, 0, Schedule(begun, 1.0))
        nursery.start_soon(victim.run)

        async def connected() -> tuple[trio.SocketStream, trio.SocketStream, bytes]:
            posting, stream = await server.accept(), await server.accept()
            asked = await read_until(stream, lambda got: got.endswith(b"\r\n\r\n"))
            head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
            await stream.send_all(head + chunk % (9, b"retry: 1\n"))
            return posting, stream, asked

        async def posted(posting: trio.SocketStream, number: int) -> None:
            await read_until(posting, lambda got: got.endswith(b"run-0 %d" % number))

        posting, stream, asked = await connected()
        assert b"Last-Event-ID" not in asked
        for number in (0, 1):
            victim.issue(begun + number + 0.5)
            await posted(posting, number)
            if number:
                await stream.send_all(end)
                await until(lambda: victim.posting.statistics().tasks_waiting == 1)
            await posting.send_all(created % (number + 1))
            if not number:
                told = event % (1, 0, 1)
                await stream.send_all(chunk % (len(told), told))
                await until(lambda: not victim.pending)
        _, stream, asked = await connected()
        assert b"\r\nLast-Event-ID: e-1\r\n" in asked
        assert victim.pending.keys() == victim.acknowledged.keys() - {0} == {1}
        told = event % (2, 1, 2)
        await stream.send_all(chunk % (len(told), told))
        await until(lambda: not victim.pending)
        [result] = context.recorder.results(Counter())
        assert (result.latency.count, result.failed) == (2, {})
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_seen", [True, False])
async def test_what_is_posted_to_a_server_that_ends_each_connection_goes_by_a_new_one(
    is_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went into a connection of whose end a victim knew, so nearly each restart of a worker failed one."""

    async def serve(stream: trio.SocketStream) -> None:
        await request_of(stream)
        await stream.send_all(CREATED)

    async with answering(serve) as port, http_peer(Context(target.find(f"http://127.0.0.1:{port}"), "t"), 0) as peer:
        for _ in range(3):
            with monkeypatch.context() as patched:
                if not is_seen:  # it crosses with the FIN, which shows that nobody has read it
                    patched.setattr("loadgen.net.line.Line.ending", None)
                assert (await peer.asked(partial(peer.request, "POST", "/")))[0] == 201
            await until(lambda: peer._line.ending)


async def test_what_somebody_may_have_read_is_not_posted_again() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await request_of(stream)
        await stream.send_all(CREATED)
        await unread(stream)

    async with answering(serve) as port, http_peer(Context(target.find(f"http://127.0.0.1:{port}"), "t"), 0) as peer:
        assert (await peer.asked(partial(peer.request, "POST", "/")))[0] == 201
        with pytest.raises(EndedError):
            await peer.asked(partial(peer.request, "POST", "/"))
