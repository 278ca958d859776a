"""A change that is stored after its deadline: the process that made it gets the hint as well."""

import threading
from collections.abc import Callable, Mapping

import pytest
import trio

from chatserver.log.interface import LogUnavailable, Program
from tests.log.support import Disk, ignore
from tests.support.peers import PATIENCE


@pytest.mark.parametrize("why", ["its deadline", "its caller is cancelled"])
async def test_its_process_gets_the_hint(reopen: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    log, may_end, begun = reopen(), threading.Event(), threading.Event()
    hints, heard = list[str](), trio.Event()

    def hear(given: Mapping[str, int]) -> None:
        hints.extend(given)
        heard.set()

    def hang(connection: object) -> None:
        begun.set()
        assert may_end.wait(10)

    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, ignore, Program(on_hints=hear))
        await log.change("adding", lambda connection: None, hint="*x")
        assert hints == [], "the caller knows the outcome"
        if why == "its deadline":
            monkeypatch.setattr("chatserver.log.database.ANSWER_DEADLINE", 0.1)
            with pytest.raises(LogUnavailable, match=r"hanging took longer than 0\.1 s"):
                await log.change("hanging", hang, hint="*x")
        else:
            async with trio.open_nursery() as calling:
                calling.start_soon(lambda: log.change("hanging", hang, hint="*x"))
                await trio.to_thread.run_sync(begun.wait)
                calling.cancel_scope.cancel()
        may_end.set()
        with trio.fail_after(PATIENCE):
            await heard.wait()
        assert hints == ["*x"]
        nursery.cancel_scope.cancel()
