"""Who may use a log's thread, without a wait for a turn that is free.

Owns: that one shortcut. May not: start a thread, `trio.to_thread` does.

`trio.CapacityLimiter` lets every other task run before it gives what is there. Beside a crowd that is one more pass of
some two milliseconds for each commit, and for each page that is read.
"""

from typing import cast

import trio


class _Turns:
    """What `trio.to_thread.run_sync` asks of a limiter: "anything providing compatible methods"."""

    def __init__(self, total: int) -> None:
        self._limiter = trio.CapacityLimiter(total)

    @property
    def borrowed_tokens(self) -> int:
        return self._limiter.borrowed_tokens

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        try:
            self._limiter.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(borrower)

    def release_on_behalf_of(self, borrower: object) -> None:
        self._limiter.release_on_behalf_of(borrower)


def turns(total: int) -> trio.CapacityLimiter:
    """A limiter of so many threads. First come, first served."""
    return cast(trio.CapacityLimiter, _Turns(total))
