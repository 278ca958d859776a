"""The hub and its broadcasts under random acts: each message once, in order, or an explicit gap.

Random joins, leaves, publishes, changes, deaths, slow peers, partial takes, polls, retention, a slow and failing log,
another process that writes to it. Whenever the hub is idle, each peer that is not behind has everything (no wake-up
is lost); at the end all peers have everything.

The same holds in each of several processes on one log, whatever happens to the messages between them.
"""

import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from unittest import mock

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat import broadcast as broadcast_module
from chatserver.chat import catch_up as catch_up_module
from chatserver.chat import registry
from chatserver.chat.cluster_presence import ClusterPresence
from chatserver.chat.presence import MAX_LISTED
from tests.chat.playing import HEALED_AFTER, LONG_AFTER, ROOMS, Act, Play, an_act
from tests.chat.processes import Air, Process, lose
from tests.support.chatting import Chatting, chatting
from tests.support.examples import new_examples

ACT = an_act(
    "publish publish publish publish join join join leave take take take slow die poll poll wait wait until_idle "
    "retain slow_log fail_reads fail_commits doomed publisher publisher types types reads elsewhere elsewhere "
    "elsewhere change change slow_commits"
)
ACTS = st.lists(ACT, min_size=20, max_size=60)  # without min_size most lists have five acts


@pytest.fixture(autouse=True, scope="module")
def _small_limits() -> Iterator[None]:
    """Limits that a few messages exceed."""
    with (
        mock.patch.object(catch_up_module, "READ_PAGE", 5),
        mock.patch.object(broadcast_module, "MAX_BEHIND", 20),
        mock.patch.object(broadcast_module, "STEP_MEMBERS", 2),
        mock.patch.object(broadcast_module, "STEP_POLLS", 2),
        mock.patch.object(registry, "LATEST", 6),
    ):
        yield


async def play(acts: list[Act], shared: bool) -> None:
    async with chatting(ring_messages=10, ring_bytes=600, shared=shared) as it, trio.open_nursery() as nursery:
        players = Play(it, nursery)
        for act in acts:
            await players.act(act)
        await players.end()


@new_examples(20)
@given(ACTS, st.booleans())
def test_every_peer_gets_everything_once_and_in_order(acts: list[Act], shared: bool) -> None:
    trio.run(play, acts, shared, clock=trio.testing.MockClock(autojump_threshold=0))


# -- several processes ------------------------------------------------------------------------------------------------

PROCESSES = 3
#: Many writes and changes, and members in all rooms, so that the processes affect each other.
WRITTEN = an_act(
    "join join join join publish publish publish change change change publisher wait wait poll leave die slow take "
    "slow_log fail_reads fail_commits slow_commits retain until_idle"
)
CLUSTER_ACTS = st.lists(st.tuples(st.integers(0, PROCESSES - 1), WRITTEN), min_size=30, max_size=60)


class Cluster:
    """Processes on one log. Messages between them may be lost, late, doubled or wrong."""

    def __init__(self, processes: list[Process], air: Air, dice: random.Random, nursery: trio.Nursery) -> None:
        self.players = [Play(process.it, nursery) for process in processes]
        self._processes = processes
        self._air = air
        self._dice = dice
        self._nursery = nursery
        air.spoil = lose(0.3, dice)
        for process in processes:
            process.it.spread = partial(self._spread, process)

    def _spread(self, source: Process, hints: dict[str, int]) -> None:
        for process in self._processes:
            if process is not source:
                self._hint(process.it, hints)

    def _hint(self, it: Chatting, hints: dict[str, int]) -> None:
        match self._dice.randrange(8):
            case 0 | 1:
                it.hub.follower.on_hints(hints)
            case 2:
                it.hub.follower.on_hints(hints)
                it.hub.follower.on_hints(hints)
            case 3:
                self._nursery.start_soon(self._hint_late, it, hints)
            case 4:
                it.hub.follower.on_hints({name: offset + self._dice.randint(-20, 20) for name, offset in hints.items()})
            case _:
                pass  # lost

    async def _hint_late(self, it: Chatting, hints: dict[str, int]) -> None:
        await trio.sleep(self._dice.uniform(0.0, 3.0))
        it.hub.follower.on_hints(hints)

    async def end(self) -> None:
        """All faults end but those of hints of records, which are not needed."""
        self._air.spoil = lambda message: [message]
        for player in self.players:
            player.heal()
        await trio.sleep(HEALED_AFTER)
        for player in self.players:
            await player.it.until_idle()
            player.check_end()
        for name in ROOMS:
            here = {
                person.number
                for player in self.players
                if (room := player.it.hub.registry.room(name)) is not None
                and isinstance(room.presence, ClusterPresence)
                for person in room.presence.people_here(MAX_LISTED)
            }
            for process in self._processes:
                assert process.people(name) == here, f"the people of {name} are not known everywhere"
        for player in self.players:
            player.leave_all()
        await trio.sleep(LONG_AFTER)
        for player in self.players:
            player.check_empty()


async def play_cluster(acts: list[tuple[int, Act]], seed: int) -> None:
    dice, air = random.Random(seed), Air()
    async with AsyncExitStack() as stack:
        processes: list[Process] = []
        for _ in range(PROCESSES):
            beside = processes[0].it if processes else None
            one = air.process(ring_messages=10, ring_bytes=600, shared=True, beside=beside)
            processes.append(await stack.enter_async_context(one))
        nursery = await stack.enter_async_context(trio.open_nursery())
        cluster = Cluster(processes, air, dice, nursery)
        for number, act in acts:
            await cluster.players[number].act(act)
        await cluster.end()


@new_examples(14)
@given(CLUSTER_ACTS, st.integers(0, 1 << 16))
def test_every_peer_gets_everything_in_each_of_several_processes(acts: list[tuple[int, Act]], seed: int) -> None:
    trio.run(play_cluster, acts, seed, clock=trio.testing.MockClock(autojump_threshold=0))
