"""Notices of presence: sent in batches, in bounded numbers, and to no member twice."""

import pytest
import trio

from chatserver.chat.hub import LEASE_SHARE
from chatserver.chat.presence import NOTICE_INTERVAL, Presence
from chatserver.chat.principal import NamedGuest, Principal
from chatserver.chat.registry import EMPTY_ROOM_SECONDS
from chatserver.chat.room import Room
from chatserver.log.interface import Draft
from chatserver.settings.fields import Settings
from tests.support.chatting import Chatting, chatting, plant
from tests.support.scripted import HERE, Peer
from tests.support.steps import StepCounts

#: Seconds that a person stays present after a connection or a poll has ended.
GRACE = Settings().presence_grace


async def watcher_of(it: Chatting, name: str, others: int = 0) -> Peer:
    """A member that has been told of itself and of others that joined with it."""
    [watcher] = await it.members(1, name)
    await it.members(others, name)
    await trio.sleep(3.0)
    return watcher


async def test_arrivals_and_departures_are_told_together(it: Chatting) -> None:
    watcher = await watcher_of(it, "lobby")
    peers = [it.peer() for _ in range(3)]
    members = [await it.join(peer, "lobby") for peer in peers]
    await trio.sleep(3.0)
    assert watcher.presence("lobby")[1:] == [("2,3,4", "-", 4)]
    for member in members:
        it.leave(member)
    await it.join(Peer(peers[1].principal.number), "lobby")
    await trio.sleep(3.0)
    assert watcher.presence("lobby")[2:] == [("3", "2,4", 2)]
    await it.join(peers[0], "lobby")
    assert [who.number for who in it.hub.rooms["lobby"].presence.people()][-1] == 2, "the list includes it"
    it.sink.die(peers[0])
    it.hub.end_lease(it.hub.rooms["lobby"], peers[0].principal)
    await trio.sleep(3.0)
    assert watcher.presence("lobby")[3:] == [("-", "2", 2)], "then its departure is told"
    room, (_, friend) = it.hub.rooms["lobby"], it.hub.rooms["lobby"].members
    it.hub.change_principal(friend, NamedGuest(3, HERE, "Ann"))
    await trio.sleep(3.0)
    assert watcher.presence("lobby")[4:] == [("3", "-", 2)], "a new name"
    assert room.presence.people()[1].face.name == "Ann"
    assert not it.hub.housekeeping._changed, "nothing is left to tell"


async def test_a_notice_names_a_few_and_the_next_one_the_next(it: Chatting) -> None:
    """A stranger's sixty connections that came and went sent 11 KB a second to each member: phones fell 10 s behind."""
    watcher = await watcher_of(it, "lobby")
    members = [await it.join(it.peer(), "lobby") for _ in range(23)]
    await trio.sleep(5.0)
    joined = [[*map(int, names.split(","))] for names, left, count in watcher.presence("lobby")[1:] if count == 24]
    assert joined == [[*range(2, 12)], [*range(12, 22)], [*range(22, 25)]]
    for member in members:
        it.leave(member)
    await trio.sleep(5.0)
    assert [len(left.split(",")) for _, left, count in watcher.presence("lobby")[4:] if count == 1] == [10, 10, 3]
    assert not it.hub.housekeeping._changed


async def test_a_reload_is_no_departure_and_a_closed_window_is_after_the_grace(it: Chatting) -> None:
    watcher = await watcher_of(it, "lobby")
    peer = it.peer()
    for _ in range(5):
        await it.join(peer, "lobby")
        await trio.sleep(5.0)
        it.sink.die(peer)
        await trio.sleep(GRACE - 3)
        peer = Peer(peer.number)
    assert watcher.presence("lobby")[1:] == [(str(peer.number), "-", 2)]
    await trio.sleep(6.0)
    assert watcher.presence("lobby")[2:] == [("-", str(peer.number), 1)]
    assert not it.hub.housekeeping.leasing()


async def test_a_room_is_left_alone_until_a_lease_ends(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise 10,000 rooms that were left shortly before keep the loop busy for 100 ms of each second."""
    left: list[Room] = []
    monkeypatch.setattr(it.hub.housekeeping, "_left", left.append)
    await it.load("lobby")
    room = it.hub.rooms["lobby"]
    it.hub.polled(room, Peer(1).principal)
    await trio.sleep(GRACE - 2)
    assert not left
    await trio.sleep(4.0)
    assert left == [room]


async def test_people_without_a_connection_are_bounded_over_all_rooms(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each poll of a hundred rooms by a new guest leaves a hundred people until the grace ends."""
    monkeypatch.setattr("chatserver.chat.hub.MAX_LEASES", 10)
    names = [f"room-{number}" for number in range(3)]
    await it.load(*names, "spare")
    rooms = [it.hub.rooms[name] for name in names]
    for number in range(100, 107):
        for room in rooms:
            it.hub.polled(room, Peer(number).principal)
    assert [len(room.presence) for room in rooms] == [4, 3, 3]
    it.hub.polled(it.hub.rooms["spare"], Peer(107).principal)
    assert len(it.hub.rooms["spare"].presence) == 0
    for room in rooms:
        await it.join(Peer(100), room.name)
    await trio.sleep(1.5)
    assert it.hub.housekeeping.leases == 7, "users who have come back have no lease"
    await trio.sleep(EMPTY_ROOM_SECONDS + 2)
    assert [len(room.presence) for room in rooms] == [1, 1, 1]
    assert list(it.hub.rooms) == names
    it.hub.polled(rooms[0], Peer(7).principal)
    assert len(rooms[0].presence) == 2, "a lease is free again"


async def test_forty_networks_leave_leases_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their polls, each by a new guest, must not take all leases: others need them for a reload."""
    monkeypatch.setattr("chatserver.chat.hub.MAX_LEASES", 4 * LEASE_SHARE)
    async with chatting() as it:
        await it.load("lobby")
        room = it.hub.rooms["lobby"]
        for second in range(3 * int(GRACE)):
            for number in range(100):
                it.hub.polled(room, Principal(1000 * second + number, f"192.0.2.{number % 40}"))
            other = Principal(999_000 + second, f"198.51.100.{second}")
            it.hub.polled(room, other)
            assert room.presence.connections(other.number) == 1
            await trio.sleep(1.0)


async def test_one_network_may_have_half_of_all_leases_and_then_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """A school behind one address reloads at once."""
    monkeypatch.setattr("chatserver.chat.hub.MAX_LEASES", 4 * LEASE_SHARE)
    async with chatting() as it:
        await it.load("lobby")
        room = it.hub.rooms["lobby"]
        for number in range(3 * LEASE_SHARE):
            it.hub.polled(room, Principal(1000 + number, "192.0.2.1"))
        assert len(room.presence) == 2 * LEASE_SHARE + 4
        assert len(it.hub._lease_limit) == 1
        await trio.sleep(GRACE + 2)
        assert len(it.hub._lease_limit) == 0, "a network that has its share again is forgotten"


async def test_many_lost_connections_leave_a_few_in_a_step(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.chat.presence.EXPIRE_STEP", 7)
    watcher = await watcher_of(it, "lobby")
    peers = await it.members(50)
    await trio.sleep(3.0)
    for peer in peers:
        it.sink.die(peer)
    monkeypatch.setattr("chatserver.fair.STEP", 0)
    with StepCounts() as steps:
        monkeypatch.setattr(Presence, "end_lease", steps.counted(Presence.end_lease))
        await trio.sleep(GRACE + 3)
    assert (max(steps.counts), sum(steps.counts)) == (7, 50)
    assert watcher.presence("lobby")[-1][2] == 1


async def test_a_member_behind_gets_the_count_when_it_has_room_again(it: Chatting) -> None:
    two_slow = [await watcher_of(it, "lobby") for _ in range(2)]
    for slow in two_slow:
        slow.space = 0
    for _ in range(5):
        await it.members(1)
        await trio.sleep(2.0)
    for slow in two_slow:
        before = len(slow.presence("lobby"))
        it.sink.take(slow, 10_000)
        await it.until_idle()
        assert slow.presence("lobby")[before:] == [("-", "-", 7)], "one notice, however many were missed"
    for peer in two_slow:
        peer.space = 0
    await it.members(1)
    await trio.sleep(2.0)
    it.sink.die(two_slow[0])
    assert it.hub.rooms["lobby"].uninformed == set(two_slow[1].members)
    it.sink.take(two_slow[1], 10_000)
    await it.until_idle()
    assert it.hub.rooms["lobby"].uninformed is None, "nothing is kept of them"


async def test_endless_joins_and_leaves_cost_a_bounded_number_of_frames(it: Chatting) -> None:
    """1,000 members are told of 2,000 changes by one client as often as of one change: every 5 s."""
    await watcher_of(it, "lobby", 999)
    await trio.sleep(10.0)
    before, churner = it.sink.writes, it.peer()
    for _ in range(20):
        for _ in range(50):
            it.leave(await it.join(churner, "lobby"))
        await trio.sleep(1.0)
    told = it.sink.writes - before - 20 * 50  # its own answers
    assert 1000 <= told <= 6 * 1000


async def test_presence_over_all_rooms_is_bounded_and_rooms_take_turns(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.chat.housekeeping.MAX_NOTICES_PER_ROUND", 20)
    watchers = {f"room-{number}": (await it.members(10, f"room-{number}"))[0] for number in range(30)}
    await trio.sleep(0.5)
    for second in range(1, 16):
        await trio.sleep(1.0)
        told = sum(bool(watcher.presence(name)) for name, watcher in watchers.items())
        assert told == 2 * second, "ten members in each room, so two rooms in each round"
    assert all(watcher.presence(name)[-1][2] == 10 for name, watcher in watchers.items())


async def test_a_room_does_not_wait_for_all_rooms_of_strangers(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three networks keep 90 rooms changing, of which two fit into a round. No typing was told besides presence."""
    monkeypatch.setattr("chatserver.chat.housekeeping.MAX_NOTICES_PER_ROUND", 20)
    for number in range(90):
        for _ in range(10):
            await it.join(it.peer(network=f"198.51.100.{number % 3}"), f"strangers-{number}")
    await trio.sleep(3.0)
    watcher = it.peer()
    await it.join(watcher, "lobby")
    await trio.sleep(3.0)
    assert watcher.presence("lobby")
    for number in range(1, 6):
        other = await it.join(it.peer(), "lobby")
        it.hub.housekeeping.types("lobby", other.room.members[other])
        await trio.sleep(4.0)
        assert watcher.presence("lobby")[-1][2] == 1 + number
        assert len(watcher.typing("lobby")) == number


async def test_presence_does_not_wait_for_strangers_who_type(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typing in three rooms uses up each round that begins with it."""
    monkeypatch.setattr("chatserver.chat.housekeeping.MAX_NOTICES_PER_ROUND", 1)
    for number in range(3):
        await it.join(it.peer(), f"strangers-{number}")
    watcher = await watcher_of(it, "lobby", others=1)
    for number in range(10):
        for each in range(3):
            it.hub.housekeeping.types(f"strangers-{each}", Peer(100 + number).principal)
        await trio.sleep(1.0)
    assert watcher.presence("lobby")[-1][2] == 2


async def test_rooms_are_checked_a_few_in_a_step_and_none_is_forgotten(
    it: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one step, 20,000 rooms with an arrival would take 54 ms, and 20,000 that are empty 170 ms."""
    monkeypatch.setattr("chatserver.fair.STEP", 0)
    watchers = {f"room-{number}": it.peer() for number in range(10)}
    for name, watcher in watchers.items():
        await it.join(watcher, name)
        it.hub.polled(it.hub.rooms[name], Principal(99, HERE))
    # Rooms that may not be told yet must not delay the others in each round.
    for number in range(3):
        it.hub.rooms[f"room-{number}"].presence.sent_at = trio.current_time() + 99.0
    with StepCounts() as steps:
        for name in ("_tell_presence", "_end_leases"):
            monkeypatch.setattr(it.hub.housekeeping, name, steps.counted(getattr(it.hub.housekeeping, name)))
        await trio.sleep(1.5)
    told = [name for name, watcher in watchers.items() if watcher.presence(name)]
    assert told == [f"room-{number}" for number in range(3, 10)]
    assert (max(steps.counts), sum(steps.counts)) == (1, 10 + 7), "one room in a step that has no time"
    for _ in range(2):
        it.hub.tick()  # a round is not begun before the last has ended
    await trio.sleep(GRACE - 3)
    assert all(len(room.presence) == 2 for room in it.hub.rooms.values())
    await trio.sleep(100.0)
    assert all(watcher.presence(name)[-1][2] == 1 for name, watcher in watchers.items())
    assert not it.hub.housekeeping.leasing()


@pytest.mark.parametrize("fault", ["", "room-7"])
async def test_notices_in_many_rooms_do_not_queue_up_before_users(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Otherwise each of 8,000 clients that join a new room once a second delays users by 20 µs: 90 ms."""
    async with chatting(faults=int(bool(fault))) as it:
        watchers = {f"room-{number}": it.peer() for number in range(100)}
        for name, watcher in watchers.items():
            await it.join(watcher, name)
        plant(monkeypatch, it.hub.broadcaster, "_tell_presence", lambda member, _: member.room.name == fault)
        waiting: list[int] = []
        it.sink.before_offer = lambda *_: waiting.append(it.schedule.waiting)
        await trio.sleep(1.5)
        told = [name for name, watcher in watchers.items() if watcher.presence(name)]
        assert told == [name for name in watchers if name != fault]
        assert max(waiting) <= 2, "the next step of the round, and of the hub"


async def test_empty_rooms_cost_no_notice(it: Chatting) -> None:
    member = await it.join(it.peer(), "lobby")
    await trio.sleep(3.5)
    it.leave(member)
    it.hub.tick()
    room = it.hub.rooms["lobby"]
    await it.until_idle()
    assert (room.presence_since, room.presence.changed, room.broadcast) == (None, False, None)


async def test_people_who_return_or_poll_again_cost_no_pass(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each poll in a room of thousands is a visit to all members once a second."""
    ann, _ = await it.members(2)
    await trio.sleep(3.0)
    it.hub.housekeeping.types("lobby", ann.principal)
    await it.until_idle()
    passes: list[Room] = []
    for begin in ("announce_members", "begin_now"):
        monkeypatch.setattr(it.hub.broadcaster, begin, passes.append)
    for _ in range(3):
        it.hub.polled(it.hub.rooms["lobby"], ann.principal)
        await trio.sleep(1.0)
    assert passes == []


async def test_a_notice_due_before_the_last_is_sent_is_merged_with_it(it: Chatting) -> None:
    watcher = await watcher_of(it, "lobby")
    room = it.hub.rooms["lobby"]
    for number in (50, 51):
        peer = Peer(number)
        it.hub.attach(room, peer, encoding=it.encoder.frames, principal=peer.principal, cursor=0)
        room.presence.sent_at = -NOTICE_INTERVAL
        it.hub.tick()  # the schedule does not run in between
    await trio.sleep(3.0)
    assert ",".join(joined for joined, _, _ in watcher.presence("lobby")[1:]) == "50,51"


async def test_presence_during_a_broadcast_is_told_by_the_next(it: Chatting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.chat.broadcast.STEP_MEMBERS", 1)
    watchers = await it.members(6)
    await trio.sleep(3.0)
    room = it.hub.rooms["lobby"]
    it.hub.publish(Draft("lobby", "u_1", "Ann", "hi"), lambda result: None)
    while room.broadcast is None:
        await trio.lowlevel.checkpoint()
    peer = Peer(50)
    it.hub.attach(room, peer, encoding=it.encoder.frames, principal=peer.principal, cursor=room.last)
    room.presence_since = trio.current_time()
    await it.until_idle()
    assert {watcher.presence("lobby")[-1] for watcher in watchers} == {("50", "-", 7)}
    assert all(watcher.offsets("lobby") == [1] for watcher in watchers)


async def test_a_member_that_wants_no_presence_is_sent_none(it: Chatting) -> None:
    frames, events = await watcher_of(it, "lobby"), it.peer()
    await it.join(events, "lobby", encoding=it.encoder.events)
    events.space = 0
    await it.members(1)
    await trio.sleep(3.0)
    it.sink.take(events, 1000)
    assert len(frames.presence("lobby")) == 2
    assert not events.presence("lobby")


# -- pollers ----------------------------------------------------------------------------------------------------------


async def test_a_poller_is_present_between_two_polls(it: Chatting) -> None:
    watcher, poller = await watcher_of(it, "lobby"), it.peer()
    for _ in range(5):
        await it.poll(poller, "lobby")
        await trio.sleep(5.0)
        await it.publish("lobby", "hi")
        await trio.sleep(GRACE - 2)
    assert [told for told in watcher.presence("lobby") if told[1] != "-"] == [], "no departure was told"
    await trio.sleep(GRACE + 2)
    assert watcher.presence("lobby")[-1] == ("-", str(poller.number), 1)


async def test_a_poll_answered_at_once_makes_its_user_present(it: Chatting) -> None:
    await it.load("lobby")
    room, person = it.hub.rooms["lobby"], Principal(7, HERE)
    for _ in range(2):
        it.hub.polled(room, person)
    assert room.presence.people() == [person]
    await trio.sleep(GRACE + 2)
    assert len(room.presence) == 0
