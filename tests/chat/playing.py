"""Random acts on one hub, and the rules that hold whenever it is idle and at the end.

Owns: the acts and the rules. May not: choose the acts of a run; test_model.py does.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio
from hypothesis import strategies as st

from chatserver.chat import registry
from chatserver.chat.cluster_presence import ClusterPresence
from chatserver.chat.member import Source
from chatserver.chat.presence import MAX_LISTED
from chatserver.log.interface import Draft, Kind, LogError
from tests.support.chatting import Chatting
from tests.support.scripted import Peer

ROOMS = ("lobby", "ops", "den")
PEERS = 4
NETWORKS = ("192.0.2.1", "198.51.100.1")

ENDLESS_MS = 1 << 40
#: Seconds after which every peer has everything: a failed load of a room is tried again every 30.
HEALED_AFTER = 40.0
#: Seconds after which an empty room has left memory: people stay present for 10 after their last connection.
LONG_AFTER = registry.EMPTY_ROOM_SECONDS + 20.0

Act = tuple[str, int, int]


def an_act(names: str) -> st.SearchStrategy[Act]:
    """One of these acts, with the number of a peer and an amount."""
    return st.tuples(st.sampled_from(names.split()), st.integers(0, PEERS - 1), st.integers(0, 40))


class Play:
    """One run of random acts."""

    def __init__(self, it: Chatting, nursery: trio.Nursery) -> None:
        self.it = it
        self.nursery = nursery
        self.peers = [it.peer(network=NETWORKS[number % 2]) for number in range(PEERS)]
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

    async def elsewhere(self, which: int, amount: int) -> None:
        """Another process writes; its hint is right, wrong, doubled or lost."""
        name = ROOMS[which % 3]
        if self.it.log.shared:
            last = self.it.elsewhere_said(name, *(f"elsewhere-{number}" for number in range(amount % 5 + 1)))
            hints: list[dict[str, int]] = [
                {name: last}, {}, {name: last + amount}, {name: last - amount}, {"no": amount},
            ]  # fmt: skip
            self.it.hub.follower.on_hints(hints[amount % 7 % 5])
            self.it.hub.follower.on_hints(hints[amount % 3])

    async def change(self, which: int, amount: int) -> None:
        """Edit, delete or react; a message that is gone is refused."""
        name = ROOMS[which % 3]
        offsets = list(self.it.log.records(name)) or [1]
        kind = (Kind.EDIT, Kind.DELETE, Kind.REACTION)[amount % 3]
        self.published += 1
        draft = Draft(
            name, "u_1", "Ann", f"edit-{self.published}" if kind is Kind.EDIT else "", kind=kind,
            target=offsets[-1 - amount % len(offsets)], window_ms=ENDLESS_MS, as_moderator=True,
            emoji="+" if kind is Kind.REACTION else "", on=True,
        )  # fmt: skip
        self.it.hub.publish(draft, self.answered.append)

    async def publisher(self, which: int, amount: int) -> None:
        """Publish; a publisher ahead of the members is paused, and may close before it is resumed."""
        peer = self.peers[which]
        name = ROOMS[amount % 3]
        for _ in range(amount):
            self.published += 1
            room = self.it.hub.publish(Draft(name, "u_2", "Bob", f"text-{self.published}"), self.answered.append)
            if room is not None and room.congested:
                room.pause(peer)
                peer.paused_in.append(room)
                return

    async def join(self, which: int, amount: int) -> None:
        self.nursery.start_soon(self._join, self.peers[which], ROOMS[amount % 3], amount)

    @contextmanager
    def _load(self) -> Iterator[None]:
        """The rooms are being loaded, which may fail."""
        self.loading += 1
        with suppress(LogError):
            yield
        self.loading -= 1

    async def _join(self, peer: Peer, name: str, back: int) -> None:
        with self._load():
            async with self.it.hub.registry.using(name, peer.network):
                if not peer.gone and all(member.room.name != name for member in peer.members):
                    encoder = self.it.encoder
                    encoding = encoder.events if peer.number % 3 == 0 else encoder.frames
                    await self.it.join(peer, name, back=back, encoding=encoding)

    async def leave(self, which: int, amount: int) -> None:
        members = self.peers[which].members
        if members:
            self.it.leave(members[amount % len(members)])

    async def types(self, which: int, amount: int) -> None:
        self.it.hub.housekeeping.types(ROOMS[amount % 3], self.peers[which].principal)

    async def reads(self, which: int, amount: int) -> None:
        self.it.hub.housekeeping.moved(ROOMS[amount % 3], self.peers[which].principal, amount)

    async def slow(self, which: int, amount: int) -> None:
        self.peers[which].space = amount * 7

    async def take(self, which: int, amount: int) -> None:
        self.it.sink.take(self.peers[which], amount * 11)

    async def die(self, which: int, amount: int) -> None:
        self.it.sink.die(self.peers[which])
        self._replace(which)

    async def doomed(self, which: int, amount: int) -> None:
        self.peers[which].dies_at_next_write = True

    def _replace(self, which: int) -> None:
        self.peers[which] = self.it.peer(network=NETWORKS[which % 2])
        self.everybody.append(self.peers[which])

    async def poll(self, which: int, amount: int) -> None:
        self.nursery.start_soon(self._poll, self.peers[which], ROOMS if amount % 2 else ROOMS[:1])

    async def _poll(self, peer: Peer, names: tuple[str, ...]) -> None:
        with self._load():
            await self.it.load(*names, network=peer.network)
            if peer.waiter is None and not peer.gone and all(self.it.hub.registry.room(name) for name in names):
                self.it.hold_now(peer, names)

    async def wait(self, which: int, amount: int) -> None:
        await trio.sleep(amount / 10)

    async def until_idle(self, which: int, amount: int) -> None:
        await self.it.until_idle()
        self.check_quiet()

    async def retain(self, which: int, amount: int) -> None:
        firsts = await self.it.log.retain(lambda _: (amount + 1, 0))
        self.it.hub.retained(firsts)

    async def slow_log(self, which: int, amount: int) -> None:
        self.it.log.delay = amount / 50

    async def slow_commits(self, which: int, amount: int) -> None:
        self.it.log.commit_delay = amount / 20

    async def fail_reads(self, which: int, amount: int) -> None:
        self.it.log.failing_reads = amount % 4

    async def fail_commits(self, which: int, amount: int) -> None:
        self.it.log.failing_commits = amount % 3

    # -- the rules --------------------------------------------------------------------------------------------------

    def check_quiet(self) -> None:
        """When nothing can run until time passes, all peers have everything that they can be given."""
        for peer in self.peers:
            for member in peer.members:
                if member.source is Source.RING and not peer.is_blocked:
                    assert member.cursor >= member.room.last, "a wake-up was lost"
            if peer.waiter is not None:
                forgotten = [room.name for room in self.it.hub.rooms.values() if peer.waiter.lacks_news_of(room)]
                assert forgotten == [], "a poll was forgotten"
        self.check_streams()
        self.check_rooms()

    def check_rooms(self) -> None:
        """The counts are right, no list has a closed connection, and presence is the people who are there."""
        hub = self.it.hub
        rooms = [room for room in hub.rooms.values() if room.ready]
        unwritten = {room for room in rooms if room.last == 0}
        assert unwritten == set(hub.registry._unwritten)
        assert hub.budget.used == sum(0 if room.ring is None else room.ring.kept for room in rooms)
        counts = Counter(room.network for room in hub.rooms.values())
        assert counts == hub.registry._of_network
        assert hub.statistics()["members"] == sum(len(room.members) for room in rooms)
        assert hub.statistics()["waiters"] == sum(len(room.waiters or ()) for room in rooms)
        for room in rooms:
            assert (room.ring is None) == (room.last == 0)
            here = [principal.number for principal in room.members.values()]
            here += [waiter.principal.number for waiter in room.waiters or ()]
            here += room.presence._leases or ()
            people = room.presence.people()
            if isinstance(room.presence, ClusterPresence):
                people = room.presence.people_here(MAX_LISTED)
            assert {person.number for person in people} == set(here)
            connections = [member.connection for member in room.members]
            connections += [waiter.connection for waiter in room.waiters or ()]
            connections += room.paused or ()
            assert not any(isinstance(each, Peer) and each.gone for each in connections), "a closed one is listed"

    def check_streams(self) -> None:
        for peer in self.everybody:
            for name in ROOMS:
                peer.reached(name)
            for words in peer.lines():
                if words[0] == "M":
                    texts = self.it.log.texts[words[1], int(words[2])]
                    assert " ".join(words[3:]) in texts, "another message under this offset"

    def check_rings(self) -> None:
        """Messages in memory are the same as in the log."""
        for room in self.it.hub.rooms.values():
            if room.ring is not None:
                kept = self.it.log.records(room.name)
                first = room.ring.first
                for offset, ours in enumerate(room.ring.after(first - 1, room.ring.last - first + 1), first):
                    if offset in kept:
                        assert ours == kept[offset].text.encode(), f"{room.name}/{offset} differs from the log"

    async def end(self) -> None:
        """All faults end, and every peer receives everything."""
        self.heal()
        await trio.sleep(HEALED_AFTER)
        await self.it.until_idle()
        self.check_end()
        self.leave_all()
        await trio.sleep(LONG_AFTER)
        self.check_empty()

    def heal(self) -> None:
        log = self.it.log
        log.delay = log.commit_delay = log.failing_reads = log.failing_commits = 0
        for index, peer in enumerate(self.peers):
            if peer.dies_at_next_write or peer.gone:
                self.it.sink.die(peer)
                self._replace(index)
        self.it.sink.take_all(self.peers)

    def check_end(self) -> None:
        """Every peer has everything, and no work is left."""
        self.check_quiet()
        self.check_rings()
        assert self.loading == 0, "a room never finished loading"
        assert len(self.answered) == self.published, "a publisher was never answered"
        assert self.it.schedule.waiting == 0
        assert not self.it.hub.behind.places
        assert not self.it.hub.behind.queue
        for peer in self.peers:
            assert not peer.is_blocked
            for member in peer.members:
                assert member.source is Source.RING
                assert member.cursor == member.room.last == peer.reached(member.room.name)
        for room in self.it.hub.rooms.values():
            assert room.last == max((offset for name, offset in self.it.log.texts if name == room.name), default=0)
            assert not room.congested
            assert (room.pending, room.pending_bytes, room.pins) == (0, 0, 0)
            assert (room.broadcast, room.answering) == (None, None)
            assert not room.paused, "a publisher is still paused"
            expected = {member for peer in self.peers for member in peer.members if member.room is room}
            assert set(room.members) == expected

    def leave_all(self) -> None:
        """All peers leave all rooms."""
        for peer in self.peers:
            self.it.sink.die(peer)

    def check_empty(self) -> None:
        """No room stays in memory."""
        hub, registry_ = self.it.hub, self.it.hub.registry
        assert hub.rooms == {}, "an empty room stayed in memory"
        assert (registry_._unwritten, registry_._empty) == ({}, {})
        assert (registry_._of_network, registry_._empty_of_network) == ({}, {})
        assert hub.budget.used == 0
        left = hub.housekeeping
        assert (left._leasing, left._changed, left._noticing) == ({}, {}, {})
