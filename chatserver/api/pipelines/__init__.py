"""Requests that ask several systems at once and finish as one: each step a plain async function, in one nursery.

Owns: the order of the steps, and what is cancelled when one of them fails. May not: know a wire form or a socket.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from chatserver.log.interface import LogError
from chatserver.protocol.errors import ProtocolError


class RefusedError(Exception):
    """A step says no: the request ends here."""


#: What a step may raise; anything else is a fault of ours.
EXPECTED = (RefusedError, LogError, ProtocolError)


@asynccontextmanager
async def side_by_side() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises one error as it is, and no group: the first refusal, or else the first failure.

    The other steps are cancelled by then. A fault of ours, or a cancellation from outside, is raised as the group.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        errors = _leaves(group)
        expected = [error for error in errors if isinstance(error, EXPECTED)]
        if not expected or not all(isinstance(error, (*EXPECTED, trio.Cancelled)) for error in errors):
            raise
        raise next((error for error in expected if isinstance(error, RefusedError)), expected[0]) from None


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]
