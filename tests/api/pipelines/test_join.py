"""The pipeline of a join: its reads run concurrently, and a failure leaves nothing behind."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from chatserver.api.encoder import WireEncoder
from chatserver.api.pages import Page, Pages
from chatserver.api.pipelines.join import JoinPipeline
from chatserver.chat.room import Room
from chatserver.log.interface import Draft, Kind, LogUnavailable
from chatserver.protocol.validation import Cursor
from tests.api.pipelines.stage import CancelAfter, cancelled_at_every_await
from tests.support.chatting import Chatting, chatting
from tests.support.groups import append
from tests.support.scripted import HERE

Clock = trio.testing.MockClock
#: Messages in the room: more than a load brings into memory.
WRITTEN = 120


@asynccontextmanager
async def joining() -> AsyncIterator[tuple[Chatting, JoinPipeline]]:
    async with chatting() as it:
        await it.publish("lobby", *(f"message {n}" for n in range(WRITTEN)))
        yield it, JoinPipeline(it.hub, Pages(it.hub.reader, WireEncoder(it.log.identity.epoch)))


async def join(pipeline: JoinPipeline, after: int | None, epoch: str | None = None) -> Page:
    def enter(room: Room, page: Page) -> Page:
        assert room.ready
        return page

    return await pipeline.join("lobby", HERE, None if after is None else Cursor(epoch, after), enter)


@pytest.mark.parametrize(
    ("after", "reads", "reaches", "count"),
    [
        (None, 2, WRITTEN, 50),  # only the room's head and its newest messages are read
        (WRITTEN - 10, 3, WRITTEN, 10),  # the page is not needed, and nothing waits for it
        (5, 3, 55, 50),  # far behind: the page is read during the load
        (0, 3, 50, 50),
    ],
)
async def test_the_room_and_the_missed_page_are_read_concurrently(
    autojump_clock: Clock, after: int | None, reads: int, reaches: int, count: int
) -> None:
    """A read takes 2 s here: 1 until it reads and 1 until it answers. The room needs two reads."""
    async with joining() as (it, pipeline):
        it.log.delay, it.log.reads = 1.0, 0
        began = trio.current_time()
        page = await join(pipeline, after)
        assert (page.reaches, page.recovered, len(page.items)) == (reaches, True, count)
        assert (it.log.reads, trio.current_time() - began) == (reads, 4.0)
        await it.until_idle()
        assert it.log.waiting == 0


@pytest.mark.parametrize("after", [None, 5, WRITTEN])
async def test_no_other_task_runs_between_the_entry_and_the_answer(autojump_clock: Clock, after: int | None) -> None:
    """Otherwise news may be sent before `joined`, and a client whose room begins anew misplaces it."""
    async with joining() as (_it, pipeline), trio.open_nursery() as nursery:
        passed = trio.Event()

        async def next_pass() -> None:
            passed.set()

        def enter(room: Room, page: Page) -> None:
            nursery.start_soon(next_pass)

        await pipeline.join("lobby", HERE, None if after is None else Cursor(None, after), enter)
        assert not passed.is_set()


@pytest.mark.parametrize("when", [2.5, 3.5])
async def test_a_text_deleted_during_a_join_is_not_in_its_answer(autojump_clock: Clock, when: float) -> None:
    """The page is read during the load of the room and then waits for it, while its text is deleted."""
    async with joining() as (it, pipeline):
        it.log.delay = 1.0
        pages: list[Page] = []

        async def far_behind() -> None:
            pages.append(await join(pipeline, 5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(far_behind)
            await trio.sleep(when)  # the page is read at 1.0; the room has its newest messages at 4.0
            for kind, target in ((Kind.EDIT, 11), (Kind.DELETE, 10), (Kind.DELETE, WRITTEN)):
                await append(it.log, Draft("lobby", "u_1", "Ann", "new", kind=kind, target=target, window_ms=1 << 40))
        texts = [msgspec.json.decode(item)["text"] for item in pages[0].items]
        assert texts == ["message 5", *(f"message {n}" for n in range(6, 9)), "", "new", *texts[6:]]
        assert texts[6] == "message 11"
        ring = it.hub.rooms["lobby"].ring
        assert ring is not None
        assert not [item for item in ring.after(WRITTEN - 1, 1) if b"message" in item], "the room too"


async def test_a_cursor_that_is_gone_is_not_recovered(autojump_clock: Clock) -> None:
    async with joining() as (it, pipeline):
        await it.log.retain(lambda _: (100, 0))
        page = await join(pipeline, 5)
        assert (page.reaches, page.recovered) == (70, False)
    async with joining() as (it, pipeline):
        page = await join(pipeline, 5, epoch="other")
        assert (page.reaches, page.recovered) == (WRITTEN, False)


async def test_a_room_in_memory_is_read_once_at_most(autojump_clock: Clock) -> None:
    async with joining() as (it, pipeline):
        await it.load("lobby")
        it.log.reads = 0
        assert (await join(pipeline, WRITTEN - 3)).reaches == WRITTEN
        assert it.log.reads == 0
        assert (await join(pipeline, 3)).reaches == 53
        assert it.log.reads == 1


async def test_a_read_that_fails_fails_the_join_and_leaves_no_room_behind(autojump_clock: Clock) -> None:
    async with joining() as (it, pipeline):
        for failing in (1, 2, 3):
            it.log.failing_reads = failing
            with pytest.raises(LogUnavailable):
                await join(pipeline, 5)
            it.log.failing_reads = 0
            assert it.log.waiting == 0
            assert it.hub.rooms == {}
        assert (await join(pipeline, 5)).reaches == 55


def test_cancelled_at_every_await() -> None:
    assert cancelled_at_every_await(cancel_and_join_again) > 4


async def cancel_and_join_again(cancel: CancelAfter) -> None:
    async with joining() as (it, pipeline):
        it.log.delay = 0.01
        with cancel:
            await join(pipeline, 5)
        assert it.log.waiting == len(it.hub.reader) == 0
        assert all(room.ready and room.empty and not room.pins for room in it.hub.rooms.values())
        assert (await join(pipeline, 5)).reaches == 55
