"""The start of a page for a cursor, and the bound of an answer in bytes, which loses no message."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from msgspec.structs import replace
from outcome import Outcome, capture

from chatserver.api.encoder import WireEncoder
from chatserver.api.pages import CACHED_ANSWERS, LEAST_JSON, PAGE_BYTES, Page, Pages, Start, resolve
from chatserver.chat.log_reader import LogReader
from chatserver.chat.member import Wanted
from chatserver.log.groups import Outcomes
from chatserver.log.interface import Draft, Kind, MessageState, Range, Record
from chatserver.protocol.record_json import offset_of
from chatserver.protocol.validation import MAX_TEXT_BYTES, Cursor
from tests.support.chatting import ControlledLog, chatting
from tests.support.groups import append, together
from tests.support.peers import Address, Chatter, ask, chatter, publish
from tests.support.serving import Serving, eventually, serving
from tests.support.steps import FEW, StepCounts, few_in_a_step

Clock = trio.testing.MockClock
EPOCH = "e1"
LONG = "\n" * (MAX_TEXT_BYTES - 4)  # each newline is two bytes in JSON
MESSAGES = 20
#: A message over the bound is allowed if it is the only one; several of these fit.
MOST = PAGE_BYTES + 1024


# -- where reading starts ---------------------------------------------------------------------------------------------

FROM_50_TO_100, NEVER_WRITTEN, NOTHING_KEPT = (50, 100), (1, 0), (101, 100)


def test_where_reading_starts() -> None:
    for kept, place, start in (
        (FROM_50_TO_100, None, Start(70, recovered=True, latest=True)),
        (FROM_50_TO_100, Cursor(EPOCH, 90), Start(90, recovered=True)),
        (FROM_50_TO_100, Cursor(None, 90), Start(90, recovered=True)),
        (FROM_50_TO_100, Cursor(EPOCH, 100), Start(100, recovered=True)),
        (FROM_50_TO_100, Cursor(EPOCH, 101), Start(70, recovered=False, latest=True)),
        (FROM_50_TO_100, Cursor("e0", 103), Start(70, recovered=False, latest=True)),
        (FROM_50_TO_100, Cursor("e0", 90), Start(70, recovered=False, latest=True)),
        (FROM_50_TO_100, Cursor(EPOCH, 49), Start(49, recovered=True)),
        (FROM_50_TO_100, Cursor(EPOCH, 48), Start(49, recovered=False)),
        (FROM_50_TO_100, Cursor(EPOCH, 0), Start(49, recovered=False)),
        (NEVER_WRITTEN, None, Start(0, recovered=True, latest=True)),
        (NEVER_WRITTEN, Cursor(EPOCH, 0), Start(0, recovered=True)),
        (NOTHING_KEPT, None, Start(100, recovered=True, latest=True)),
        (NOTHING_KEPT, Cursor(EPOCH, 40), Start(100, recovered=False)),
    ):
        found = resolve(place, epoch=EPOCH, first=kept[0], last=kept[1], newest=30)
        assert found == replace(start, last=kept[1] if start.latest else start.last), (kept, place)


# -- pages ------------------------------------------------------------------------------------------------------------


async def fill(address: Address, room: str, messages: int = MESSAGES) -> None:
    for number in range(1, messages + 1):
        await publish(address, room, f"{number:03} {LONG}")


async def page(address: Address, path: str) -> Any:
    answer = await ask(address, "GET", path)
    assert answer.status == 200
    assert len(answer.body) <= MOST
    return answer.json


def offsets(found: Any) -> list[int]:
    return [message["offset"] for message in found["messages"]]


@pytest.mark.parametrize("source", ["ring", "log"])
async def test_a_page_has_a_bound_in_bytes_and_its_cursor_leads_to_the_rest(
    server: Serving, friend: Chatter, source: str
) -> None:
    path = "/rooms/lobby/messages?limit=200"
    await fill(server.address, "lobby")
    if source == "ring":
        await friend.ask("join", room="lobby")
    assert (server.server.parts.hub.registry.room("lobby") is not None) is (source == "ring")
    latest = offsets(await page(server.address, path))
    assert 1 < len(latest) < MESSAGES
    assert latest == list(range(latest[0], MESSAGES + 1)), "the newest messages that fit"
    earlier = offsets(await page(server.address, f"{path}&before={latest[0]}"))
    assert 1 < len(earlier) < latest[0] - 1
    assert earlier[-1] == latest[0] - 1
    found: list[int] = []
    after = "0"
    while not found or found[-1] < MESSAGES:
        part = await page(server.address, f"{path}&after={after}")
        assert part["recovered"]
        assert 1 < len(part["messages"]) < MESSAGES
        assert part["cursor"] == part["messages"][-1]["cursor"]
        found += offsets(part)
        after = part["cursor"]
    assert found == list(range(1, MESSAGES + 1))
    found = offsets(await friend.ask("join", room="lobby", after=0))
    assert 1 < len(found) < MESSAGES
    while len(found) < MESSAGES:  # messages that do not fit into `joined` follow
        found.append((await friend.next("message"))["offset"])
    assert found == list(range(1, MESSAGES + 1))


async def test_a_frame_with_a_full_page_is_at_most_64_kib(server: Serving, friend: Chatter) -> None:
    """Clients on Netty and Jetty close the connection at a longer one: they could never join this room."""
    room = "r" * 64
    messages = 50
    await publish(server.address, room, "x")
    (short,) = (await page(server.address, f"/rooms/{room}/messages"))["messages"]
    text = "x" * (PAGE_BYTES // messages - len(msgspec.json.encode(short)) - len("10") + len("1"))
    for _ in range(messages):
        await publish(server.address, room, text)
    await friend.say(type="history", id="\u0001" * 64, room=room, after=1, limit=200)
    head = await friend.peer.take(2)
    assert head[1] in (126, 127), "not a short one"
    size = int.from_bytes(await friend.peer.take(2 if head[1] == 126 else 8), "big")
    assert PAGE_BYTES < size <= 65_536


class WithheldLog(ControlledLog):
    """Commits groups at once, and gives their news when `news` is set."""

    news: trio.Event | None = None

    def _begin_commit(self, drafts: Sequence[Draft], done: Callable[[Outcome[Outcomes]], None]) -> None:
        if self.news is None:
            super()._begin_commit(drafts, done)
        else:
            trio.lowlevel.spawn_system_task(self._tell_later, self.news, done, capture(self._commit, drafts))

    async def _tell_later(
        self, news: trio.Event, done: Callable[[Outcome[Outcomes]], None], outcome: Outcome[Outcomes]
    ) -> None:
        await news.wait()
        done(outcome)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_page_at_a_record_whose_news_has_not_come_lacks_nothing(*, shared: bool) -> None:
    """Reading back beside publishers, a page lacked the records just before the one that it was to end at."""
    log = WithheldLog(shared=shared)
    async with (
        serving(engine=log) as server, chatter(server.address) as friend, chatter(server.address) as late,
        trio.open_nursery() as publishers,
    ):  # fmt: skip
        await publish(server.address, "lobby", "one")
        await friend.ask("join", room="lobby")
        log.news = trio.Event()
        with together(log._groups):
            for _ in range(2):
                publishers.start_soon(publish, server.address, "lobby", "more")
            await eventually(lambda: log.statistics().pending == 3)
        assert len(log.records("lobby")) == 3
        for cursor, found in (({"before": 3}, [1, 2]), ({"after": 2}, [3])):
            assert offsets(await friend.ask("history", room="lobby", **cursor)) == found
        joined = await late.ask("join", room="lobby", after=3)
        assert (joined["recovered"], joined["messages"]) == (True, [])
        log.news.set()
        log.news = None
        await publish(server.address, "lobby", "last")
        for member, told in ((friend, [2, 3, 4]), (late, [4])):
            assert [(await member.next("message"))["offset"] for _ in told] == told


async def test_each_record_is_in_one_page_though_the_log_has_lost_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a damaged page of its file: as many records before the end of a page were in the next one again."""
    async with serving(ring_messages=16) as server:
        for number in range(1, 25):
            await publish(server.address, "lobby", f"m{number}")
        parts = server.server.parts
        read = parts.log.read

        async def read_what_is_left(wanted: Range) -> list[Record]:
            return [record for record in await read(wanted) if record.offset not in {5, 6}]

        monkeypatch.setattr(parts.log, "read", read_what_is_left)
        for after, offsets, recovered in (
            (None, [*range(1, 5), *range(7, 25)], True),
            (0, range(1, 5), True),
            (4, range(7, 25), False),
        ):
            place = None if after is None else Cursor(None, after)
            page = await parts.services.pages.read("lobby", place, None, Wanted(50))
            assert [offset_of(item) for item in page.items] == list(offsets)
            assert (page.reaches, page.recovered) == (offsets[-1], recovered)


@pytest.mark.parametrize("removed", [0, 8])
async def test_a_page_from_the_ring_is_that_of_the_log(removed: int) -> None:
    """The ring has the last 16 of 20 records; a page that begins before them comes from the log."""
    async with serving(ring_messages=16) as server, chatter(server.address) as friend:
        await friend.ask("join", room="lobby")
        for number in range(1, 11):
            await publish(server.address, "lobby", f"m{number}")
            reacted = await friend.ask("react", room="lobby", offset=2 * number - 1, emoji="👍", on=True)
            assert reacted["type"] == "ack"
        parts = server.server.parts
        room, pages = parts.hub.rooms["lobby"], parts.services.pages
        assert room.ring is not None
        await parts.log.retain(lambda _: (20 - removed, 0))
        parts.hub.retained({"lobby": removed + 1})
        for latest in (False, True):  # retention after the start was found
            page = await pages.after_start("lobby", Start(3, recovered=True, latest=latest), Wanted(50))
            assert page.recovered is (latest or not removed)
        places = [Cursor(epoch, offset) for epoch in (None, "other") for offset in range(23)]
        for after, before in [(None, None), *((place, None) for place in places), *((None, place) for place in places)]:
            for limit, messages_only in ((1, False), (3, False), (50, False), (3, True), (50, True)):
                wanted = Wanted(limit, messages_only)
                ours = pages.now(room, after, before, wanted)
                theirs = await pages.read("lobby", after, before, wanted)
                assert ours in (None, theirs), (after, before, limit, messages_only)
                if not messages_only:
                    assert (ours is None) is (bool(theirs.items) and offset_of(theirs.items[0]) < room.ring.first)


async def test_rooms_of_one_poll_share_the_bound_and_are_served_in_turn(server: Serving, friend: Chatter) -> None:
    """One message over a room's share is given, but not for each of a hundred rooms: that would be 1.6 MB.

    A room for which no bytes are left keeps its cursor.
    """
    rooms = [f"r{number}" for number in range(10)]
    for room in rooms:
        await fill(server.address, room, 2)
    for room in rooms[:5]:
        await friend.ask("join", room=room)
    found = await page(server.address, f"/poll?room={rooms[0]}:0&room={rooms[1]}:0&limit=200")
    assert [offsets(found["rooms"][room]) for room in rooms[:2]] == [[1], [1]]
    cursors = dict.fromkeys(rooms, "0")
    given: dict[str, list[int]] = {room: [] for room in rooms}
    polls = 0
    while any(len(each) < 2 for each in given.values()):
        query = "&".join(f"room={room}:{cursor}" for room, cursor in cursors.items())
        answer = await ask(server.address, "GET", "/poll?wait=30&" + query)
        assert len(answer.body) < PAGE_BYTES + 2 * MAX_TEXT_BYTES + 4096
        for room, part in answer.json["rooms"].items():
            assert part["recovered"]
            given[room] += offsets(part)
            cursors[room] = part["cursor"]
        polls += 1
    assert list(given.values()) == [[1, 2]] * 10
    assert 4 < polls < 10
    parts = server.server.parts
    starts = [(parts.hub.rooms[room], Start(0, recovered=True)) for room in rooms]
    ours = parts.services.pages.several_now(starts, wanted := Wanted(50, many=True))
    assert ours == await parts.services.pages.several(
        [(room.name, start) for room, start in starts], wanted, lambda name: None
    )


async def test_polls_with_every_limit_do_not_fill_memory(server: Serving) -> None:
    limits = range(1, 2 * CACHED_ANSWERS + 1)
    answers: list[list[int]] = []

    async def poll(limit: int) -> None:
        answers.append(offsets(await page(server.address, f"/rooms/a/messages?after=0&wait=30&limit={limit}")))

    async with trio.open_nursery() as nursery:
        for limit in limits:
            nursery.start_soon(poll, limit)
        await server.in_phase("held", len(limits))
        await publish(server.address, "a", "hello")
    assert answers == [[1]] * len(limits)
    assert len(server.server.parts.hub.rooms["a"].cache or ()) == CACHED_ANSWERS


@pytest.mark.parametrize(
    ("after", "before", "messages_only"),
    [(Cursor(None, 0), None, False), (None, Cursor(None, 201), False), (None, None, True)],
)
async def test_a_long_page_from_the_log_is_encoded_in_steps(
    autojump_clock: Clock,
    after: Cursor | None,
    before: Cursor | None,
    *,
    messages_only: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one step, 200 short messages of 200 people would take 2.3 ms, at any client's request."""
    async with chatting() as it:
        await it.publish("old", *map(str, range(200)))
        pages = Pages(it.hub.reader, WireEncoder("e1"))
        few_in_a_step(monkeypatch)
        with StepCounts() as steps:
            monkeypatch.setattr(WireEncoder, "message", steps.counted(WireEncoder.message))
            found = await pages.read("old", after, before, Wanted(200, messages_only))
    assert len(found.items) == 200
    assert (max(steps.counts), sum(steps.counts)) == (FEW, 200)


async def test_a_poll_of_several_rooms_reads_and_encodes_no_more_than_it_may_answer(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each room's part was read and encoded up to the bound of the whole answer, and most of it was dropped."""
    texts, encode = list[str](), WireEncoder.message

    def noting(encoder: WireEncoder, record: Record) -> bytes:
        texts.append(record.text)
        return encode(encoder, record)

    async with chatting() as it:
        for room in "abcd":
            await it.publish(room, *["x" * 1024] * 64)
        monkeypatch.setattr(WireEncoder, "message", noting)
        for start in (Start(0, recovered=True), Start(0, recovered=True, latest=True)):
            texts.clear()
            pages = Pages(it.hub.reader, WireEncoder("e1"))
            await pages.several([(room, start) for room in "abcd"], Wanted(200, many=True), lambda name: None)
            assert PAGE_BYTES // 2 < sum(map(len, texts)) <= PAGE_BYTES


async def test_a_poll_of_many_rooms_reads_no_more_records_of_each_than_its_share_holds(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a share of 655 bytes SQLite read 64 texts of up to 8 KB."""
    limits, read = list[int](), LogReader.read

    async def noting(reader: LogReader, wanted: Range) -> list[Record]:
        limits.append(wanted.limit)
        return await read(reader, wanted)

    monkeypatch.setattr(LogReader, "read", noting)
    async with chatting() as it:
        await it.publish("a", "x")
        pages = Pages(it.hub.reader, encoder := WireEncoder("e"))
        for rooms in (1, 100):
            starts = [("a", Start(0, recovered=True))] * rooms
            await pages.several(starts, Wanted(200, many=True), lambda name: None)
    assert (limits[0], max(limits[1:])) == (200, 1 + PAGE_BYTES // 100 // LEAST_JSON)
    assert len(encoder.message(Record("a", 1, 0, "u", "A", ""))) >= LEAST_JSON, "no record is shorter"


async def test_a_poll_of_several_rooms_has_no_text_deleted_meanwhile(autojump_clock: Clock) -> None:
    """The page of the first room waits for that of the second, while the deletion of its text is told."""
    async with chatting() as it:
        await it.publish("a", "kept", "secret", "first")
        await it.publish("b", "other")
        it.log.delay = 1.0
        pages, starts = Pages(it.hub.reader, WireEncoder("e1")), [(name, Start(0, recovered=True)) for name in "ab"]
        bodies: list[bytes] = []

        async def poll() -> None:
            bodies.extend(await pages.several(starts, Wanted(50, many=True), lambda name: None))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await trio.sleep(3.0)  # the log has answered for the first room
            for kind, target, text in ((Kind.DELETE, 2, ""), (Kind.EDIT, 3, "second")):
                await append(it.log, Draft("a", "u_1", "Ann", text, kind=kind, target=target, window_ms=1 << 40))
        rooms = msgspec.json.decode(b"".join(bodies))["rooms"]
        assert [[each["text"] for each in page["messages"]] for page in rooms.values()] == [
            ["kept", "", "second"],
            ["other"],
        ]
        assert len(it.hub.reader) == 0


async def test_an_edit_on_a_page_has_no_text_after_a_later_edit(autojump_clock: Clock) -> None:
    async with chatting() as it:
        pages = Pages(it.hub.reader, encoder := WireEncoder("e1"))
        edit = Record("a", 2, 0, "u_1", "Ann", "password", Kind.EDIT, 1)
        with pages.while_it_waits("a") as up_to_date:
            before = Page(2, recovered=True, items=[encoder.message(edit)])
            assert up_to_date("a", before) is before
            it.hub.reader.altered("a", [Record("a", 1, 0, "u_1", "Ann", "better")], empties=2, by=3)
            [item] = up_to_date("a", before).items
        assert (msgspec.json.decode(item)["type"], b"password" in item) == ("edit", False)


async def test_late_news_of_an_edit_brings_no_deleted_text_back_on_a_page(autojump_clock: Clock) -> None:
    """The page was read after another process had deleted the message, of which there is no news here yet."""
    async with chatting() as it:
        pages = Pages(it.hub.reader, encoder := WireEncoder("e1"))
        edited = Record("a", 1, 0, "u_1", "Ann", "secret", state=MessageState(edited=1, edit=2))
        deleted = Record("a", 1, 0, "u_1", "Ann", "", state=MessageState(deleted=True))
        with pages.while_it_waits("a") as up_to_date:
            page = Page(3, recovered=True, items=[encoder.message(deleted)])
            it.hub.reader.altered("a", [edited], by=2)
            assert up_to_date("a", page).items == page.items
