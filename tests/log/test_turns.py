"""A thread that is free is had at once; one that is not, in turn."""

import threading

import trio
import trio.testing

from chatserver.log.turns import turns


async def test_what_is_free_is_had_before_anybody_else_runs() -> None:
    others = 0

    async def count_passes() -> None:
        nonlocal others
        while True:
            others += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_passes)
        await trio.lowlevel.checkpoint()
        limiter, before = turns(1), others
        await limiter.acquire_on_behalf_of("a commit")
        assert others == before
        assert limiter.borrowed_tokens == 1
        nursery.cancel_scope.cancel()


async def test_first_come_first_served() -> None:
    limiter = turns(1)
    order: list[str] = []
    let_go = threading.Event()

    async def use(name: str) -> None:
        await trio.to_thread.run_sync(let_go.wait, limiter=limiter)
        order.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("first", "second", "third"):
            nursery.start_soon(use, name)
            await trio.testing.wait_all_tasks_blocked()
        assert limiter.borrowed_tokens == 1
        let_go.set()
    assert order == ["first", "second", "third"]
    assert limiter.borrowed_tokens == 0
