"""Orders in which the machines once found something, as scripts: what was found stays found."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import pytest

from chatserver.net.connection import Connection
from chatserver.net.states import State
from tests.fuzz import grammar
from tests.fuzz.machine import ConnectionMachine
from tests.fuzz.puppet import Puppet
from tests.support.peers import upgrade

SOURCE = "127.0.2.1"
JOIN, SAY = grammar.FRAMES["join den from the beginning"], grammar.FRAMES["say hello"]
#: Bytes of a frame that are none yet, and seconds of its two that pass until the rest comes.
BEGUN, LATE = 9, 1.5
#: Real seconds in which nothing more comes over loopback.
DELIVERY = 0.05
#: Times that a tiny window is emptied, at most, until all is heard: 40 KB of it.
SIPS = 200


@contextmanager
def machine() -> Iterator[ConnectionMachine]:
    """One whose rules are called by hand; the invariants are looked at behind each."""
    machine = ConnectionMachine()
    try:
        yield machine
    finally:
        machine.teardown()


def send(machine: ConnectionMachine, puppet: Puppet, wire: bytes) -> None:
    """Say it, and look no sooner than it has arrived."""
    puppet.say(wire)
    machine.go_on(puppet, None)
    machine.world.do(partial(machine.world.settle, DELIVERY))


def connection_of(machine: ConnectionMachine) -> Connection:
    (found,) = (each for each in machine.world.parts.connections.table if each and each.address == SOURCE)
    return found


def state_of(machine: ConnectionMachine) -> State:
    return connection_of(machine).state


def blocked(machine: ConnectionMachine) -> bool:
    return connection_of(machine).blocked


@pytest.mark.parametrize("behind", [b"", SAY[:BEGUN]])
def test_the_next_message_has_its_own_deadline_although_the_answer_to_the_last_one_had_to_wait(behind: bytes) -> None:
    """Of one that came slowly, and whose answer did not fit, MESSAGE went on; the next one had what was left of it."""
    with machine() as found:
        found.join("127.0.1.1", False, "join den from the beginning")  # the room is in memory: it is answered at once
        found.publish("den", 5, 8000)
        found.knock(SOURCE, True, True)
        puppet = found.world.puppets[-1]
        send(found, puppet, upgrade() + JOIN[:BEGUN])
        found.wait(LATE)
        assert state_of(found) is State.MESSAGE
        send(found, puppet, JOIN[BEGUN:] + behind)
        assert blocked(found)
        assert state_of(found) is State.OPEN
        for _ in range(SIPS):
            if blocked(found):
                found.hear(puppet, 1 << 20, True)
        assert not blocked(found)
        send(found, puppet, SAY[len(behind) : BEGUN])
        assert state_of(found) is State.MESSAGE
        found.wait(LATE)
        send(found, puppet, SAY[BEGUN:])
        assert state_of(found) is State.OPEN


def test_a_message_that_is_whole_is_charged_no_more_although_its_room_is_congested() -> None:
    """Of a long one that came in two parts, the first part was charged until its publisher was read again."""
    with machine() as found:
        found.join("127.0.1.1", False, "join den from the beginning")
        found.wait(0.1)
        found.knock(SOURCE, False, True)
        puppet = found.world.puppets[-1]
        send(found, puppet, upgrade())
        wire = grammar.FRAMES["say something long"]
        send(found, puppet, wire[:4000])
        assert found.world.parts.input_budget.used > 0
        found.upset_the_log(1.5, 0, 0)
        found.publish("den", 20, 1)
        send(found, puppet, wire[4000:])
        assert state_of(found) is State.REPLYING
        assert found.world.parts.input_budget.used == 0


def test_half_a_message_behind_which_a_ping_was_answered_has_a_deadline() -> None:
    """The answer did not fit, and when it had been taken the half message was in OPEN, where nobody asks for more."""
    with machine() as found:
        found.knock(SOURCE, True, True)
        puppet = found.world.puppets[-1]
        send(found, puppet, upgrade())
        connection = connection_of(found)
        ping, half = grammar.FRAMES["ping"], grammar.FRAMES["half a message"]
        connections = found.world.parts.connections
        offer = connections.offer

        def full(peer: Connection, data: bytes) -> int:
            return 0 if peer is connection else offer(peer, data)

        with mock.patch.object(connections, "offer", full):
            send(found, puppet, half + ping)  # its pong waits until the socket is writable: it is at once
        assert not blocked(found)
        assert state_of(found) is State.MESSAGE


def test_what_the_log_stores_when_the_server_has_stopped_is_handed_out_all_the_same() -> None:
    """Its news were put into the queue of a poller that had ended, to wake which raised out of the log."""
    with machine() as found:
        found.congest("lobby", "publish, thrice", False)
        found.drain()
        found.wait(5.0)
        assert found.world.exit_code == 0
        statistics = found.world.log.statistics()
        assert (statistics.pending, statistics.records) == (0, 12)
