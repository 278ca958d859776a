"""Shared reads of the log, and changes of messages during a read."""

import pytest
import trio
from msgspec.structs import replace

from chatserver.chat import log_reader
from chatserver.chat.log_reader import LogReader
from chatserver.log.interface import Kind, MessageState, Range, Record
from tests.support.chatting import Chatting, ControlledLog, change
from tests.support.groups import append


async def test_a_deletion_during_a_read_is_in_its_answer(it: Chatting) -> None:
    """All sharers of the read see the deletion, no later read does, and a read of another room is unchanged."""
    await it.publish("lobby", "one", "secret", "three")
    await it.publish("ops", "one", "two")
    it.log.delay = 1.0
    async with trio.open_nursery() as nursery:
        found = [it.reading(nursery, room) for room in ("lobby", "lobby", "ops")]
        await trio.sleep(1.5)  # the log has been looked at, and has not answered yet
        await append(it.log, change(Kind.DELETE, 2))
    assert found == [["one", "", "three"]] * 2 + [["one", "two"]]
    assert it.log.reads == 2
    assert len(it.hub.reader) == 0


def test_changes_noted_during_a_read_are_applied_to_its_records() -> None:
    """Changes are noted for one room, and only during a read of it."""
    reader = LogReader(ControlledLog())
    records = [Record("lobby", offset, 0, "u_1", "Ann", "password") for offset in (1, 2, 3)]
    with reader.altered_meanwhile("lobby") as meanwhile:
        with reader.altered_meanwhile("lobby"):
            pass  # the end of one does not end the other
        reader.altered("ops", records, empties=3, by=4)
        assert meanwhile.up_to_date(records) == records
        reader.altered("lobby", [replace(records[0], text="better")], empties=2, by=5)
        assert [record.text for record in meanwhile.up_to_date(records)] == ["better", "", "password"]
    assert len(reader) == 0


def test_a_record_read_after_a_later_edit_is_kept() -> None:
    """With a shared log, another process edits again before the read, and its record is not known here yet."""
    first = Record("lobby", 1, 0, "u_1", "Ann", "first", state=MessageState(edited=1, edit=2))
    later = replace(first, text="later", state=MessageState(edited=2, edit=3))
    gone = replace(first, text="", state=MessageState(deleted=True))
    reader = LogReader(ControlledLog())
    with reader.altered_meanwhile() as meanwhile:
        reader.altered("lobby", [first], by=2)
        assert meanwhile.up_to_date([later, gone, replace(first, text="plain", state=None)]) == [later, gone, first]


@pytest.mark.parametrize("most", [0, 2, 64])
async def test_a_room_is_loaded_without_a_text_deleted_during_the_load(
    it: Chatting, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the room gives the text to members until the record of the deletion is read."""
    monkeypatch.setattr(log_reader, "MOST_NEWS", most)
    await it.publish("lobby", "one", "secret")
    it.log.delay = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.load, "lobby")
        await trio.sleep(3.5)  # the log has been looked at, and has not answered yet
        await append(it.log, change(Kind.EDIT, 2, "a better secret"))
        await it.publish("lobby", "another secret")
        for target in (2, 4):
            await append(it.log, change(Kind.DELETE, target))
    ring = it.hub.rooms["lobby"].ring
    assert ring is not None
    assert ring.last == min(6, 2 + most)
    assert not any(b"secret" in item for item in ring.after(0, 6))


async def test_a_text_deleted_while_records_are_encoded_is_encoded_again(it: Chatting) -> None:
    """A client would hear of the deletion before it has the message, and would keep its text."""
    reader, encoded = it.hub.reader, list[int]()
    records = [Record("lobby", offset, 0, "u_1", "Ann", "secret") for offset in (1, 2, 3)]

    def encode(record: Record) -> bytes:
        encoded.append(record.offset)
        if encoded == [1, 2, 3]:
            reader.altered("lobby", [replace(records[0], text="")], by=4)
        return record.text.encode()

    assert await reader.encoded("lobby", records, encode) == [b"", b"secret", b"secret"]
    assert encoded == [1, 2, 3, 1]


async def test_only_equal_reads_are_shared(it: Chatting) -> None:
    await it.publish("lobby", "one", "two", "three")
    await append(it.log, change(Kind.REACTION, 1))
    it.log.delay, it.log.reads = 1.0, 0
    found: dict[tuple[int | None, bool], int] = {}

    async def read(before: int | None, messages_only: bool) -> None:
        [record] = await it.hub.reader.read(Range("lobby", 1, before=before, messages_only=messages_only, last=True))
        found[before, messages_only] = record.offset

    async def read_after() -> None:
        [record] = await it.hub.reader.read(Range("lobby", after=3, limit=1))
        assert record.offset == 4

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_after)
        for before, messages_only in [(None, False), (None, True), (3, False), (2, False)] * 2:
            nursery.start_soon(read, before, messages_only)
    assert found == {(None, False): 4, (None, True): 3, (3, False): 2, (2, False): 1}
    assert it.log.reads == 5


async def test_no_read_joins_another_that_began_before_news_of_its_room(it: Chatting) -> None:
    """A publisher's own message was missing in what it read after the 201."""
    await it.publish("lobby", "one")
    it.log.delay = 1.0
    async with trio.open_nursery() as nursery:
        earlier = it.reading(nursery)
        await trio.sleep(1.5)  # the log has been looked at, and has not answered yet
        await it.publish("lobby", "two")
        later = it.reading(nursery)
    assert (earlier, later) == (["one"], ["one", "two"])
    assert len(it.hub.reader) == 0


async def test_a_read_that_is_cancelled_leaves_nothing() -> None:
    log = ControlledLog()
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, lambda records: None)
        reader = LogReader(log)
        log.delay = 1.0
        with trio.move_on_after(0.5):
            await reader.read(Range("lobby", 9, last=True))
        assert len(reader) == 0
        assert await reader.read(Range("lobby", 9, last=True)) == []
        nursery.cancel_scope.cancel()
