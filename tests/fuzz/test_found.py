"""Sequences in which the machines have found faults, as scripts."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import pytest

from chatserver.net.connection import Connection
from chatserver.net.connections import FREE_INPUT
from chatserver.net.states import State
from tests.fuzz import grammar
from tests.fuzz.machine import ConnectionMachine, SecureMachine
from tests.fuzz.puppet import Puppet
from tests.fuzz.world import PROXY
from tests.support.peers import upgrade

SOURCE = "127.0.2.1"
JOIN, SAY = grammar.FRAMES["join den from the beginning"], grammar.FRAMES["say hello"]
#: The beginning of a frame, and the seconds (of the two that it has) that pass until the rest comes.
BEGUN, LATE = 9, 1.5
#: Bytes behind a request: more than any peer may send before its request is answered.
MUCH = bytes(FREE_INPUT + 1)
#: Real seconds without bytes after which loopback counts as quiet.
DELIVERY = 0.05
#: The most reads of a tiny window until all 40 KB have arrived.
SIPS = 200


@contextmanager
def machine(kind: type[ConnectionMachine] = ConnectionMachine) -> Iterator[ConnectionMachine]:
    """A machine whose rules are called by the test; the invariants are checked after each."""
    machine = kind()
    try:
        yield machine
    finally:
        machine.teardown()


def send(machine: ConnectionMachine, puppet: Puppet, wire: bytes) -> None:
    """Send, and wait until it has arrived."""
    puppet.say(wire)
    machine.go_on(puppet, None)
    settle(machine)


def settle(machine: ConnectionMachine) -> None:
    """Wait until nothing more arrives over loopback."""
    machine.world.do(partial(machine.world.settle, DELIVERY))


def connection_of(machine: ConnectionMachine) -> Connection:
    (found,) = (each for each in machine.world.parts.connections.table if each and each.address == SOURCE)
    return found


def is_blocked(connection: Connection) -> bool:
    return connection.blocked  # a call, so that mypy does not assume its value


def state_of(machine: ConnectionMachine) -> State:
    return connection_of(machine).state


@pytest.mark.parametrize("behind", [b"", SAY[:BEGUN]])
def test_the_next_message_has_its_own_deadline_after_a_blocked_answer(behind: bytes) -> None:
    """After a slow message whose answer does not fit, the next one must not inherit the rest of its deadline."""
    with machine() as found:
        # The room is in memory, so it answers at once.
        found.join("127.0.1.1", False, False, "join den from the beginning")
        found.publish("den", 5, 8000)
        found.knock(SOURCE, True, True)
        puppet = found.world.puppets[-1]
        send(found, puppet, upgrade() + JOIN[:BEGUN])
        found.wait(LATE)
        connection = connection_of(found)
        assert state_of(found) is State.MESSAGE
        send(found, puppet, JOIN[BEGUN:] + behind)
        assert is_blocked(connection)
        assert state_of(found) is State.OPEN
        for _ in range(SIPS):
            if is_blocked(connection):
                found.hear(puppet, 1 << 20, True)
        assert not is_blocked(connection)
        send(found, puppet, SAY[len(behind) : BEGUN])
        assert state_of(found) is State.MESSAGE
        found.wait(LATE)
        send(found, puppet, SAY[BEGUN:])
        for _ in range(SIPS):
            if state_of(found) is State.MESSAGE:
                settle(found)  # on a busy machine the bytes may need longer
        assert state_of(found) is State.OPEN


def test_a_waiting_publisher_is_not_resumed_by_an_earlier_resumption() -> None:
    """Of two queued resumptions the first finds a message that must wait; the second must not resume it.

    Otherwise the room keeps the publisher as waiting, even after its close.
    """
    with machine() as found:
        found.begin(["lobby"])
        found.join(SOURCE, False, True, "join lobby")
        puppet = found.world.puppets[-1]
        found.upset_the_log(LATE, 0, 0)
        found.publish("lobby", 20, 1)
        send(found, puppet, grammar.publish("lobby", frames=True))
        connection, connections = connection_of(found), found.world.parts.connections
        assert state_of(found) is State.REPLYING

        async def resume() -> None:
            connections.resume(connection, later=True)

        found.world.do(resume)
        settle(found)
        found.hear_together(False)  # the invariants
        assert state_of(found) is State.REPLYING
        found.wait(2 * LATE)
        assert state_of(found) is State.OPEN


def test_bytes_after_a_request_for_events_are_not_charged_for_ever() -> None:
    """The bytes are dropped, so they must not be charged until the stream ends."""
    with machine(SecureMachine) as found:
        found.begin(["ops"])
        found.ask_as_newcomer(SOURCE, False, True, "health", None)
        send(found, found.world.puppets[-1], grammar.REQUESTS["an allowed page's events"] + MUCH)
        assert state_of(found) is State.STREAM
        assert found.world.parts.input_budget.used == 0


def test_bytes_after_a_held_poll_are_charged_while_it_waits_for_the_log() -> None:
    with machine(SecureMachine) as found:
        found.ask_as_newcomer(SOURCE, False, True, "poll", None)
        assert state_of(found) is State.HELD
        found.upset_the_log(LATE, 0, 0)
        with mock.patch.object(found.world.parts.services.pages, "after_now", return_value=None):
            send(found, found.world.puppets[-1], MUCH)
        assert state_of(found) is State.SERVING
        assert found.world.parts.input_budget.used == len(MUCH) - FREE_INPUT
        found.hear_together(True)  # the invariants


@pytest.mark.parametrize("header", ["for itself", "for itself, in version 2"])
def test_a_body_counts_for_its_balancer_after_a_header_that_names_no_client(header: str) -> None:
    """Whatever its `X-Forwarded-For` says: such a balancer passes on what its client has written."""
    with machine() as found:
        found.knock_from_balancer(header, None, "half a body for a client")
        (there,) = (each for each in found.world.parts.connections.table if each and each.address == PROXY)
        assert there.state is State.BODY
