"""Invariant: when the server is at rest no work is left undone, and every wait has a reason.

Owns: what must hold between two rules of the machine and at the end, besides `invariants`. May not: change anything.
"""

import select
import socket
from collections.abc import Iterator

from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.member import Member, PollWaiter, Source
from chatserver.chat.policy import Action
from chatserver.chat.room import Room
from chatserver.edge.websocket import TASK_MARGIN
from chatserver.net.connection import HANGUP, QUEUED, Connection
from chatserver.net.readiness import READ, WRITE
from chatserver.net.states import TABLE, State
from chatserver.net.wheel import ticks
from tests.fuzz import invariants
from tests.fuzz.grammar import LOBBY
from tests.fuzz.invariants import describe
from tests.fuzz.puppet import Puppet
from tests.fuzz.world import LISTENERS, SETTINGS, World
from tests.support import kqueue
from tests.support.parked import descriptors

_FLUSH_TICKS = ticks(SETTINGS["flush_window"])
_BODY_MORE = ticks(SETTINGS["body_deadline_max"] - SETTINGS["body_deadline"])
#: Ticks beyond the limit of their state that some states allow: for progress, and so that a WebSocket's task is first.
_MORE = {
    **{state: _BODY_MORE for state, row in TABLE.items() if not row.total},
    State.REPLYING: ticks(TASK_MARGIN),
}
#: States of an open WebSocket in which nothing is unfinished.
_AT_EASE = (State.OPEN, State.PINGED)
#: Real seconds in which the kernel delivers over loopback even on a busy machine.
_DELIVERY = 0.05
#: EPOLLERR and EPOLLHUP, which the kernel adds by itself, except to a disarmed one-shot.
_BROKEN = select.EPOLLERR | select.EPOLLHUP
#: Descriptors of a listener: its socket and its spare one; and those of a server's epoll.
_OF_LISTENER, _OF_EPOLL = 2, 2


async def check_when_quiet(world: World) -> None:
    """Check when nothing can be done; if that fails, once more, since the kernel may have delivered just then."""
    await world.settle()
    try:
        check(world)
    except AssertionError:
        await world.settle(_DELIVERY)
        check(world)


def check(world: World) -> None:
    if world.breach is not None:
        raise world.breach
    _check_faults(world)
    if world.stopped:
        _check_nothing_is_left(world)
        return
    invariants.check(world)
    _check_work_is_done(world)
    everybody = [each for each in world.parts.connections.table if each is not None]
    for connection in everybody:
        try:
            _check_connection(world, connection)
        except AssertionError as error:
            error.add_note(f"{describe(connection)} at tick {world.parts.connections.wheel.current}")
            raise
    _check_kernel(world, everybody)
    _check_descriptors(world, everybody)
    for room in world.parts.hub.rooms.values():
        _check_room(world, room)
    if world.log.well:
        _check_hearing(world, everybody)


def _check_faults(world: World) -> None:
    lines = [line for line in world.logs if line["log_level"] in ("error", "critical")]
    assert len(lines) == world.planted, lines
    assert world.parts.connections.faults.count <= world.planted


def _check_work_is_done(world: World) -> None:
    """No queue has an entry, unless the log is slow."""
    parts = world.parts
    scheduler = parts.connections.scheduler
    assert scheduler.idle, scheduler.statistics()
    assert scheduler.asleep or parts.poller.naps, "new work would not wake it"
    if world.log.well:
        assert not parts.hub.behind.places
        assert parts.log.statistics().pending == 0
        for tasks in parts.exchanges._tasks.values():
            assert tasks.statistics() == {"running": 0, "waiting": 0}, "a task never ends"
        assert len(parts.hub.reader) == 0


# -- one connection -------------------------------------------------------------------------------------------------


def _check_connection(world: World, connection: Connection) -> None:
    state, context = connection.state, connection.context
    assert not connection.armed & QUEUED
    _check_deadline(world, connection)
    if not connection.blocked:
        _check_why_silent(world, connection)
    if isinstance(context, WebSocketSession):
        if state in _AT_EASE and not connection.blocked:
            assert not connection.inbox, "its input is never read"
            assert context.assembly is None
        assert context.in_flight == 0 or not world.log.well, "a publish is never answered"


def _check_deadline(world: World, connection: Connection) -> None:
    """The deadline is in the future, and no later than the state allows."""
    wheel = world.parts.connections.wheel
    assert wheel.entries[connection.descriptor], "it is not in the wheel"
    assert connection.deadline > wheel._turned, "its deadline is over and was not handled"
    latest = wheel.due[connection.state] - wheel.current + _MORE.get(connection.state, 0)
    if connection.backlog is None:
        assert connection.deadline - wheel.current <= latest, "its deadline is later than its state allows"
    else:
        assert connection.deadline - wheel.current <= _FLUSH_TICKS, "its deadline in FLUSH is over a window"
        assert 0 < connection.backlog.remaining <= latest, "its remaining time is over that of its state"


def _check_why_silent(world: World, connection: Connection) -> None:
    """A connection waits for the server only while the log is slow; else its input is consumed."""
    state, context = connection.state, connection.context
    match state:
        case State.SERVING:
            assert not world.log.well, "its answer is never sent"
        case State.REPLYING if isinstance(context, WebSocketSession):
            assert not world.log.well, "its reply is never sent"
        case State.PAUSED:
            assert not world.log.well, "its publisher is never resumed"
        case State.KEEPALIVE | State.HELD:
            assert not connection.inbox, "its request is never read"
            assert not world.draining, "it is idle, and delays the drain"


# -- all of them ----------------------------------------------------------------------------------------------------


def _check_kernel(world: World, everybody: list[Connection]) -> None:
    """Each connection is registered for the events that it is armed for."""
    readiness = world.parts.connections._readiness
    listeners = world.parts.poller._listeners.values()
    filters = kqueue.filters_of(readiness)
    if filters is not None:
        expected = {(each.descriptor, each.armed) for each in everybody if each.armed & (READ | WRITE)}
        expected.update((each.descriptor, READ) for each in listeners if not each.resting)
        assert expected <= {(descriptor, note.udata) for (descriptor, _), note in filters.items()}
        return
    registered = dict(_registered(readiness.fileno()))
    registered.pop(readiness._waker)
    for listener in listeners:
        events = registered.pop(listener.descriptor)
        assert events & READ or listener.resting, "the listener does not accept"
    assert registered.keys() == {each.descriptor for each in everybody}
    for each in everybody:
        events = registered[each.descriptor]
        if each.armed:
            assert events & _BROKEN == _BROKEN, f"not armed: {describe(each)}"
            wanted = 0 if each.armed == HANGUP else each.armed
            assert events & (READ | WRITE) == wanted, f"armed for other events: {describe(each)}"


def _registered(epoll: int) -> Iterator[tuple[int, int]]:
    with open(f"/proc/self/fdinfo/{epoll}") as lines:  # noqa: PTH123  read 50 times an example
        for line in lines:
            if line.startswith("tfd:"):
                _, descriptor, _, events, *_ = line.split()
                yield int(descriptor), int(events, 16)


def _check_descriptors(world: World, everybody: list[Connection]) -> None:
    gone = 0 if world.parts.poller._listeners else LISTENERS * _OF_LISTENER
    mine = sum(puppet.open for puppet in world.puppets) + world.neighbour.here
    assert descriptors() == world.fixed - gone + len(everybody) + mine, "a descriptor has leaked"
    wheel = world.parts.connections.wheel
    for tick, numbers in wheel._slots.items():
        assert tick > wheel._turned, "a slot was skipped"
        assert len(numbers) < 1000, "entries of closed connections accumulate"


def _check_room(world: World, room: Room) -> None:
    assert room.broadcast is None, f"a pass in {room.name} never ends"
    assert room.answering is None, f"a pass over the polls of {room.name} never ends"
    assert room.presence_since is None, f"presence of {room.name} is never told"
    if not world.log.well or not room.ready:
        return
    assert room.pins == 0, f"{room.name} is never released"
    assert (room.pending, room.pending_bytes) == (0, 0), "a publish is never answered"
    assert not room.paused, "publishers are never resumed"
    if world.rooms_lost:
        return
    assert not room.congested
    here = {*room.members.values(), *(waiter.principal for waiter in room.waiters or ())}
    moderation = world.parts.moderation
    assert not any(moderation.sanction_on(each, Action.READ, room.name) for each in here), "a banned one is in the room"
    for waiter in room.waiters or ():
        assert not waiter.lacks_news_of(room), "a poll is never answered"
    for member in room.members:
        assert member.source is Source.RING
        connection = member.connection
        assert isinstance(connection, Connection)
        assert member.cursor <= room.last, "its cursor is beyond the last message"
        assert member.cursor == room.last or connection.blocked, "a wake-up was lost"
        assert member not in (member.room.uninformed or ()) or connection.blocked, (
            "it has room again and gets no presence"
        )


# -- received messages ----------------------------------------------------------------------------------------------


def _check_hearing(world: World, everybody: list[Connection]) -> None:
    """Every durable message has reached every member that takes its data."""
    by_peer = {} if world.rooms_lost else {_peer(each): each for each in everybody}
    for puppet in world.puppets:
        connection = by_peer.get(puppet.end_point) if puppet.caught_up else None
        if connection is not None and puppet.hearing.readable and world.took_all(connection):
            _check_heard(world, puppet, connection)
    for hearing in (world.neighbour.hearing, *(puppet.hearing for puppet in world.puppets)):
        if hearing.readable:
            wrong = {place for place, texts in hearing.heard.items() if not texts <= world.log.texts.get(place, set())}
            assert not wrong, f"received unknown texts: {wrong}"
            assert hearing.promised <= world.log.texts.keys(), "acknowledged but not durable"
    if world.neighbour.here and not world.neighbour.may_go and not world.rooms_lost:
        last = world.log.last(LOBBY)
        assert world.neighbour.hearing.reached[LOBBY] == last, "the neighbour missed a message"


def _check_heard(world: World, puppet: Puppet, connection: Connection) -> None:
    context = connection.context
    if isinstance(context, WebSocketSession):
        there = {member.room.name for member in context.rooms()}
        believed = puppet.hearing.reached
        assert believed.keys() == there, f"its client counts rooms {set(believed)}, the server {there}"
        lasts = {name: world.log.last(name) for name in there}
        assert believed == lasts, f"it received up to {believed} of {lasts}"
    elif isinstance(context, Member) and "events" in puppet.hearing.reached:
        assert puppet.hearing.reached["events"] == world.log.last(context.room.name), "an event was not sent"
    elif isinstance(context, PollWaiter):
        assert not any(world.log.last(room.name) > after for room, after in context.places()), "a poll was not answered"


def _peer(connection: Connection) -> tuple[str, int] | None:
    borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=connection.descriptor)
    try:
        host, port = borrowed.getpeername()
    except OSError:
        return None  # it has been reset
    else:
        return host, port
    finally:
        borrowed.detach()


# -- the end --------------------------------------------------------------------------------------------------------


def check_nobody_is_left(world: World) -> None:
    """When all connections have closed and time has passed, nothing is left."""
    check(world)
    parts = world.parts
    hub = parts.hub
    assert parts.admission.networks == 0
    left = hub.statistics()
    assert (left["rooms"], left["members"], left["waiters"]) == (0, 0, 0), "an empty room stayed in memory"
    assert hub.budget.used == parts.input_budget.used == 0
    assert len(parts.input_budget) == 0
    registry = hub.registry
    kept = (
        registry._empty, registry._empty_of_network, registry._of_network, registry._unwritten,
        hub.housekeeping._leasing, hub.housekeeping._changed, hub.housekeeping._due, hub.housekeeping._noticing,
    )  # fmt: skip
    assert not any(kept), kept
    limits = parts.services.write_limits
    assert len(limits.users) == len(limits.networks) == len(limits.markers) == len(limits.sign_outs) == 0
    assert parts.connections.wheel.statistics()["entries"] == 0, "entries of closed connections stay in the wheel"


def _check_nothing_is_left(world: World) -> None:
    """The server has ended, perhaps except for its log."""
    assert world.exit_code in (None, 0)
    parts = world.parts
    assert not any(parts.connections.table)
    assert parts.connections.held == 0
    assert parts.admission.networks == 0
    assert (parts.input_budget.used, len(parts.input_budget)) == (0, 0)
    assert not parts.connections.operators
    assert parts.handshakes is None or not parts.handshakes.half_open
    assert not any(room.members or room.waiters or room.paused for room in parts.hub.rooms.values())
    mine = sum(puppet.open for puppet in world.puppets) + world.neighbour.here
    left = world.fixed - LISTENERS * _OF_LISTENER - _OF_EPOLL
    assert descriptors() == left + mine, "a descriptor has leaked"
