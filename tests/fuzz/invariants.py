"""Invariant: at any moment every connection is in one state, with a deadline that ends it, and nothing leaks.

Owns: what must hold between any two steps of the scheduler. What must also hold when the server is at rest is in
`tests/fuzz/at_rest.py`. May not: change anything. Both look into the server's parts, because a leak is not seen from
outside until it is large.
"""

import os
import reprlib
import stat
from collections import Counter
from collections.abc import Iterable
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

from chatserver.api import conversation
from chatserver.api.websocket_session import Ending, Waits, WebSocketSession
from chatserver.chat.member import Member, PollWaiter, Source
from chatserver.chat.room import Room
from chatserver.edge.requests import Upload
from chatserver.fair import FairQueue
from chatserver.meters import ByteBudget, FairByteBudget
from chatserver.net.admission import OPERATOR_PLACES
from chatserver.net.connection import HANGUP, QUEUED, RESUMED, Connection
from chatserver.net.connections import FREE_INPUT
from chatserver.net.readiness import READ, WRITE
from chatserver.net.states import TABLE, Reads, State
from chatserver.net.tls_transport import TlsTransport
from chatserver.net.transport import PLAIN
from tests.fuzz.world import HALF_OPEN, PER_ADDRESS, PLACES, PROXY, SETTINGS, World

_SHORT = reprlib.Repr()
_SHORT.maxother = 1000
#: The events that the kernel is asked for, by the table's column.
ASKED = {Reads.YES: READ, Reads.NO: 0, Reads.HANGUP: HANGUP}
#: States of a TLS server in which nothing is encrypted: before the end of the handshake, and after the last byte.
UNSEALED = frozenset((State.PROXY, State.TLS_HELLO, State.TLS_HANDSHAKE, State.CLOSING, State.LINGERING))
#: States in which the inbox is empty once its bytes have been handled.
EMPTY_HANDED = frozenset((State.TLS_HANDSHAKE, State.HELD, State.STREAM, State.CLOSING, State.LINGERING))
#: Steps of the scheduler that attend to a connection, by their names.
ATTENDING = frozenset(("_read", "_write", "_reset", "_resume"))
#: Bytes that the server may keep for a peer: received, one read and one head or message; unsent, one page, one frame
#: and the answers to what was read before the peer was known to be behind.
MOST_INBOX, MOST_BACKLOG = 2 * 16_384 + 1024, 256 * 1024

Queued = dict[Connection, set[str]]
"""What waits in the scheduler for a connection: the names of the steps."""


def check(world: World) -> None:
    connections = world.parts.connections
    everybody = [each for each in connections.table if each is not None]
    waiting = queued(world)
    for connection in everybody:
        try:
            _check_connection(world, connection, waiting.get(connection, set()))
        except AssertionError as error:
            error.add_note(f"{describe(connection)} at tick {connections.wheel.current}")
            raise
    _check_places(world, everybody)
    _check_input_budget(world.parts.input_budget, everybody)
    _check_chat(world, everybody, waiting)


def describe(connection: Connection) -> str:
    return f"{connection.state.name} {type(connection.context).__name__} {_SHORT.repr(connection)}"


def queued(world: World) -> Queued:
    """The steps that wait in the scheduler, after a check of its queues."""
    found: Queued = {connection: {"_expire_in_turn"} for connection in world.parts.poller._at_rest}
    for queue in world.parts.connections.scheduler._queues:
        for step, item, _ in entries(queue):
            if isinstance(item, Connection):
                steps = found.setdefault(item, set())
                assert step.__name__ not in ATTENDING or not steps & ATTENDING, "a connection is queued twice"
                steps.add(step.__name__)
                if step.__name__ in ATTENDING and item.armed & RESUMED:
                    steps.add("_resume")  # by the same step
    return found


def entries(queue: FairQueue[Any]) -> Iterable[Any]:
    """The entries of a queue; the queue itself is proved in tests/test_fair.py."""
    return chain.from_iterable(queue._lines.values())


# -- one connection -------------------------------------------------------------------------------------------------


def _check_connection(world: World, connection: Connection, waiting: set[str]) -> None:
    connections = world.parts.connections
    state, context = connection.state, connection.context
    assert connections.table[connection.descriptor] is connection, "a connection is at another descriptor's place"
    assert stat.S_ISSOCK(os.fstat(connection.descriptor).st_mode), "its descriptor is no socket"
    assert isinstance(context, connections.context_types[state]), "a context of another state"
    _check_deadline(world, connection, waiting)
    _check_armed(connection, waiting)
    _check_kept(world, connection)
    if isinstance(context, WebSocketSession):
        _check_session(connection, context, waiting)
    elif isinstance(context, PollWaiter | Member):
        assert context.connection is connection, "its waiter has another connection"
    elif isinstance(context, Room):
        paused = context.paused
        assert (paused and connection in paused) or "_resume" in waiting, "its publisher is never resumed"


def _check_deadline(world: World, connection: Connection, waiting: set[str]) -> None:
    """The connection is in the wheel at or before its deadline, or its expiry is queued."""
    wheel = world.parts.connections.wheel
    entry = wheel.entries[connection.descriptor]
    if entry == 0:
        assert waiting & {"_expire_in_turn", "_expire"}, "its deadline is not checked"
        return
    assert wheel._turned < entry <= connection.deadline, "its entry is after its deadline"
    assert connection.descriptor in wheel._slots[entry], "the connection is not in the wheel"


def _check_armed(connection: Connection, waiting: set[str]) -> None:
    """The connection is registered with the kernel or queued in the scheduler."""
    if connection.armed & QUEUED:
        assert waiting & ATTENDING, "it is marked as queued, and is not"
    else:
        wanted = WRITE if connection.blocked else ASKED[TABLE[connection.state].reads]
        assert connection.armed == wanted, "it is not armed as its state says"


def _check_kept(world: World, connection: Connection) -> None:
    assert len(connection.inbox) <= MOST_INBOX
    assert not connection.inbox or connection.state not in EMPTY_HANDED, "its inbox is never read"
    backlog, transport = connection.backlog, connection.transport
    if backlog is not None:
        kept = sum(map(len, backlog.chunks)) - backlog.position
        assert 0 <= kept <= MOST_BACKLOG, f"{kept} bytes are kept for it"
        assert backlog.blocked or not backlog.chunks, "a backlog is kept for a connection that is not blocked"
    if world.secure and connection.state not in UNSEALED:
        assert isinstance(transport, TlsTransport), "it would be sent plaintext"
        assert len(transport.sealed) <= MOST_INBOX
        assert connection.blocked or not transport.unsent, "a record is never sent"
    elif not world.secure:
        assert transport is PLAIN


def _check_session(connection: Connection, session: WebSocketSession, waiting: set[str]) -> None:
    assert session.in_flight >= 0
    assert session.waits is not Waits.GONE
    if connection.state is not State.REPLYING:
        assert session.waits is Waits.NOTHING, "it is read although it waits"
    elif isinstance(session.waits, Room):
        paused = session.waits.paused
        assert (paused and connection in paused) or "_resume" in waiting, "its publisher is never resumed"
    elif session.waits is Waits.LOG:
        most = conversation.MAX_IN_FLIGHT
        assert session.in_flight >= most or "_resume" in waiting, "it still waits for durable publishes"
    elif isinstance(session.waits, Ending):
        assert session.in_flight or "_resume" in waiting, "its close is never answered"
    else:
        assert session.waits is Waits.TASK or "_resume" in waiting, "it waits for nothing"
    if connection.state is State.MESSAGE:
        assert connection.inbox or session.assembly is not None, "no message is unfinished"


# -- all of them ----------------------------------------------------------------------------------------------------


def _check_places(world: World, everybody: list[Connection]) -> None:
    """Counts agree with the table, and no closed connection is remembered."""
    parts, alive = world.parts, set(everybody)
    networks = Counter(each.network for each in everybody)
    assert parts.connections.held == len(everybody) <= PLACES + OPERATOR_PLACES
    assert len(everybody) - len(parts.connections.operators) <= PLACES
    assert parts.admission._by_network == dict(networks), "a network is counted wrongly"
    assert parts.admission._proxies <= networks.keys(), "a proxy without connections is kept"
    del networks[PROXY]  # has no cap of its own
    assert max(networks.values(), default=0) <= PER_ADDRESS
    assert parts.connections.operators <= alive, "a closed connection counts as an operator"
    assert parts.connections.demotion._peers <= alive, "a closed connection is demoted"
    forwarded = parts.exchanges._forwarded
    assert forwarded is not None
    assert forwarded._proxy_of.keys() <= alive, "a closed connection counts for a proxy"
    idle = {each for each in everybody if each.state is State.KEEPALIVE and not each.blocked}
    assert not forwarded._proxy_of.keys() & idle, "a proxy's idle connection counts for a client"
    assert forwarded._unnamed <= alive, "a closed connection's fields are not believed"
    for each in alive - forwarded._unnamed:
        if isinstance(each.context, Upload) and b"X-Forwarded-For" in each.context.head:
            assert each.address != PROXY, "a client's body counts for its proxy"
    if parts.handshakes is not None:
        halfway = {each for each in everybody if each.state is State.TLS_HANDSHAKE}
        assert parts.handshakes.half_open.keys() == halfway, "an ended handshake counts as half-open"
        assert len(halfway) <= HALF_OPEN
    for tasks in parts.exchanges._tasks.values():
        assert tasks.statistics()["waiting"] == len(list(entries(tasks._waiting))) == len(tasks._of)
        assert tasks._of.keys() <= alive, "a request of a closed connection still waits"


def _check_input_budget(budget: FairByteBudget, everybody: list[Connection]) -> None:
    """Incomplete input is charged, and nothing else."""
    kept: dict[object, int] = {}
    for each in everybody:
        context, state = each.context, each.state
        if isinstance(context, Upload):
            assert not each.inbox
            kept[context] = len(context.head) + context.body.kept
        elif isinstance(context, WebSocketSession):
            kept[each] = len(each.inbox) + (0 if context.assembly is None else len(context.assembly.frames))
        else:
            kept[each] = len(each.inbox)
        transport = context if state is State.TLS_HANDSHAKE else each.transport
        if isinstance(transport, TlsTransport):
            kept[transport] = len(transport.sealed)
    expected = {holder: size - FREE_INPUT for holder, size in kept.items() if size > FREE_INPUT}
    assert {holder: charge for holder, (charge, _) in budget._charged.items()} == expected, "the charges differ"
    by_network = Counter[str]()
    for charge, network in budget._charged.values():
        by_network[network] += charge
    assert by_network == budget._networks
    assert budget.used == sum(expected.values())
    for rank, sum_kept in enumerate(sorted(budget._networks.values(), reverse=True), 1):
        assert sum_kept * rank <= SETTINGS["all_unfinished_bytes"], "a network keeps more than its share"


# -- chat -----------------------------------------------------------------------------------------------------------


def _check_chat(world: World, everybody: list[Connection], waiting: Queued) -> None:
    hub = world.parts.hub
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
            for waited, _ in context.places():
                waiters.setdefault(waited, []).append(context)
    counted = hub.statistics()
    assert counted["members"] == sum(map(len, members.values())), "the count of memberships is wrong"
    assert counted["waiters"] == sum(map(len, waiters.values())), "the count of held polls is wrong"
    assert hub.housekeeping.leases == sum(hub.housekeeping._leasing.values()), "the count of leases is wrong"
    rooms = list(hub.rooms.values())
    for room in {*members, *waiters, *rooms}:
        assert hub.rooms.get(room.name) is room, f"{room.name} has members and is not in memory"
        _check_room(room, members.get(room, []), waiters.get(room, []), waiting)
        leases = room.presence.leases
        assert leases <= hub.housekeeping._leasing.get(room, 0), f"leases of {room.name} do not end"
        told = room.presence_since is not None or room in hub.housekeeping._changed
        assert not room.presence.changed or told, f"presence of {room.name} is not told"
        assert room.notices is None or room in hub.housekeeping._noticing, f"typing in {room.name} is not told"
    _check_registry(world, rooms)
    _check_rings(hub.budget, rooms)
    _check_catch_up(world, [member for each in members.values() for member in each])


def _check_room(room: Room, members: list[Member], waiters: list[PollWaiter], waiting: Queued) -> None:
    assert set(room.members) == set(members), f"a membership of {room.name} has leaked"
    assert set(room.waiters or ()) == set(waiters), f"a held poll of {room.name} has leaked"
    for publisher in room.paused or ():
        assert isinstance(publisher, Connection)
        assert publisher.alive, f"a closed publisher waits for {room.name}"
        context = publisher.context
        waits = context if isinstance(context, Room) else getattr(context, "waits", None)
        assert waits is room, f"{room.name} counts a publisher that does not wait"
    presence = room.presence
    assert set(room.uninformed or ()) <= set(members), f"{room.name} keeps a member that has left"
    present = Counter(room.members[member].number for member in members)
    present.update(waiter.principal.number for waiter in waiters)
    present.update((presence._leases or {}).keys())
    several = presence._connections or {}
    counts = {number: several.get(number, 1) for number in (each.number for each in presence.people(len(presence)))}
    assert counts == dict(present), f"the people of {room.name} are counted wrongly"
    assert min(room.pending, room.pending_bytes, room.pins) >= 0
    assert room.offered <= room.last
    if room.broadcast is not None:
        assert room.broadcast.at < len(room.broadcast.members) or room.broadcast.at == 0, "a pass that does not end"


def _check_registry(world: World, rooms: list[Room]) -> None:
    registry = world.parts.hub.registry
    assert registry._of_network == dict(Counter(room.network for room in rooms)), "a network's rooms are miscounted"
    ready = {room for room in rooms if room.ready}
    unwritten = {room for room in ready if room.ring is None}
    assert unwritten == set(registry._unwritten), "a room with messages counts as unwritten"
    assert {room for room in rooms if not room.ready} <= {room for room in rooms if room.pins}
    # A room that is in use may stand among the empty ones until its time is over; the reverse would be a leak.
    of_networks = {network: list(empty) for network, empty in registry._empty_of_network.items()}
    networks = sorted(registry._empty, key=attrgetter("network"))
    assert of_networks == {network: list(empty) for network, empty in groupby(networks, attrgetter("network"))}
    assert registry._empty.keys() <= ready, "a room that is not in memory is to be evicted"
    assert {room for room in ready if room.empty} <= registry._empty.keys(), "an empty room stays in memory"


def _check_rings(budget: ByteBudget, rooms: list[Room]) -> None:
    """Exactly the bytes of rings and cached answers are charged."""
    rings = sum(room.ring.kept for room in rooms if room.ring is not None)
    assert budget.used == rings + sum(len(answer) for room in rooms for answer in (room.cache or {}).values())


def _check_catch_up(world: World, members: list[Member]) -> None:
    """Each member that is fed from the log is at one place; each member at a place is in a room or has left."""
    behind = world.parts.hub.behind
    reading: list[Member] = []
    for (name, cursor), there in behind.places.items():
        for member in there:
            if member.source is Source.NOTHING:
                assert member.connection is None, "a member that has left could still be fed"
                continue
            assert (member.room.name, member.cursor, member.source) == (name, cursor, Source.LOG)
            reading.append(member)
    assert len(reading) == len(set(reading)), "a member is fed twice"
    assert set(reading) == {member for member in members if member.source is Source.LOG}, "a member is not fed"
    assert set(entries(behind.queue)) <= behind.places.keys(), "a queued place has no members"
