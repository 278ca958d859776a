"""Invariant: whatever was done to it, every connection is in one phase, has a deadline, and nothing of anybody leaks.

Owns: what must be so whenever nobody can do anything more until time passes or a peer acts. May not: change anything.
It looks into the parts, because what leaks is not seen from outside until there is much of it.
"""

import os
import reprlib
import stat
from collections import Counter
from collections.abc import Iterator

from chatserver.api.session import Waits, WebSocketSession
from chatserver.chat.member import Member, PollWaiter, Source
from chatserver.chat.room import Life, Room
from chatserver.edge.exchange import PausedPublisher, Upload
from chatserver.edge.websocket import TASK_MARGIN
from chatserver.fair import network_of
from chatserver.net.closing import LINGER_BYTES
from chatserver.net.connection import Closing, Connection
from chatserver.net.connections import FREE_INPUT, Connections
from chatserver.net.readiness import HANGUP, READ, WRITE, Epoll
from chatserver.net.states import ROWS, Reads, State
from chatserver.net.tls_transport import TlsTransport
from chatserver.net.wheel import NEVER, ticks
from tests.fuzz.world import PER_ADDRESS, PLACES, SETTINGS, World
from tests.support.parked import descriptors

_SHORT = reprlib.Repr()
_SHORT.maxother = 1000
#: Bytes that a peer may make us keep: of what it sends, one read and one head or message; of what it does not take,
#: one page, one frame and the answers to what was read before it was known to be behind.
MOST_INBOX, MOST_BACKLOG = 2 * 16_384 + 1024, 256 * 1024
_FLUSH_TICKS = ticks(SETTINGS["flush_window"])
#: Ticks that some have beyond the limit of their state: by progress; a WebSocket so that its task is the first; and a
#: tick where the time of the state before goes on, since part of the current one is over.
_MORE = {
    State.BODY: ticks(SETTINGS["body_deadline_max"] - SETTINGS["body_deadline"]),
    State.REPLYING: ticks(TASK_MARGIN),
    State.TLS_HANDSHAKE: 1,
    State.LINGERING: 1,
}
#: What is armed in a state for a peer that takes what it is sent.
_ARMED = {Reads.YES: READ, Reads.NO: 0, Reads.HANGUP: HANGUP}
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
    _check_armed(world, everybody)
    _check_counts(world, everybody)
    _check_rooms(world, everybody)
    _check_queues(world, everybody)


def describe(connection: Connection) -> str:
    """For whoever has to find out."""
    return f"{connection.state.name} {type(connection.context).__name__} {_SHORT.repr(connection)}"


# -- one connection -------------------------------------------------------------------------------------------------


def _check_connection(world: World, connection: Connection) -> None:
    connections = world.parts.connections
    assert connections.table[connection.descriptor] is connection, "not in its own place"
    assert stat.S_ISSOCK(os.fstat(connection.descriptor).st_mode), "its descriptor is something else"
    _check_deadline(connections, connection)
    _check_context(world, connection)
    backlog = connection.backlog
    if backlog is not None and backlog.blocked:
        assert connection.armed == WRITE, "nobody waits until it can be written to"
        kept = sum(map(len, backlog.chunks)) - backlog.position
        assert kept <= MOST_BACKLOG, f"{kept} bytes are kept for it"
    else:
        assert connection.armed == _ARMED[ROWS[connection.state].reads], "it is not read as its state says"
        assert backlog is None or not backlog.chunks, "something is kept, and nobody waits until it can be written"
        assert not connection.transport.unsent, "a record is stuck"
    assert len(connection.inbox) <= MOST_INBOX
    if isinstance(connection.transport, TlsTransport):
        assert len(connection.transport.sealed) <= MOST_INBOX


def _check_deadline(connections: Connections, connection: Connection) -> None:
    """It is in the wheel, at its deadline or before; and neither is over."""
    wheel = connections.wheel
    assert connection.deadline < NEVER, "no limit is off here"
    assert connection.deadline > wheel._turned, "its deadline is over, and nobody saw"
    assert wheel._turned < connection.entry <= connection.deadline, "its entry is not before its deadline"
    assert connection.descriptor in wheel._slots[connection.entry][1], "it is not in the wheel"
    latest = wheel.due[connection.state] - wheel.current + _MORE.get(connection.state, 0)
    if connection.backlog is None:
        assert connection.deadline - wheel.current <= latest, "its state gives it no such time"
    else:
        assert connection.deadline - wheel.current <= _FLUSH_TICKS, "FLUSH gives it longer than a window"
        assert 0 < connection.backlog.remaining <= latest, "its state has no such time left for it"


def _check_context(world: World, connection: Connection) -> None:
    """What it carries is its state's, is its own, and says why it waits."""
    state, context = connection.state, connection.context
    assert isinstance(context, tuple(world.parts.connections.context_types(state))), "the context of another state"
    match context:
        case WebSocketSession():
            _check_websocket(world, connection, context)
        case PausedPublisher():
            assert connection in (context.room.paused or ()), "the room that it waits for has forgotten it"
            assert context.room.congested, "nobody told it that the room's members have been told"
        case PollWaiter() | Member():
            assert context.connection is connection
        case Closing():
            assert context.dropped <= LINGER_BYTES + MOST_INBOX
        case _:
            assert state is not State.SERVING or not world.log.well, "our answer never comes"
    if state is State.KEEPALIVE and not connection.blocked:
        assert not connection.inbox, "a request of its own is forgotten"


def _check_websocket(world: World, connection: Connection, session: WebSocketSession) -> None:
    assert session.waits is not Waits.GONE
    assert session.in_flight >= 0
    if connection.state is State.REPLYING:
        if isinstance(session.waits, Room):
            assert connection in (session.waits.paused or ()), "the room that it waits for has forgotten it"
            assert session.waits.congested, "nobody told it that the room's members have been told"
        else:
            assert session.waits in (Waits.TASK, Waits.LOG), "it waits for nothing"
            assert not world.log.well, "our answer never comes"
        return
    assert session.waits is Waits.NOTHING, "it waits, and is read"
    if not connection.blocked:
        unfinished = bool(connection.inbox) or session.assembly is not None
        assert unfinished == (connection.state is State.MESSAGE), "half a message has no deadline, or none has one"


# -- all of them ----------------------------------------------------------------------------------------------------


def _check_armed(world: World, everybody: list[Connection]) -> None:
    """The kernel reports just what the table says."""
    readiness = world.parts.connections._readiness
    assert isinstance(readiness, Epoll)
    registered = dict(_registered(readiness.fileno()))
    assert registered.pop(readiness._waker) & READ
    for listener in world.parts.poller._listeners.values():
        registered.pop(listener.descriptor)
    assert registered.keys() == {each.descriptor for each in everybody}
    for each in everybody:
        if each.armed & (READ | WRITE):
            assert registered[each.descriptor] == each.armed, describe(each)


def _registered(epoll: int) -> Iterator[tuple[int, int]]:
    with open(f"/proc/self/fdinfo/{epoll}") as lines:  # noqa: PTH123  read 50 times an example
        for line in lines:
            if line.startswith("tfd:"):
                _, descriptor, _, events, *_ = line.split()
                yield int(descriptor), int(events, 16) & (READ | WRITE)


def _unfinished(connection: Connection) -> Iterator[tuple[object, int]]:
    """Each thing that is not whole: who holds it, and the bytes that it keeps."""
    context = connection.context
    if isinstance(connection.transport, TlsTransport):
        yield connection.transport, len(connection.transport.sealed)
    if isinstance(context, TlsTransport):
        yield context, len(context.sealed)
    elif isinstance(context, Upload):
        yield context, len(context.head) + context.body.kept
    elif isinstance(context, WebSocketSession):
        yield connection, len(connection.inbox) + (len(context.assembly.frames) if context.assembly else 0)
    elif connection.state in (State.HEAD, State.TLS_HELLO):
        yield connection, len(connection.inbox)


def _check_counts(world: World, everybody: list[Connection]) -> None:
    parts = world.parts
    held = len(everybody)
    networks = Counter(network_of(each.address) for each in everybody)
    assert parts.connections.held == parts.admission.held == held <= PLACES
    assert parts.admission._by_network == dict(networks), "a network is counted wrongly"
    keeping = {holder: kept for each in everybody for holder, kept in _unfinished(each) if kept > FREE_INPUT}
    assert parts.input_budget._charged == keeping, "something is charged that nobody keeps, or the reverse"
    assert parts.input_budget.used == sum(keeping.values()) <= SETTINGS["all_unfinished_bytes"]
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
    waiters: dict[Room, list[PollWaiter]] = {}
    for connection in everybody:
        context = connection.context
        if isinstance(context, WebSocketSession):
            found = list(context.rooms())
            assert len({member.room.name for member in found}) == len(found), "twice in a room"
            assert len(found) <= SETTINGS["max_rooms_per_connection"]
            for member in found:
                assert member.connection is connection
                members.setdefault(member.room, []).append(member)
        elif isinstance(context, Member):
            members.setdefault(context.room, []).append(context)
        elif isinstance(context, PollWaiter):
            wait = context.first
            while wait is not None:
                waiters.setdefault(wait.room, []).append(context)
                wait = wait.next
    hub = world.parts.hub
    counted = hub.statistics()
    assert counted["members"] == sum(map(len, members.values())), "memberships are counted that are none"
    assert counted["waiters"] == sum(map(len, waiters.values())), "polls are counted that nobody holds"
    for room in {*members, *waiters, *hub.rooms.values()}:
        assert hub.rooms.get(room.name) is room, f"somebody is in {room.name}, which is not in memory"
        _check_room(world, room, members.get(room, []), waiters.get(room, []))
    rooms = hub.rooms.values()
    keeping: dict[object, int] = {room.ring: room.ring.kept for room in rooms if room.ring is not None}
    keeping |= {room: sum(map(len, room.cache.values())) for room in rooms if room.cache}
    assert hub.budget._charged == {holder: size for holder, size in keeping.items() if size}, (
        "something is charged that nobody keeps, or the reverse"
    )
    assert hub.budget.used == sum(keeping.values())
    assert hub.registry._of_network == Counter(room.network for room in rooms), "a network's rooms are counted wrongly"
    ready = [room for room in rooms if room.life is Life.READY]
    assert set(hub.registry._unwritten) == {room for room in ready if room.last == 0}


def _check_room(world: World, room: Room, members: list[Member], waiters: list[PollWaiter]) -> None:
    assert set(room.members) == set(members), f"a membership of {room.name} has leaked"
    assert set(room.waiters or ()) == set(waiters), f"a held poll of {room.name} has leaked"
    present = Counter(member.principal.number for member in members)
    present.update(waiter.principal.number for waiter in waiters)
    present.update((room.presence._leases or {}).keys())
    assert room.presence._people.keys() == present.keys(), f"{room.name} counts somebody who is not there"
    often = {number: count for number, count in present.items() if count > 1}
    assert (room.presence._connections or {}) == often, f"{room.name} counts somebody too often, or not often enough"
    for connection in room.paused or ():
        assert isinstance(connection, Connection)
        assert connection.alive, f"{room.name} would act on a publisher that is gone"
    if room.life is not Life.READY:
        assert not world.log.well, f"{room.name} never finished loading"
        return
    assert room.broadcast is None
    assert room.answering is None
    assert room.pending >= 0
    assert room.pending_bytes >= 0
    if world.log.well:
        assert (room.pending, room.pending_bytes, room.pins) == (0, 0, 0)
        assert not room.paused, "a publisher was forgotten"
    if world.planted:
        return  # a fault may cost a room one pass: what was not told then, the next one tells
    for waiter in waiters:
        assert not waiter.lacks_news_of(room), "a poll was forgotten"
    for member in members:
        assert member.cursor <= room.last, "it was told of what is not"
        connection = member.connection
        assert isinstance(connection, Connection)
        if member.source is Source.LOG:
            assert not world.log.well, "nobody reads on for it"
        elif not connection.blocked:
            assert member.cursor == room.last, "a wake-up was lost"
            assert not member.uninformed, "it has room again, and was not told who is here"


def _check_queues(world: World, everybody: list[Connection]) -> None:
    """Nothing waits in a queue of ours, unless the log is slow; nobody gone is in any."""
    parts = world.parts
    assert parts.connections.scheduler.idle
    if parts.handshakes is not None:
        begun = {each for each in everybody if each.state is State.TLS_HANDSHAKE}
        assert set(parts.handshakes.half_open) == begun, "a handshake is under way that is not, or the reverse"
    if world.log.well:
        assert parts.hub.catch_up.statistics()["places"] == 0
        assert not parts.hub.catch_up._waiting
        assert parts.log.statistics().pending == 0
        assert parts.exchanges._tasks.statistics() == {"running": 0, "waiting": 0}, "a task is never done"
        assert len(parts.exchanges._pages._reading) == 0, "a page is never read"


# -- the end --------------------------------------------------------------------------------------------------------


def check_only_the_neighbour_is_left(world: World) -> None:
    """When all others have gone and time has passed: what there was at the beginning."""
    check(world)
    parts = world.parts
    hub = parts.hub
    assert parts.admission.statistics() == {"held": 1, "addresses": 1}
    left = hub.statistics()
    assert (left["rooms"], left["members"], left["waiters"]) == (1, 1, 0), "an empty room stayed in memory"
    assert (len(hub.registry._empty), len(hub._leasing), len(hub._changed)) == (0, 0, 0)
    assert len(parts.input_budget) == 0
    (room,) = hub.rooms.values()
    assert len(hub.budget) == (room.ring is not None) + bool(room.cache)
    assert len(parts.publish_limit) == 0
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
    assert (parts.input_budget.used, len(parts.input_budget)) == (0, 0)
    assert not any(room.members or room.waiters or room.paused for room in parts.hub.rooms.values())
    mine = sum(puppet.open for puppet in world.puppets) + world.neighbour.here
    assert descriptors() == world.fixed - 4 + mine, "a descriptor has leaked"  # listener, its spare, two of epoll
