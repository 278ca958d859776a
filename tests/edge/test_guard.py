"""A bug of ours behind a wait, or in answering a poll, costs one connection: not the nursery, not the pump."""

import pytest
import trio

from chatserver.chat.member import Hold
from chatserver.edge.guard import guarded
from chatserver.edge.outlet import ConnectionOutlet
from chatserver.reasons import Reason
from tests.support.parked import parked
from tests.support.peers import connect
from tests.support.serving import neighbour, serving


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
        outlet.answer(Hold(connection, user=1, limit=50, many=False, keep_alive=True), herd=False)
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


async def test_a_fault_in_parking_a_poll_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by tests/fuzz: behind a wait for the log, the poll's session stood in the place of the exchange when
    parking failed, so nobody answered. It kept its place until the deadline of SERVING, and then was a second fault."""

    def broken(hold: Hold, waits: object) -> None:
        raise RuntimeError("a bug")

    async with serving(faults=1) as server, neighbour(server), connect(server.address) as peer:
        monkeypatch.setattr(server.server.parts.hub, "park", broken)
        answer = await peer.request("GET", "/rooms/lobby/messages?after=0&wait=20")
        assert (answer.status, answer.error) == (500, "internal")
        assert await peer.rest() == b""
        assert await server.metric("chatserver_connections", phase="serving") == 0
