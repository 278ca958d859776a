"""People in other processes: shown like people here, removed with their process, and repaired after any loss."""

from collections.abc import Callable

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from chatserver.chat import cluster as module
from chatserver.chat.cluster import EXPIRY, REPORT_INTERVAL
from chatserver.chat.cluster_presence import RemotePeople
from chatserver.chat.presence import MAX_NAMED_MEMBERS
from chatserver.chat.principal import NamedGuest, Principal, SignedIn, User, pack
from chatserver.chat.process_messages import Kicked, named, principal_of
from chatserver.chat.registry import EMPTY_ROOM_SECONDS
from chatserver.log.interface import Draft, Kind
from chatserver.protocol.validation import MAX_NAME_CHARS, MAX_USER_ID_CHARS
from chatserver.shared.datagrams import MAX_MESSAGE
from tests.chat.processes import MENDED, SAID, Air, Pair
from tests.support.chatting import change
from tests.support.scripted import HERE


async def test_people_in_another_process_are_shown_like_people_here(air: Air, pair: Pair) -> None:
    ours, other = pair
    watcher = await ours.join(1)
    await trio.sleep(SAID)
    air.said.clear()
    peer = await other.join(2)
    await trio.sleep(SAID)
    assert {said.process for said in air.said if said.rooms} == {other.cluster._me}, "it is not reported back"
    assert watcher.presence("lobby") == [("1", "-", 1), ("2", "-", 2)]
    assert ours.people() == other.people() == {1, 2}
    other.it.leave(peer.members[0])
    await trio.sleep(SAID)
    assert watcher.presence("lobby")[2:] == [("-", "2", 1)]
    assert other.people() == {1}, "though the room is empty in that process"


async def test_a_process_that_dies_is_forgotten_with_its_people(pair: Pair) -> None:
    ours, other = pair
    watcher = await ours.join(1)
    await trio.sleep(SAID)
    for room in ("lobby", "den", *(f"room-{number}" for number in range(8))):
        await other.join(2, room)
    await trio.sleep(SAID)
    assert (watcher.presence("lobby")[-1], ours.count("den")) == (("2", "-", 2), 1)
    other.stop()
    await trio.sleep(EXPIRY - 3 * REPORT_INTERVAL)  # the last message may be two intervals old
    assert ours.people() == {1, 2}
    await trio.sleep(2 * SAID)
    assert watcher.presence("lobby")[-1] == ("-", "2", 1)
    assert ours.count("den") == ours.count("room-7") == 0
    assert ours.cluster.statistics() == {"processes": 0, "people": 0, "unreadable": 0}


async def test_a_room_that_is_joined_while_a_dead_process_is_forgotten_counts_right(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unnamed people of the dead process were subtracted from a room that had never counted them: -49 members."""
    monkeypatch.setattr("chatserver.fair.STEP", 0.0)  # other tasks have a turn after each room
    ours, other = pair
    for number in range(100):
        await other.join(0, f"room-{number}")
    for number in range(MAX_NAMED_MEMBERS + 50):
        await other.join(number, "large")
    await trio.sleep(SAID)
    other.stop()
    forgetting = trio.Event()
    take_in = ours.cluster._take_in

    def note(process: object, name: str, there: RemotePeople) -> None:
        forgetting.set()
        take_in(process, name, there)  # type: ignore[arg-type]

    monkeypatch.setattr(ours.cluster, "_take_in", note)
    await forgetting.wait()
    await ours.join(1, "large")
    await trio.sleep(EXPIRY + SAID)
    assert (ours.count("large"), ours.people("large")) == (1, {1})
    assert ours.cluster.statistics()["people"] == 0


async def test_without_changes_messages_name_no_rooms(air: Air, pair: Pair) -> None:
    for number, process in enumerate(pair):
        await process.join(number)
    await trio.sleep(MENDED)
    air.said.clear()
    await trio.sleep(20.0)
    assert 18 <= len(air.said) <= 22, "each process says every other second that it lives"
    assert all(not said.rooms and not said.resend for said in air.said)
    assert len(msgspec.msgpack.encode(air.said[-1])) < 40


async def test_a_room_leaves_memory_in_a_process_without_members(pair: Pair) -> None:
    ours, other = pair
    await other.join(2)
    await ours.it.load("lobby")
    await trio.sleep(EMPTY_ROOM_SECONDS + 3)
    assert "lobby" not in ours.it.hub.rooms
    assert ours.people() == {2}


async def test_a_lease_seen_elsewhere_keeps_its_room_and_any_other_ends(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = pair
    for node in pair:
        monkeypatch.setattr(node.it.hub.registry, "_most_of_network", 0)
    watcher = await other.join(1, "lobby")
    await trio.sleep(SAID)
    for room in ("lobby", "den"):
        peer = await ours.join(2, room)
        await trio.sleep(SAID)
        ours.it.sink.die(peer)
    await trio.sleep(SAID)
    assert set(ours.it.hub.rooms) == {"lobby"}
    assert other.people("den") == set()
    assert watcher.presence("lobby")[-1] == ("2", "-", 2)
    await trio.sleep(20.0)
    assert watcher.presence("lobby")[-1] == ("-", "2", 1)
    assert ours.it.hub.rooms == {}


async def test_an_empty_room_is_evicted_behind_a_room_seen_elsewhere(air: Air) -> None:
    """The room seen elsewhere precedes the empty one in the order of eviction; a new room must not be refused."""
    async with air.process(max_rooms=2) as ours, air.process() as other:
        ours.it.sink.die(await ours.join(1, "seen"))
        await other.join(2, "seen")
        await trio.sleep(SAID)
        for number, name in enumerate(("empty", "wanted")):
            await ours.it.load(name, network=f"198.51.100.{number}")
        assert set(ours.it.hub.rooms) == {"seen", "wanted"}


# -- large rooms, names -----------------------------------------------------------------------------------------------


async def test_a_large_room_is_told_as_a_count_and_some_names(pair: Pair) -> None:
    ours, other = pair
    watcher = await ours.join(1000)
    await trio.sleep(SAID)
    count = MAX_NAMED_MEMBERS + 50
    peers = [await other.join(number) for number in range(count)]
    await trio.sleep(SAID)
    assert watcher.presence("lobby")[-1] == ("-", "-", count + 1)
    assert len(ours.people()) == MAX_NAMED_MEMBERS + 1
    for peer in peers[: count - 10]:
        other.it.leave(peer.members[0])
    await trio.sleep(SAID)
    assert ours.people() == {1000, *range(count - 10, count)}
    assert watcher.presence("lobby")[-1] == ("-", "-", 11), "a person named now may have been there before"


async def test_a_large_room_names_fewer_in_each_process_until_it_is_small_again(
    air: Air, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All names of rooms of a thousand in each of 53 processes would be 14 KB for each connection."""
    monkeypatch.setattr(module, "MAX_NAMED_IN_ALL", 30)
    ours, other = pair
    async with air.process() as third:
        mine = [await ours.join(number) for number in range(30)]
        for number in range(30, 120):
            await other.join(number)  # each process reports a small room; together it is large
        await trio.sleep(2 * SAID)
        assert [process.count() for process in (ours, other, third)] == [120] * 3
        assert [len(process.people()) for process in (ours, other, third)] == [30 + 10, 90 + 10, 10 + 10]
        for peer in mine[:25]:
            ours.it.leave(peer.members[0])
        await trio.sleep(2 * SAID)
        assert ours.people() == other.people() == third.people() == set(range(25, 120))


async def test_names_are_kept_up_to_a_bound_and_counts_beyond_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMED", 5)
    ours, other = pair
    rooms = [f"room-{number}" for number in range(4)]
    peers = {room: [await other.join(number, room) for number in (1, 2)] for room in rooms}
    await trio.sleep(SAID)
    assert [len(ours.people(room)) for room in rooms] == [2, 2, 0, 0]
    assert [ours.count(room) for room in rooms] == [2, 2, 2, 2]
    assert ours.cluster.statistics()["people"] == 8
    peers["room-0"].append(await other.join(3, "room-0"))
    await trio.sleep(SAID)
    assert ours.people("room-0") == {1, 2, 3}, "five names with the new one"
    for room in rooms[:2]:
        for peer in peers[room]:
            other.it.leave(peer.members[0])
    for room in rooms[2:]:
        await other.join(3, room)
    await trio.sleep(SAID)
    assert [len(ours.people(room)) for room in rooms] == [0, 0, 3, 0], "reported again, and three names fit"
    assert [ours.count(room) for room in rooms] == [0, 0, 3, 3]
    other.stop()
    await trio.sleep(EXPIRY + SAID)
    assert ours.cluster.statistics() == {"processes": 0, "people": 0, "unreadable": 0}
    assert ours.cluster._named == 0


async def test_a_new_name_is_told_everywhere_and_two_names_do_not_alternate(air: Air, pair: Pair) -> None:
    ours, other = pair
    watcher = await ours.join(1)
    peer = await other.join(2)
    await trio.sleep(SAID)
    other.it.hub.change_principal(peer.members[0], NamedGuest(2, HERE, "Ann"))
    await trio.sleep(SAID)
    assert watcher.presence("lobby")[-1] == ("2", "-", 2)
    assert [each.face.name for each in ours.it.hub.registry.presence("lobby").people() if each.number == 2] == ["Ann"]
    await ours.join(2)  # without the name
    await trio.sleep(SAID)
    air.said.clear()
    told = len(watcher.presence("lobby"))
    await trio.sleep(20.0)
    assert not any(said.rooms for said in air.said)
    assert len(watcher.presence("lobby")) == told


def test_a_principal_is_the_same_person_in_other_processes() -> None:
    for one in (
        Principal(7, "192.0.2.1"),
        NamedGuest(7, "192.0.2.1", "Zoë"),
        SignedIn(7, "192.0.2.1", pack(User("u_ann", "Ann"), 99.0), Principal.access.guests),
    ):
        twin = principal_of(named(one))
        assert (twin.number, twin.network, twin.face, twin.label) == (one.number, one.network, one.face, one.label)
        assert not twin.rights.allowed or twin.is_guest


# -- notices ----------------------------------------------------------------------------------------------------------


async def test_typing_before_a_message_is_not_told_after_it_elsewhere(pair: Pair) -> None:
    ours, other = pair
    watcher = await ours.join(1)
    await trio.sleep(SAID + REPORT_INTERVAL / 2)  # between two rounds
    author = Principal(2, HERE)
    for number in (2, 3):
        other.cluster.types("lobby", Principal(number, HERE))
    face = author.author
    other.it.hub.publish(Draft("lobby", face.id, face.name, "said"), lambda result: None)
    other.it.hub.publish(change(Kind.REACTION, 1, by=Principal(3, HERE).author), lambda result: None)
    await trio.sleep(SAID)
    assert watcher.typing("lobby") == [3], "who reacts may type on"


async def test_a_read_marker_is_told_to_the_same_person_elsewhere(air: Air, pair: Pair) -> None:
    ours, other = pair
    window = await ours.join(1)
    await other.join(1)
    await trio.sleep(SAID)
    other.cluster.moved("lobby", Principal(1, HERE), 41)
    other.cluster.moved("lobby", Principal(2, HERE), 41)
    await trio.sleep(SAID)
    assert window.reads("lobby") == [41]
    assert sum(len(said.moved) for said in air.said) == 1, "the other person has no connection elsewhere"


async def test_a_read_marker_is_told_where_only_the_count_is_known(pair: Pair) -> None:
    ours, other = pair
    for number in range(MAX_NAMED_MEMBERS + 50):
        window = await ours.join(number)  # the last one is not named
    await trio.sleep(SAID)
    assert MAX_NAMED_MEMBERS + 49 not in other.people()
    other.cluster.moved("lobby", Principal(MAX_NAMED_MEMBERS + 49, HERE), 41)
    await trio.sleep(SAID)
    assert window.reads("lobby") == [41]


async def test_what_is_sent_waits_for_no_heartbeat(air: Air, pair: Pair) -> None:
    _, other = pair
    for process in pair:
        await process.join(1)
    await trio.sleep(SAID)
    acts: dict[str, Callable[[], None]] = {
        "kicked": lambda: other.cluster.kick("u_bob", "lobby", ""),
        "typed": lambda: other.cluster.types("lobby", Principal(2, HERE)),
        "moved": lambda: other.cluster.moved("lobby", Principal(1, HERE), 41),
    }
    for told, act in acts.items():
        for number in range(1, 5):
            air.said.clear()
            act()
            await trio.sleep(1.1 * REPORT_INTERVAL)
            assert sum(bool(getattr(said, told)) for said in air.said) == 1, (told, number)


async def test_a_busy_chat_is_told_once_in_a_round(air: Air, pair: Pair) -> None:
    """Each notice that came during a pause extended the round: a message every 20 ms, and nobody dead was forgotten."""
    _, other = pair
    for process in pair:
        await process.join(1)
    await trio.sleep(SAID)
    air.said.clear()
    rounds = 3
    for number in range(int(rounds * (REPORT_INTERVAL + module.PAUSE) / (module.PAUSE / 2))):
        other.cluster.types("lobby", Principal(number, HERE))
        await trio.sleep(module.PAUSE / 2)
    assert sum(bool(said.typed) for said in air.said) <= rounds * module.MAX_NOTICES / module.NOTICES_PER_MESSAGE


async def test_no_message_is_too_long_for_a_datagram_however_much_there_is_to_tell(
    air: Air, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one message, 500 notices of each kind took up to 400 KB: workers lost it, and so each kick of that second."""
    ours, other = pair
    packed = pack(User("u" * MAX_USER_ID_CHARS, "\U0001f600" * MAX_NAME_CHARS), None)
    monkeypatch.setattr(other.cluster, "_is_elsewhere", lambda room, number: True)
    rooms = [f"{number:0>64}" for number in range(module.MAX_NOTICES)]
    for room in rooms[:2]:
        for number in range(MAX_NAMED_MEMBERS - 1):
            peer = await other.join(number, room)
            long = SignedIn((1 << 60) - number, "2001:db8:1111:2222::/64", packed, Principal.access.guests)
            other.it.hub.change_principal(peer.members[0], long)
    with capture_logs() as lines:
        for room in (*rooms, "beyond"):
            other.cluster.types(room, long)
            other.cluster.moved(room, long, 1 << 52)
            other.cluster.kick(long.face.id, room, "\U0001f600" * 300)
    assert [(line["event"], line["room"]) for line in lines] == [("kick_not_told", "beyond")]
    await trio.sleep(SAID)
    assert sum(len(said.typed) for said in air.said) == sum(len(said.moved) for said in air.said) == len(rooms)
    assert ours.kicks == [Kicked(room, long.face.id, "\U0001f600" * module.MAX_REASON_CHARS) for room in rooms]
    assert max(air.sizes) <= MAX_MESSAGE
