"""A bug of ours behind a wait, or in answering a poll, costs one connection: not the nursery, not the pump."""

import trio

from chatserver.chat.member import Hold
from chatserver.edge.guard import guarded
from chatserver.edge.outlet import ConnectionOutlet
from chatserver.reasons import Reason
from tests.support.parked import parked


async def test_a_fault_behind_a_wait_costs_its_own_connection() -> None:
    """What followed the wait of a WebSocket's task was outside its `try`: a fault there ended the server."""

    async def broken() -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a bug")

    with parked() as it:
        connection, _ = it.connect()
        neighbour, _ = it.connect()
        await guarded(it.connections, connection, broken())
        assert not connection.alive
        assert neighbour.alive
        assert it.connections.faults == 1


async def test_what_goes_well_is_left_alone() -> None:
    async def sound() -> None:
        await trio.lowlevel.checkpoint()

    with parked() as it:
        connection, _ = it.connect()
        await guarded(it.connections, connection, sound())
        assert connection.alive
        assert it.connections.faults == 0


def test_a_fault_in_answering_a_poll_does_not_reach_the_pump() -> None:
    def broken(hold: Hold) -> None:
        raise RuntimeError("a bug")

    with parked() as it:
        connection, _ = it.connect()
        neighbour, _ = it.connect()
        outlet = ConnectionOutlet(it.connections)
        outlet.answer_with = broken
        outlet.answer(Hold(connection, user=1, limit=50, many=False, keep_alive=True))
        assert not connection.alive
        assert neighbour.alive
        assert it.connections.faults == 1


def test_its_reason_is_told() -> None:
    with parked() as it:
        connection, _ = it.connect()
        try:
            raise RuntimeError("a bug")
        except RuntimeError:
            it.connections.fault(connection)
        assert it.attendant.details("closed") == [Reason.INTERNAL_ERROR]
