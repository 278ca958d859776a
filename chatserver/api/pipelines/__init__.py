"""Requests that query several systems at once and finish as one: each step is a plain async function, in one nursery.

Owns: the order of the steps, and what is cancelled when one of them fails. May not: know a wire form or a socket.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from chatserver.exits import innermost
from chatserver.log.interface import LogError
from chatserver.protocol.errors import ProtocolError

#: The exceptions that a step may raise, to refuse the request or because it failed; any other is a fault of ours.
EXPECTED = (ProtocolError, LogError)


@asynccontextmanager
async def side_by_side() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises one plain error instead of a group: the first refusal, otherwise the first failure.

    The other steps are cancelled. A fault of ours, or a cancellation from outside, is raised as a group.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        expected = group.subgroup(EXPECTED)
        if expected is None or group.split((*EXPECTED, trio.Cancelled))[1] is not None:
            raise
        raise innermost(expected.subgroup(ProtocolError) or expected) from None
