"""The hub and the pump against everything at once: each member gets each message once, in order, or an explicit gap.

Random joins, leaves, publishes, deaths, slow peers, partial takes, polls, retention, a slow and failing log. At any
quiet moment, whoever is not behind has everything (no wake-up was lost); at the end, when all take all, everybody has.
"""

from collections.abc import Iterator
from unittest import mock

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat import pump as pump_module
from chatserver.chat import registry
from chatserver.chat.member import State
from chatserver.chat.ring import Form
from chatserver.chat.room import Life
from chatserver.log.interface import Draft, LogError
from tests.support.chatting import ENDLESS, Chatting, Peer, chatting

ROOMS = ("lobby", "ops", "den")
PEERS = 4

Act = tuple[str, int, int]

ACTS = st.lists(
    st.tuples(
        st.sampled_from(
            "publish publish publish publish join join join leave take take take slow die poll poll wait wait settle "
            "retain slow_log fail_reads fail_commits doomed".split()
        ),
        st.integers(0, PEERS - 1),
        st.integers(0, 40),
    ),
    max_size=60,
)


class Play:
    """One run of random acts."""

    def __init__(self, it: Chatting, nursery: trio.Nursery) -> None:
        self.it = it
        self.nursery = nursery
        self.peers = [it.peer() for _ in range(PEERS)]
        self.everybody = list(self.peers)
        self.published = 0
        self.answered: list[object] = []
        self.loading = 0

    async def act(self, act: Act) -> None:
        name, which, amount = act
        await getattr(self, name)(which, amount)

    async def publish(self, which: int, amount: int) -> None:
        for _ in range(amount % 13 + 1):
            self.published += 1
            self.it.hub.publish(
                Draft(ROOMS[which % 3], "u_1", "Ann", f"text-{self.published}" + "." * (amount * 3)),
                self.answered.append,
            )

    async def join(self, which: int, amount: int) -> None:
        self.nursery.start_soon(self._join, self.peers[which], ROOMS[amount % 3], amount)

    async def _join(self, peer: Peer, name: str, back: int) -> None:
        self.loading += 1
        try:
            async with self.it.hub.using(name) as room:
                if not peer.gone and all(member.room_name != name for member in peer.members):
                    form = Form.EVENTS if peer.number % 3 == 0 else Form.FRAMES
                    await self.it.join(peer, name, back=back, form=form)
            self.it.hub.settle(room)
        except LogError:
            pass
        finally:
            self.loading -= 1

    async def leave(self, which: int, amount: int) -> None:
        members = self.peers[which].members
        if members:
            self.it.leave(members[amount % len(members)])

    async def slow(self, which: int, amount: int) -> None:
        self.peers[which].space = amount * 7

    async def take(self, which: int, amount: int) -> None:
        self.it.outlet.take(self.peers[which], amount * 11)

    async def die(self, which: int, amount: int) -> None:
        self.it.outlet.die(self.peers[which])
        self._replace(which)

    async def doomed(self, which: int, amount: int) -> None:
        self.peers[which].dies_at_next_write = True

    def _replace(self, which: int) -> None:
        self.peers[which] = self.it.peer()
        self.everybody.append(self.peers[which])

    async def poll(self, which: int, amount: int) -> None:
        self.nursery.start_soon(self._poll, self.peers[which], ROOMS if amount % 2 else ROOMS[:1])

    async def _poll(self, peer: Peer, names: tuple[str, ...]) -> None:
        self.loading += 1
        try:
            await self.it.hub.load(names)
            if peer.hold is None and not peer.gone and all(self.it.hub.room(name) for name in names):
                self.it.hold_now(peer, names)
        except LogError:
            pass
        finally:
            self.loading -= 1

    async def wait(self, which: int, amount: int) -> None:
        await trio.sleep(amount / 10)

    async def settle(self, which: int, amount: int) -> None:
        await self.it.settle()
        self.check_quiet()

    async def retain(self, which: int, amount: int) -> None:
        firsts = await self.it.log.retain(max_messages=amount + 1, max_age_ms=0, now_ms=0)
        self.it.hub.retained(firsts)

    async def slow_log(self, which: int, amount: int) -> None:
        self.it.log.delay = amount / 50

    async def fail_reads(self, which: int, amount: int) -> None:
        self.it.log.failing_reads = amount % 4

    async def fail_commits(self, which: int, amount: int) -> None:
        self.it.log.failing_commits = amount % 3

    # -- what must be so --------------------------------------------------------------------------------------------

    def check_quiet(self) -> None:
        """Nobody can do anything until time passes: then whoever could be given something has it."""
        for peer in self.peers:
            for member in peer.members:
                if member.state is State.LIVE and not peer.is_blocked:
                    assert member.cursor >= member.room.last, "a wake-up was lost"
            if peer.hold is not None:
                forgotten = [room.name for room in self.it.hub.rooms.values() if peer.hold.lacks_news_of(room)]
                assert forgotten == [], "a poll was forgotten"
        self.check_streams()
        self.check_unopened()

    def check_unopened(self) -> None:
        hub = self.it.hub
        alone = {member.room_name for peer in self.peers for member in peer.members if member.state is State.ALONE}
        assert not alone & hub.rooms.keys(), "a room is open and unopened"
        assert not alone & {name for name, _ in self.it.told}, "a room in which something was said is unopened"
        assert hub.registry.count == len(hub.rooms) + len(alone)
        silent = sum(room.last == 0 for room in hub.rooms.values() if room.life is Life.READY)
        assert hub.registry.unwritten == silent + len(alone)

    def check_streams(self) -> None:
        for peer in self.everybody:
            for name in ROOMS:
                peer.reached(name)
            for words in peer.lines():
                if words[0] == "M":
                    assert self.it.told[words[1], int(words[2])] == words[3], "another message under this offset"

    async def end(self) -> None:
        """Everything heals: everybody gets everything."""
        log = self.it.log
        log.delay = 0.0
        log.failing_reads = log.failing_commits = 0
        for index, peer in enumerate(self.peers):
            if peer.dies_at_next_write or peer.gone:
                self.it.outlet.die(peer)
                self._replace(index)
        for peer in self.peers:
            self.it.outlet.take(peer, ENDLESS)
        await trio.sleep(100.0)
        await self.it.settle()
        self.check_quiet()
        assert self.loading == 0, "a room never finished loading"
        assert len(self.answered) == self.published, "a publisher was never answered"
        statistics = self.it.hub.pump.statistics()
        assert (statistics["rooms"], statistics["behind"]) == (0, 0)
        for peer in self.peers:
            assert not peer.is_blocked
            for member in peer.members:
                assert member.state in {State.LIVE, State.ALONE}
                assert member.cursor == member.room.last == peer.reached(member.room_name)
        for room in self.it.hub.rooms.values():
            assert room.last == max((offset for name, offset in self.it.told if name == room.name), default=0)
            assert not room.congested
            assert (room.pending, room.pending_bytes, room.pins) == (0, 0, 0)
            assert room.walk is None
            assert room.waking is None
            expected = {member for peer in self.peers for member in peer.members if member.room is room}
            assert set(room.members) == expected
        for peer in list(self.peers):
            self.it.outlet.die(peer)
        await trio.sleep(registry.EMPTY_STAYS + 100.0)
        assert self.it.hub.registry.count == 0, "an empty room stayed in memory"
        assert self.it.hub.registry.unwritten == 0
        assert self.it.hub.registry._empty == {}
        assert not self.it.hub._leasing
        assert not self.it.hub._changed
        assert not self.it.hub._arrived


@pytest.fixture(autouse=True, scope="module")
def _small_limits() -> Iterator[None]:
    """So that a handful of messages is thousands."""
    with (
        mock.patch.object(pump_module, "READ_PAGE", 5),
        mock.patch.object(pump_module, "MAX_BEHIND", 20),
        mock.patch.object(pump_module, "SLICE", 2),
        mock.patch.object(registry, "LATEST", 6),
    ):
        yield


async def play(acts: list[Act]) -> None:
    async with chatting(ring_messages=10, ring_bytes=600) as it, trio.open_nursery() as nursery:
        players = Play(it, nursery)
        for act in acts:
            await players.act(act)
        await players.end()


@given(ACTS)
def test_everybody_gets_everything_once_and_in_order(acts: list[Act]) -> None:
    trio.run(play, acts, clock=trio.testing.MockClock(autojump_threshold=0))
