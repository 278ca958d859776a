"""Invariant: in any order of reads, writes, deadlines, ends, news and faults, every connection is in one phase
and has a deadline, and no descriptor, wheel entry, membership, held poll or count is left behind.

All invariants: tests/fuzz/invariants.py. HYPOTHESIS_EXAMPLES=2000 searches for untried orders.
"""

import pytest

from tests.fuzz.machine import ConnectionMachine, SecureMachine
from tests.fuzz.plants import PLANTS, PLANTS_IN_ROOMS
from tests.fuzz.playing import play
from tests.support.examples import EXPLORED
from tests.support.serving import serving

#: In so many, most states are entered and most reasons for a close are met; `make fuzz` goes on for five minutes.
EXAMPLES = 14


@pytest.mark.parametrize("machine", [ConnectionMachine, SecureMachine])
def test_all_invariants_hold(machine: type[ConnectionMachine]) -> None:
    play(machine, EXPLORED or EXAMPLES, seed=None if EXPLORED else 0)


async def test_each_place_of_a_planted_fault_exists() -> None:
    """The machine chooses each place only now and then."""
    async with serving() as server:
        for where in (*PLANTS.values(), *PLANTS_IN_ROOMS.values()):
            owner, name = where(server.server.parts)
            assert callable(getattr(owner, name))
