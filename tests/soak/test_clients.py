"""After an end that breaks no promise a client reconnects. Any other end stops the soak."""

import random

import pytest
import trio

from tests.soak.clients import Client
from tests.soak.ledger import Violation
from tests.support.peers import Address, Answer, ClosedError, EndOfStreamError, RefusedError
from tests.support.serving import serving
from tests.support.transports import JoinRefusedError, subscribe


def end(error: Exception) -> None:
    with Client("ann", [Address("127.0.0.1", 1)], random.Random(1))._connection():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        EndOfStreamError(),
        trio.TooSlowError(),
        ClosedError(1012, "restart"),
        ClosedError(4000, "no pong"),
        ClosedError(4001, "too slow"),
        RefusedError(Answer(503, {}, b"")),
        RefusedError(Answer(408, {}, b"")),
        JoinRefusedError("unavailable"),
    ],
    ids=repr,
)
async def test_a_client_reconnects(error: Exception) -> None:
    end(error)


@pytest.mark.parametrize(
    "error",
    [ClosedError(1011, "a fault"), ClosedError(4504, "banned"), RefusedError(Answer(500, {}, b"")),
     JoinRefusedError("forbidden")],
    ids=repr,
)  # fmt: skip
async def test_an_end_that_breaks_a_promise_stops_the_soak(error: Exception) -> None:
    with pytest.raises(Violation, match="ann"):
        end(error)


async def test_a_join_that_is_refused_is_told() -> None:
    """A listener that reconnects while the database is down gets an error instead of `joined`."""
    async with serving() as server:
        with pytest.raises(JoinRefusedError, match="bad_cursor"):
            async with subscribe("websocket", server.address, "lobby", "none"):
                pass
