"""Reads that are under way when something is altered, and that several share."""

import trio
import trio.testing

from chatserver.chat.log_reader import LogReader
from chatserver.log.interface import Draft, Kind, Record
from tests.support.chatting import ControlledLog, chatting
from tests.support.groups import append

Clock = trio.testing.MockClock


def delete(target: int) -> Draft:
    return Draft("lobby", "u_1", "Ann", "", kind=Kind.DELETE, target=target, window_ms=1 << 40)


async def test_a_deletion_during_a_read_is_in_its_answer(autojump_clock: Clock) -> None:
    """All who share the read get it, and none later; a read of another room does not change."""
    async with chatting() as it:
        await it.publish("lobby", "one", "secret", "three")
        await it.publish("ops", "one", "two")
        it.log.delay = 1.0
        answers: list[list[Record]] = []

        async def read(room: str) -> None:
            answers.append(await it.hub.reader.read(room, after=0, limit=9))

        async with trio.open_nursery() as nursery:
            for room in ("lobby", "lobby", "ops"):
                nursery.start_soon(read, room)
            await trio.sleep(1.5)  # the log has been looked at, and has not answered yet
            await append(it.log, delete(2))
        found = sorted([record.text for record in answer] for answer in answers)
        assert found == [["one", "", "three"]] * 2 + [["one", "two"]]
        assert it.log.reads == 2
        assert len(it.hub.reader) == 0


async def test_a_member_behind_its_ring_does_not_get_what_was_deleted_while_the_log_was_read(
    autojump_clock: Clock,
) -> None:
    async with chatting(ring_messages=16) as it:
        await it.publish("lobby", *(f"secret-{number}" for number in range(1, 41)))
        ann = it.peer()
        it.log.delay = 1.0
        await it.join(ann, "lobby", back=30)
        await trio.sleep(1.5)
        await append(it.log, delete(12))
        await trio.sleep(10.0)
        assert ann.reached("lobby") == 41
        assert b"secret-11" in ann.wire
        assert b"secret-12" not in ann.wire


async def test_a_read_that_is_cancelled_leaves_nothing(autojump_clock: Clock) -> None:
    log = ControlledLog()
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, lambda records: None)
        reader = LogReader(log)
        log.delay = 1.0
        with trio.move_on_after(0.5):
            await reader.latest("lobby", 9)
        assert len(reader) == 0
        assert await reader.latest("lobby", 9) == []
        nursery.cancel_scope.cancel()
