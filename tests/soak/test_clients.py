"""After an end that breaks no promise a client reconnects. Any other end stops the soak."""

import random
from contextlib import nullcontext

import pytest

from tests.soak.clients import Client
from tests.soak.ledger import Violation
from tests.support.peers import Address, Answer, ClosedError, EndOfStreamError, RefusedError
from tests.support.transports import JoinRefusedError


@pytest.mark.parametrize(
    ("error", "is_fault"),
    [
        (EndOfStreamError(), False), (ClosedError(1012, "restart"), False), (ClosedError(1011, "a fault"), True),
        (RefusedError(Answer(503, {}, b"")), False), (RefusedError(Answer(500, {}, b"")), True),
        (JoinRefusedError("unavailable"), False), (JoinRefusedError("forbidden"), True),
    ],
    ids=repr,
)  # fmt: skip
async def test_only_an_end_that_breaks_a_promise_stops_the_soak(error: Exception, is_fault: bool) -> None:
    client = Client("ann", [Address("127.0.0.1", 1)], random.Random(1))
    with pytest.raises(Violation, match="ann") if is_fault else nullcontext(), client._connection():
        raise error
