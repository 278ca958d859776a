"""Invariant: whatever was done to it, every connection is in one phase, has a deadline, and nothing of anybody leaks.

Owns: what must be so whenever nobody can do anything more until time passes or a peer acts. May not: change anything.
It looks into the parts, because what leaks is not seen from outside until there is much of it.
"""

import os
import reprlib
import stat
from collections import Counter
from collections.abc import Iterator

from chatserver.net.phases import Phase
from chatserver.net.secure import Secured
from chatserver.net.unfinished import SMALL

from chatserver.api.session import Session, Waiting
from chatserver.chat.hub import Hub
from chatserver.chat.member import Hold, Member, State
from chatserver.chat.room import Life, Room
from chatserver.edge.exchange import Exchange, LongHead, Upload
from chatserver.edge.websocket import TASK_MARGIN
from chatserver.net.admission import network_of
from chatserver.net.connection import BEHIND, Connection
from chatserver.net.connections import Connections
from chatserver.net.readiness import LATER, READ, WRITE, Epoll
from chatserver.net.wheel import NEVER, ticks
from chatserver.reasons import Reason
from tests.fuzz.world import PER_ADDRESS, PLACES, SETTINGS, World
from tests.support.parked import descriptors

_SHORT = reprlib.Repr()
_SHORT.maxother = 1000
#: What may stand in `session`, by phase.
SESSIONS: dict[Phase, tuple[type, ...]] = {
    Phase.TLS: (type(None),),
    Phase.HEAD: (type(None), LongHead),
    Phase.BODY: (Upload,),
    Phase.KEEPALIVE: (type(None),),
    Phase.PACED: (type(None),),
    Phase.SERVING: (Exchange, Session),
    Phase.HELD: (Hold,),
    Phase.STREAM: (Member,),
    Phase.OPEN: (Session,),
    Phase.PINGED: (Session,),
    Phase.MESSAGE: (Session,),
    Phase.CLOSING: (Reason,),
}
#: Bytes that a peer may make us keep: of what it sends, one read and one head or message; of what it does not take,
#: one page, one frame and the answers to what was read before it was known to be behind.
MOST_INBOX, MOST_BACKLOG = 2 * 16_384 + 1024, 256 * 1024
_FLUSH_TICKS = ticks(SETTINGS["flush_window"])
#: Ticks that some have beyond the limit of their phase: by progress, and a WebSocket so that its task is the first.
_MORE = {
    Phase.BODY: ticks(SETTINGS["body_deadline_max"] - SETTINGS["body_deadline"]),
    Phase.SERVING: ticks(TASK_MARGIN),
}


#: Real seconds in which the kernel delivers on loopback, whatever else the machine does.
_DELIVERY = 0.05


async def check_when_quiet(world: World) -> None:
    """Check when all has been done. What the kernel delivers in that very moment is no breach: look again then."""
    await world.settle()
    try:
        check(world)
    except AssertionError:
        await world.settle(_DELIVERY)
        check(world)


def check(world: World) -> None:
    """Everything that must be so at any quiet moment."""
    _check_faults(world)
    if world.stopped:
        _check_nothing_is_left(world)
        return
    connections = world.parts.connections
    everybody = [each for each in connections.table if each is not None]
    for connection in everybody:
        try:
            _check_connection(world, connection)
        except AssertionError as error:
            error.add_note(f"{describe(connection)} at tick {connections.wheel.current}")
            raise
    _check_interests(world, everybody)
    _check_counts(world, everybody)
    _check_rooms(world, everybody)
    _check_queues(world)


def describe(connection: Connection) -> str:
    """For whoever has to find out."""
    session = type(connection.session).__name__
    return f"{connection.phase.name} {session} {_SHORT.repr(connection)}"


# -- one connection -------------------------------------------------------------------------------------------------


def _check_connection(world: World, connection: Connection) -> None:
    connections = world.parts.connections
    assert connections.table[connection.descriptor] is connection, "not in its own place"
    assert stat.S_ISSOCK(os.fstat(connection.descriptor).st_mode), "its descriptor is something else"
    _check_deadline(connections, connection)
    _check_session(connection)
    backlog = connection.backlog
    if connection.interest & WRITE:
        assert backlog is not None, "asked to be writable with nothing to write"
        assert not connection.interest & READ, "read while it owes us"
        kept = sum(map(len, backlog.chunks)) - backlog.position
        assert kept <= MOST_BACKLOG, f"{kept} bytes are kept for it"
    elif backlog is not None:
        assert not backlog.chunks, "something is kept, and nobody waits until it can be written"
        assert backlog.last is None, "its end waits for what is written"
    assert len(connection.inbox) <= MOST_INBOX
    if isinstance(connection, Secured):
        assert len(connection.sealed) <= MOST_INBOX
        assert not connection.unsent or connection.interest & WRITE, "a record is stuck"
    if not connection.interest & ~BEHIND:
        _check_why_silent(world, connection)


def _check_deadline(connections: Connections, connection: Connection) -> None:
    """It is in the wheel, at its deadline or before; and neither is over."""
    wheel = connections.wheel
    assert connection.deadline < NEVER, "no limit is off here"
    assert connection.deadline > wheel._turned, "its deadline is over, and nobody saw"
    assert wheel._turned < connection.entry <= connection.deadline, "its entry is not before its deadline"
    assert connection.descriptor in wheel._slots[connection.entry][1], "it is not in the wheel"
    latest = wheel.due[connection.phase] - wheel.current + _MORE.get(connection.phase, 0)
    if connection.backlog is None:
        assert connection.deadline - wheel.current <= latest, "its phase gives it no such time"
    else:
        assert connection.deadline - wheel.current <= _FLUSH_TICKS, "FLUSH gives it longer than a window"
        assert 0 < connection.backlog.remaining <= latest, "its phase has no such time left for it"


def _check_session(connection: Connection) -> None:
    session, backlog = connection.session, connection.backlog
    if backlog is not None and backlog.last is not None:
        assert session is None, "it is to end, and still holds something"
        return
    assert isinstance(session, SESSIONS[connection.phase]), "a session of another phase"
    if isinstance(session, Session):
        assert session.connection is connection
        assert session.waiting is not Waiting.GONE
        assert session.in_flight >= 0
        if connection.phase is Phase.SERVING:
            assert session.queue is not None, "nothing says what comes next"
        else:
            assert session.queue is None or connection.interest & WRITE, "what it said is forgotten"
        if connection.phase is Phase.MESSAGE:
            assert connection.inbox or session.assembly is not None, "no message is unfinished"
        elif connection.phase in (Phase.OPEN, Phase.PINGED) and not connection.interest & WRITE:
            assert not connection.inbox
            assert session.assembly is None
    elif isinstance(session, Hold | Member):
        assert session.connection is connection


def _check_why_silent(world: World, connection: Connection) -> None:
    """Neither read nor written: then it waits for us, or has said all it may, and its deadline ends that."""
    waits_for_a_room = any(connection in room.paused for room in world.parts.hub.rooms.values())
    match connection.phase:
        case Phase.KEEPALIVE:
            assert waits_for_a_room, "a request of its own is forgotten"
        case Phase.HELD | Phase.STREAM | Phase.PACED | Phase.CLOSING:
            pass  # has sent ahead, asks too often, goes on behind its end
        case Phase.SERVING:
            session = connection.session
            if isinstance(session, Session) and session.waiting is Waiting.ROOM:
                assert waits_for_a_room or session.in_flight, "it waits for nothing"
            else:
                assert not world.log.well, "our answer never comes"
        case phase:
            raise AssertionError(f"not read in {phase.name}")


# -- all of them ----------------------------------------------------------------------------------------------------


def _check_interests(world: World, everybody: list[Connection]) -> None:
    """The kernel reports just what the table says."""
    readiness = world.parts.connections._readiness
    assert isinstance(readiness, Epoll)
    registered = dict(_registered(readiness.fileno()))
    registered.pop(readiness._later.fileno())
    for listener in world.parts.poller._listeners.values():
        registered.pop(listener.descriptor)
    later = dict(_registered(readiness._later.fileno()))
    assert not later.keys() & registered.keys()
    assert registered == {each.descriptor: each.interest & ~BEHIND for each in everybody if not each.interest & LATER}
    assert later == {each.descriptor: each.interest & ~(LATER | BEHIND) for each in everybody if each.interest & LATER}


def _registered(epoll: int) -> Iterator[tuple[int, int]]:
    with open(f"/proc/self/fdinfo/{epoll}") as lines:  # noqa: PTH123  read 50 times an example
        for line in lines:
            if line.startswith("tfd:"):
                _, descriptor, _, events, *_ = line.split()
                yield int(descriptor), int(events, 16) & (READ | WRITE)


def _unfinished(connection: Connection) -> Iterator[tuple[int, int]]:
    """Of each thing that is not whole: the bytes that it keeps, and those that are counted."""
    session = connection.session
    if isinstance(connection, Secured):
        yield len(connection.sealed), connection.counted
    if isinstance(session, Upload):
        yield len(session.head) + session.body.kept, session.counted
    elif isinstance(session, Session):
        frames = len(session.assembly.frames) if session.assembly else 0
        yield len(connection.inbox) + frames, session.counted
    elif connection.phase is Phase.HEAD:
        yield len(connection.inbox), session.counted if isinstance(session, LongHead) else 0


def _check_counts(world: World, everybody: list[Connection]) -> None:
    parts = world.parts
    held = len(everybody)
    networks = Counter(network_of(each.address) for each in everybody)
    assert parts.connections.held == parts.admission.held == held <= PLACES
    assert parts.admission._by_address == dict(networks), "an address is counted wrongly"
    used = 0
    for kept, counted in (pair for each in everybody for pair in _unfinished(each)):
        assert counted == (kept if kept > SMALL else 0), "what is unfinished is not what is counted"
        used += counted
    assert parts.http.intake.unfinished.used == used, "something is counted that nobody keeps, or the reverse"
    assert used <= SETTINGS["all_unfinished_bytes"]
    assert max(networks.values(), default=0) <= PER_ADDRESS
    gone = 0 if parts.poller._listeners else 2  # a listening socket and its spare descriptor
    mine = sum(puppet.open for puppet in world.puppets) + world.neighbour.here
    assert descriptors() == world.fixed - gone + held + mine, "a descriptor has leaked"
    known = {each.descriptor for each in everybody}
    for tick, (_, entries) in parts.connections.wheel._slots.items():
        assert tick > parts.connections.wheel._turned, "a slot was passed over"
        assert len(entries) < 1000, "entries of the gone pile up"
        known.difference_update(entries)
    assert not known


def _check_faults(world: World) -> None:
    lines = [line for line in world.logs if line["log_level"] in ("error", "critical")]
    assert len(lines) == world.planted, lines
    assert world.parts.connections.faults <= world.planted


# -- chat -----------------------------------------------------------------------------------------------------------


def _check_rooms(world: World, everybody: list[Connection]) -> None:
    members: dict[Room, list[Member]] = {}
    holds: dict[Room, list[Hold]] = {}
    alone: dict[str, Member] = {}
    for connection in everybody:
        session = connection.session
        if isinstance(session, Session):
            found = list(session.rooms())
            assert len({member.room_name for member in found}) == len(found), "twice in a room"
            assert len(found) <= SETTINGS["max_rooms_per_connection"]
            for member in found:
                if member.state is State.ALONE:
                    alone[member.room_name] = member
                else:
                    members.setdefault(member.room, []).append(member)
        elif isinstance(session, Member):
            members.setdefault(session.room, []).append(session)
        elif isinstance(session, Hold):
            wait = session.first
            while wait is not None:
                holds.setdefault(wait.room, []).append(session)
                wait = wait.next
    hub = world.parts.hub
    counted = hub.statistics()
    assert counted["members"] == sum(map(len, members.values())) + len(alone), "memberships are counted that are none"
    _check_alone(hub, alone)
    assert counted["holds"] == sum(map(len, holds.values())), "polls are counted that nobody holds"
    for room in {*members, *holds, *hub.rooms.values()}:
        assert hub.rooms.get(room.name) is room, f"somebody is in {room.name}, which is not in memory"
        _check_room(world, room, members.get(room, []), holds.get(room, []))
    keeping = sum(room.ring.statistics()["kept"] + sum(map(len, room.cache.values())) for room in hub.rooms.values())
    assert hub.registry._shelf.used == keeping, "the shelf counts what nobody keeps"


def _check_alone(hub: Hub, alone: dict[str, Member]) -> None:
    assert hub.registry._unopened._alone == alone, "somebody is alone who is not there, or the reverse"
    assert not alone.keys() & hub.rooms.keys(), "a room is open and unopened"
    silent = sum(room.last == 0 for room in hub.rooms.values() if room.life is Life.READY)
    assert hub.registry.unwritten == silent + len(alone), "unwritten rooms are counted that are none"


def _check_room(world: World, room: Room, members: list[Member], holds: list[Hold]) -> None:
    assert set(room.members) == set(members), f"a membership of {room.name} has leaked"
    assert set(room.holds) == set(holds), f"a held poll of {room.name} has leaked"
    present = Counter(member.user for member in members)
    present.update(hold.user for hold in holds)
    present.update(room.presence._leases.keys())
    assert room.presence._count == dict(present), f"{room.name} counts somebody who is not there, or the reverse"
    assert room.pins == 0 or not world.log.well
    assert min(room.pending, room.pending_bytes) >= 0
    if not world.log.well or room.life is Life.LOADING:
        return
    assert (room.pending, room.pending_bytes) == (0, 0), "a publish is never answered"
    assert room.walk is None
    assert room.waking is None
    assert not room.paused, "publishers are never resumed"
    assert not room.congested
    for hold in holds:
        assert not hold.lacks_news_of(room), "a poll was forgotten"
    for member in members:
        assert member.state is State.LIVE
        connection = member.connection
        assert isinstance(connection, Connection)
        assert member.cursor >= room.last or connection.interest & WRITE, "a wake-up was lost"
        assert not member.uninformed or connection.interest & WRITE, "it has room again, and was not told who is here"


def _check_queues(world: World) -> None:
    """Nothing waits in a queue of ours, unless the log is slow."""
    parts = world.parts
    assert not parts.connections.pending
    assert not parts.connections.insatiable
    assert not parts.connections.asked.is_set()
    statistics = parts.hub.pump.statistics()
    assert statistics["rooms"] == 0
    if parts.tls is not None:
        assert not parts.tls._hellos
    if world.log.well:
        assert statistics["behind"] == 0
        assert parts.log.statistics().pending == 0
        assert parts.http._tasks.statistics() == {"running": 0, "waiting": 0}, "a task is never done"


# -- the end --------------------------------------------------------------------------------------------------------


def check_only_the_neighbour_is_left(world: World) -> None:
    """When all others have gone and time has passed: what there was at the beginning."""
    check(world)
    parts = world.parts
    hub = parts.hub
    assert parts.admission.statistics() == {"held": 1, "addresses": 1}
    left = hub.statistics()
    assert (left["rooms"], left["members"], left["holds"]) == (1, 1, 0), "an empty room stayed in memory"
    assert (len(hub.registry._empty), len(hub._leasing), len(hub._changed), len(hub._arrived)) == (0, 0, 0, 0)
    assert len(parts.publish_rate) == 0
    assert parts.connections.wheel.statistics()["entries"] <= 2, "entries of the gone stay in the wheel"
    last = hub.rooms["lobby"].last if "lobby" in hub.rooms else 0  # else it is alone, and nothing was ever said
    assert world.neighbour.hearing.reached["lobby"] == last, "the neighbour missed something"


def _check_nothing_is_left(world: World) -> None:
    """The server has ended, or only its log has not."""
    assert world.exit_code in (None, 0)
    parts = world.parts
    assert not any(parts.connections.table)
    assert parts.connections.held == 0
    assert parts.admission.statistics() == {"held": 0, "addresses": 0}
    assert parts.http.intake.unfinished.used == 0
    assert not any(room.members or room.holds for room in parts.hub.rooms.values())
    mine = sum(puppet.open for puppet in world.puppets) + world.neighbour.here
    assert descriptors() == world.fixed - 4 + mine, "a descriptor has leaked"  # listener, its spare, two of epoll
