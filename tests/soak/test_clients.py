"""After an end that breaks no promise a client reconnects. Any other end stops the soak."""

import random

from tests.soak.clients import Client
from tests.soak.ledger import Violation
from tests.support.peers import Address, Answer, ClosedError, EndOfStreamError, RefusedError
from tests.support.transports import JoinRefusedError


async def test_only_an_end_that_breaks_a_promise_stops_the_soak() -> None:
    client = Client("ann", [Address("127.0.0.1", 1)], random.Random(1))
    for error, is_fault in (
        (EndOfStreamError(), False), (ClosedError(1012, "restart"), False), (ClosedError(1011, "a fault"), True),
        (RefusedError(Answer(503, {}, b"")), False), (RefusedError(Answer(500, {}, b"")), True),
        (JoinRefusedError("unavailable"), False), (JoinRefusedError("forbidden"), True),
    ):  # fmt: skip
        told = ""
        try:
            with client._connection():
                raise error
        except Violation as violation:
            told = str(violation)
        assert ("ann" in told) is is_fault, error
