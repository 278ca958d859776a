"""What a chat has kept, by what victims read again: at a real server, and at some that lie."""

import errno
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from unittest.mock import Mock

import pytest
import trio

from loadgen.clients.messages import Reread, Role
from loadgen.net import target
from loadgen.net.answers import UNANSWERED
from loadgen.protocols import chat_v1, history
from loadgen.protocols.chat_v1 import PollVictim, StreamVictim, WebSocketVictim
from loadgen.run.experiment import Probes
from loadgen.run.runner import ProbeRunner
from loadgen.victims.probe import Context, Schedule
from loadgen.victims.victim import Victim, number_in
from tests.loadgen.stage import PATIENCE, answering, until
from tests.support.serving import serving

KINDS = (WebSocketVictim, PollVictim, StreamVictim)


def _changes(victim: Victim) -> dict[int, str]:
    return victim.changes.kinds if isinstance(victim, WebSocketVictim) else {}


def _kept(victims: list[Victim]) -> int:
    """How many messages they were told are kept and have not replaced."""
    changes = (victim.changes for victim in victims if isinstance(victim, WebSocketVictim))
    return sum(len(victim.acknowledged) for victim in victims) - sum(len(each.replaced(each.kinds)) for each in changes)


async def _run(url: str) -> tuple[ProbeRunner, list[Victim]]:
    """One victim of each kind says a few things and reads them again."""
    runner = ProbeRunner(Role(target=target.find(url), seed=1, connect_rate=0.0))
    probes = Probes(victims={kind.name: 1 for kind in KINDS}, newcomers_per_s=0.0, timeout_seconds=PATIENCE)
    runner.make(probes, interval_seconds=0.06)  # a message that is due before the last one was heard is no change
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
    assert runner.result().reread == Reread(asked=_kept(victims), rooms=len(victims))
    return runner, victims


async def test_each_message_is_read_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()  # messages, by room

    def counted(text: str, room: str, tag: str) -> int | None:
        read[room] += 1
        return number_in(text, room, tag)

    monkeypatch.setattr(chat_v1, "CHANGES_EVERY", 2)
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server:
        url = f"http://{server.address.host}:{server.address.port}"
        runner, victims = await _run(url)
        monkeypatch.setattr(history, "number_in", counted)  # of all that is read again
        again = await history.reread(runner._context, victims)
        assert (again.asked, again.lost) == (_kept(victims), 0)
        for victim in victims:
            kinds = Counter(_changes(victim).values())
            without_text = 2 * kinds["delete"] + kinds["react"]  # what was deleted has none either
            assert read[victim.room] + without_text == len(victim.acknowledged)
        assert len(read) == len(victims)
        for victim in victims:
            victim.acknowledged = {len(victim.acknowledged): max(victim.acknowledged.values()) + 1}
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
        monkeypatch.setattr(history, "PAGE_SECONDS", 0.2)
    monkeypatch.setattr(history, "NOT_NOW_SECONDS", 0.2)
    assert await _reread([kind], serve) == found


@pytest.mark.parametrize("recovered", [(False, True), (True, False)])
async def test_a_history_is_complete_if_every_page_of_it_is(recovered: tuple[bool, bool]) -> None:
    """Retention may pass the cursor between two pages."""
    pages = [
        {"cursor": f"e-{at}", "messages": [{"text": "run-0 1"}], "recovered": each} for at, each in enumerate(recovered)
    ]

    async def serve(stream: trio.SocketStream) -> None:
        for page in (*pages, pages[-1]):
            await stream.receive_some()
            await stream.send_all(_answer(200, json.dumps(page)))
        await stream.receive_some()

    found = await _reread([WebSocketVictim], serve)
    assert found == Reread(asked=1, lost=0, unreadable="the server no longer has the oldest")


async def test_a_server_that_was_polled_has_a_history_for_all() -> None:
    """Where some victims poll and others do not, 404 is no answer for either."""

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(_answer(404))

    assert await _reread([WebSocketVictim, PollVictim], serve) == Reread(asked=4, lost=4)


async def test_a_server_may_need_a_moment_before_it_serves_its_history(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((_answer(503), _answer(429)))

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(next(answers, _answer(200, _page(0, 1))))

    monkeypatch.setattr(history, "RETRY_SECONDS", 0.01)
    assert await _reread([WebSocketVictim], serve) == Reread(asked=2, lost=0)


async def test_a_long_history_may_take_as_long_as_it_has_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each room had 20 s: a soak of a chat at a distance was invalid every time."""
    numbers = count()

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await trio.sleep(0.1)
            number = next(numbers)
            page = {"cursor": f"e-{min(number, 10)}", "messages": [{"text": f"run-0 {number}"}], "recovered": True}
            await stream.send_all(_answer(200, json.dumps(page)))

    monkeypatch.setattr(history, "PAGE_SECONDS", 1.0)
    monkeypatch.setattr(history, "REREAD_SECONDS", 1.0)
    monkeypatch.setattr(history, "MORE_SECONDS", 60.0)
    assert await _reread([WebSocketVictim], serve) == Reread(asked=2, lost=0)


async def test_a_server_that_answers_for_no_room_is_not_asked_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rooms at once had their twenty seconds, then the next eight: a server that hung cost each run a minute."""
    asked = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal asked
        asked += 1
        await trio.sleep_forever()

    monkeypatch.setattr(history, "PAGE_SECONDS", 0.1)
    assert await _reread([WebSocketVictim] * 100, serve) == Reread(asked=0, lost=0, unreadable=UNANSWERED)
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
        ("", "run-0 3", _answer(200, '{"results":[{"offset":3,"text":"run-0 2"}]}'), 1),
        # a search for one word finds others, also by what they were edited to
        ("", "run-0 3", _answer(200, '{"results":[{"offset":3,"text":"run-0 3"},{"offset":5,"text":"run-0 4"}]}'), 0),
    ],
)
async def test_a_text_that_is_gone_and_can_still_be_read_or_found_is_a_lost_change(
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
        for number in range(5):
            victim.acknowledge(number, number + 1)
        assert await history.reread(context, [victim]) == Reread(asked=3, lost=lost)
    searches = {b"/search?room=run-0&q=run-0%20" + number for number in (b"0", b"2")}
    done = {each for each in asked if each.startswith(b"/search")}
    assert done <= searches, "what the deleted message said, and the edited one"
    assert done == searches or (done and b"results" not in found)


@pytest.mark.parametrize(
    ("offsets", "recovered", "lost"),
    [([3, 4], True, 0), ([4], True, 1), ([4], False, 0), ([0, 4], True, 0)],  # one tells no offset of a message
)
async def test_an_edited_message_that_is_not_in_the_history_is_lost(
    offsets: list[int], recovered: bool, lost: int
) -> None:
    """The record of the edit was there, so a server was held that no longer had any message which was edited."""
    message: dict[str, object] = {"text": "run-0 1"}
    records = {0: message, 3: {**message, "offset": 3}, 4: {**message, "offset": 4, "type": "edit", "target": 3}}
    page = {"cursor": "e", "messages": [records[offset] for offset in offsets], "recovered": recovered}

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(_answer(200, json.dumps(page)))

    async with answering(serve) as port:
        victim = WebSocketVictim(Context(target.find(f"http://127.0.0.1:{port}"), "run"), 0, Schedule(0.0, 1.0))
        victim.changes.begin(1, 0, 3, "run-0 1", turn=0)
        for number, offset in enumerate((3, 4)):
            victim.acknowledge(number, offset)
        found = await history.reread(victim.context, [victim])
    assert (found.asked, found.lost) == (1, lost)


@pytest.mark.parametrize(
    ("offsets", "numbers", "lost"),
    [
        ([7, 8], [0, 1], 0),
        ([0, 0], [0, 1], 0),
        ([7, 9], [0, 1], 1),
        ([7, 8, 9], [0, 1, 1], 1),
        ([8, 7], [1, 0], 1),
        ([8, 7], [0, 1], 2),
    ],
)
async def test_each_message_is_once_in_the_history_in_order_and_where_its_receipt_says(
    offsets: list[int], numbers: list[int], lost: int
) -> None:
    """Servers were held that stored each message twice, counted anew in the history, or gave the latest first."""
    messages = [{"text": f"run-0 {number}", "offset": offset} for number, offset in zip(numbers, offsets, strict=True)]

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(_answer(200, json.dumps({"cursor": "e", "messages": messages})))

    async with answering(serve) as port:
        context = Context(target.find(f"http://127.0.0.1:{port}"), "run")
        context.newcomers_said["run-0"] = {0: 7, 1: 8}
        assert await history.reread(context, []) == Reread(asked=2, lost=lost)


async def test_all_texts_that_are_gone_are_searched_for_until_the_server_has_had_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the text that was deleted last was: all others could still be found."""
    monkeypatch.setattr(history, "MOST_SEARCHES", 12)
    most, found = 30, list[bytes]()

    async def serve(stream: trio.SocketStream) -> None:
        while request := await stream.receive_some():
            is_search = request.startswith(b"GET /search")
            found.extend([request.split(b" ")[1]] * is_search)
            await stream.send_all(
                _answer(200, '{"results":[]}' if is_search else _page()) if len(found) < most else _answer(429)
            )

    async with answering(serve) as port:
        victim = WebSocketVictim(Context(target.find(f"http://127.0.0.1:{port}"), "run"), 0, Schedule(0.0, 1.0))
        for number in range(0, 30, 2):
            victim.changes.begin(number + 1, number, number, "", turn=1)
            victim.acknowledge(number + 1)
        for most in (30, 5):
            found.clear()
            await history.reread(victim.context, [victim])
            assert len(set(found)) == len(found) == min(most, 12)


async def _reread(kinds: Sequence[type[Victim]], serve: Callable[[trio.SocketStream], Awaitable[None]]) -> Reread:
    """What victims of these kinds read again, each of which was told that its messages 0 and 1 are kept."""
    async with answering(serve) as port:
        context = Context(target.find(f"http://127.0.0.1:{port}"), "run")
        readers = [kind(context, index, Schedule(0.0, 1.0)) for index, kind in enumerate(kinds)]
        for reader in readers:
            for number in (0, 1):
                reader.acknowledge(number)
        return await history.reread(context, readers)


async def test_what_this_machine_lacks_loses_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where our own descriptors or buffers had run out, the server had refused or lost what it had acknowledged."""

    async def serve(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    lack, broken = OSError(errno.ENOBUFS, "No buffer space available"), trio.BrokenResourceError()
    broken.__cause__ = lack
    for call, failure in (("trio.SocketStream.receive_some", broken), ("loadgen.victims.probe.dial", lack)):
        monkeypatch.setattr(call, Mock(side_effect=failure))
        unread = await _reread([WebSocketVictim], serve)
        assert unread == Reread(asked=0, lost=0, unreadable=UNANSWERED), call
