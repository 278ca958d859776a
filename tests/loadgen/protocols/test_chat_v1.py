"""The victims of a chat at a real server: what they read again is what they said in this run."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from wsproto import events

from loadgen.clients.messages import Reread, Role
from loadgen.net import target
from loadgen.net.answers import UNANSWERED
from loadgen.net.line import EndedError
from loadgen.net.timers import now
from loadgen.protocols import changes, chat_v1, history
from loadgen.protocols.chat_v1 import PollVictim, StreamVictim, WebSocketVictim
from loadgen.protocols.http import http_peer
from loadgen.run.experiment import Probes
from loadgen.run.runner import ProbeRunner
from loadgen.victims.probe import Context, Schedule
from loadgen.victims.victim import PlannedEndError, Victim, failure_in, number_in
from tests.loadgen.stage import PATIENCE, WebSocket, answering, listening, read_until, request_of, unread, until
from tests.support.serving import serving

KINDS = (WebSocketVictim, PollVictim, StreamVictim)


def _changes(victim: Victim) -> dict[int, str]:
    return victim.changes.kinds if isinstance(victim, WebSocketVictim) else {}


async def _run(url: str) -> tuple[ProbeRunner, list[Victim]]:
    """One victim of each kind says a few things and reads them again, with the seed of every other run."""
    runner = ProbeRunner(Role(target=target.find(url), seed=1, connect_rate=0.0))
    probes = Probes(victims={kind.name: 1 for kind in KINDS}, newcomers_per_s=0.0, timeout_seconds=PATIENCE)
    runner.make(probes, interval_seconds=0.02)
    victims = [probe for probe in runner._probes if isinstance(probe, Victim)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        await until(lambda: all(len(victim.acknowledged) >= 5 for victim in victims))
        # a slow server answers the first five at once, and there was nothing to change before
        await until(lambda: {*_changes(victims[0]).values()} == {"edit", "delete", "react"})
        runner.stop()
        await until(lambda: not runner.status(0).outstanding)
        await runner.end(reread=True)
        nursery.cancel_scope.cancel()
    assert runner.result().reread == Reread(asked=sum(len(victim.acknowledged) for victim in victims), lost=0)
    return runner, victims


async def test_a_second_run_reads_nothing_of_the_first_and_takes_nothing_of_it_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal seeds mean equal rooms and texts: each row of a scorecard took longer than the one before.

    And a message that was lost in one passed for the same one of the row before.
    """
    read: Counter[str] = Counter()  # messages, by room

    def counted(text: str, room: str, tag: str) -> int | None:
        read[room] += 1
        return number_in(text, room, tag)

    monkeypatch.setattr(chat_v1, "CHANGES_EVERY", 3)
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server:
        url = f"http://{server.address.host}:{server.address.port}"
        await _run(url)
        runner, victims = await _run(url)
        monkeypatch.setattr(history, "number_in", counted)  # of all that is read again
        again = await history.reread(runner._context, victims)
        assert (again.asked, again.lost) == (sum(len(victim.acknowledged) for victim in victims), 0)
        for victim in victims:
            # an edit is shown as a record, and by the message that it changed unless that is the oldest
            kinds = Counter(_changes(victim).values())
            without_text = kinds["delete"] + kinds["react"]
            assert 0 <= read[victim.room] + without_text - len(victim.acknowledged) <= kinds["edit"]
        assert len(read) == len(victims)
        for victim in victims:
            victim.acknowledged = {0: max(victim.acknowledged.values()) + 1}
        lost = await history.reread(runner._context, victims)
        assert (lost.asked, lost.lost) == (len(victims), len(victims))


def _answer(status: int, body: str = "{}", *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *fields, "", body]).encode()


def _page(*numbers: int, recovered: bool = True) -> str:
    messages = [{"text": f"run-0 {number}"} for number in numbers]
    return json.dumps({"cursor": "e-9", "recovered": recovered, "messages": messages})


@pytest.mark.parametrize(
    ("kind", "answer", "found"),
    [
        (WebSocketVictim, _answer(200, _page(0, 1)), Reread(asked=2, lost=0)),
        # its second page was not asked for, and all was lost
        (WebSocketVictim, _answer(200, _page(0, 1), "Connection: close"), Reread(asked=2, lost=0)),
        (WebSocketVictim, _answer(200, _page(1)), Reread(asked=2, lost=1)),
        # it keeps the latest only, and says so
        (
            WebSocketVictim,
            _answer(200, _page(1, recovered=False)),
            Reread(asked=1, lost=0, unreadable="the server no longer has the oldest"),
        ),
        # it says so and has nothing: no retention explains a room without its latest message
        (WebSocketVictim, _answer(200, _page(recovered=False)), Reread(asked=2, lost=2)),
        (WebSocketVictim, _answer(500), Reread(asked=2, lost=2)),
        # these three were no more than a note
        (WebSocketVictim, _answer(200, '{"page":"here"}'), Reread(asked=2, lost=2)),
        (WebSocketVictim, b"SSH-2.0-X\r\n\r\n", Reread(asked=2, lost=2)),
        (WebSocketVictim, b"", Reread(asked=2, lost=2)),
        # it was held with a note
        (WebSocketVictim, _answer(503), Reread(asked=0, lost=0, refused="answered 503")),
        # others may keep no history, but a victim that polls has read this one
        (WebSocketVictim, _answer(404), Reread(asked=0, lost=0, unreadable="answered 404")),
        (PollVictim, _answer(404), Reread(asked=2, lost=2)),
        # each of a hundred rooms had its time, eight at once, and the run was invalid meanwhile
        (WebSocketVictim, None, Reread(asked=0, lost=0, unreadable=UNANSWERED)),
    ],
)
async def test_what_an_answer_says_of_acknowledged_messages(
    kind: type[Victim], answer: bytes | None, found: Reread, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        if answer is None:
            await trio.sleep_forever()
        while await stream.receive_some():
            await stream.send_all(answer)
            if not answer or b"close" in answer:
                return

    if answer is None:
        monkeypatch.setattr(history, "REREAD_SECONDS", 0.2)
    monkeypatch.setattr(history, "NOT_NOW_SECONDS", 0.2)
    assert await _reread(kind, serve) == found


async def test_a_server_may_need_a_moment_before_it_serves_its_history(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((_answer(503), _answer(429)))

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(next(answers, _answer(200, _page(0, 1))))

    monkeypatch.setattr(history, "RETRY_SECONDS", 0.01)
    assert await _reread(WebSocketVictim, serve) == Reread(asked=2, lost=0)


async def test_a_server_that_answers_for_no_room_is_not_asked_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rooms at once had their twenty seconds, then the next eight: a server that hung cost each run a minute."""
    asked = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal asked
        asked += 1
        await trio.sleep_forever()

    monkeypatch.setattr(history, "ROOM_SECONDS", 0.1)
    assert await _reread(WebSocketVictim, serve, victims=100) == Reread(asked=0, lost=0, unreadable=UNANSWERED)
    assert asked <= 2 * history.AT_ONCE


@pytest.mark.parametrize(
    ("deleted", "edited", "found", "lost"),
    [
        ("", "run-0 3", _answer(200, '{"results":[]}'), 0),
        ("", "run-0 3", _answer(404), 0),
        ("", "run-0 3", _answer(200, "the page of every path"), 0),
        ("", "run-0 3", b"", 0),
        ("run-0 0", "run-0 3", _answer(404), 1),
        ("", "run-0 2", _answer(404), 1),
        ("", "run-0 3", _answer(200, '{"results":[{"offset":1,"text":"run-0 0"}]}'), 1),
        # a search for one word finds others, also by what they were edited to
        ("", "run-0 3", _answer(200, '{"results":[{"offset":3,"text":"run-0 3"},{"offset":5,"text":"run-0 4"}]}'), 0),
    ],
)
async def test_a_deleted_text_that_can_still_be_read_or_found_is_a_lost_deletion(
    deleted: str, edited: str, found: bytes, lost: int
) -> None:
    """Nobody looked, and a server may tell of the deletion to its members and keep the text for everybody else."""
    asked: list[bytes] = []
    messages: list[dict[str, object]] = [
        {"offset": 1, "text": deleted}, {"offset": 2, "type": "delete", "target": 1},
        {"offset": 3, "text": edited}, {"offset": 4, "type": "edit", "target": 3, "text": "run-0 3"},
        {"offset": 5, "text": "run-0 4"},
    ]  # fmt: skip

    async def serve(stream: trio.SocketStream) -> None:
        while request := await stream.receive_some():
            asked.append(request.split(b" ")[1])
            page = _answer(200, json.dumps({"cursor": "e", "messages": messages}))
            await stream.send_all(found if asked[-1].startswith(b"/search") else page)
            if not found and asked[-1].startswith(b"/search"):
                return

    async with answering(serve) as port:
        context = Context(target.find(f"http://127.0.0.1:{port}"), "run")
        victim = WebSocketVictim(context, 0, Schedule(0.0, 1.0))
        victim.changes.begin(1, 0, 1, "", turn=1)
        victim.changes.begin(3, 2, 3, "run-0 3", turn=0)
        for number in (1, 3, 4):
            victim.acknowledge(number, number + 1)
        assert await history.reread(context, [victim]) == Reread(asked=3, lost=lost)
    assert asked[-1] == b"/search?room=run-0&q=run-0%200", "what the deleted message said"


async def _reread(
    kind: type[Victim], serve: Callable[[trio.SocketStream], Awaitable[None]], *, victims: int = 1
) -> Reread:
    """What victims of this kind read again, each of which was told that its messages 0 and 1 are kept."""
    async with answering(serve) as port:
        context = Context(target.find(f"http://127.0.0.1:{port}"), "run")
        readers = [kind(context, index, Schedule(0.0, 1.0)) for index in range(victims)]
        for reader in readers:
            for number in (0, 1):
                reader.acknowledge(number)
        return await history.reread(context, readers)


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
        assert (0 in victim.acknowledged) is (kind == "react"), "of the others the text is gone"


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
        await stream.send_all(_answer(201))

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
        await stream.send_all(_answer(201))
        await unread(stream)

    async with answering(serve) as port, http_peer(Context(target.find(f"http://127.0.0.1:{port}"), "t"), 0) as peer:
        assert (await peer.asked(partial(peer.request, "POST", "/")))[0] == 201
        with pytest.raises(EndedError):
            await peer.asked(partial(peer.request, "POST", "/"))
