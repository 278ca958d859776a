"""Presence across the processes of one chat: what the others report, and what this one reports to them.

Owns: the reports of the others, and what this process has yet to send. May not: know what carries the messages, keep a
process's report for more than a few seconds after it falls silent, or trust it: it is shown to people and decides
nothing.

Once a second each process sends the whole presence of every room in which it has changed. When none has, it sends every
other second that it is alive. Messages may be lost, late or doubled: they are numbered, and a process that misses one
requests all rooms again, which come between two marks. A process that is silent for EXPIRY is forgotten with all its
people.
"""

import math
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import trio

from chatserver.chat.hub import Hub
from chatserver.chat.presence import NAMED_ROOM
from chatserver.chat.principal import Principal
from chatserver.chat.process_messages import (
    Kicked,
    Moved,
    RoomSaid,
    Said,
    Typed,
    decode,
    encode,
    named,
    principal_of,
)
from chatserver.chat.wider_presence import NOBODY, There, WiderPresence
from chatserver.log.interface import Kind, Record

#: Seconds between two messages of a process.
TELL_EVERY = 1.0
#: Seconds of silence after which a process sends that it is alive, in its next round: with 53 processes, waking all
#: others every second took a whole core.
ALIVE_EVERY = 1.5
#: Seconds without a message after which a process is forgotten: a restart of the carrier takes 2, and people stay
#: present for longer than that after a reload anyway.
EXPIRY = 6.0
#: Seconds between two requests to one process for all its rooms, and between two such reports; longer for many rooms:
#: at most ROOMS_AGAIN a second, each counted once for each receiving process, which takes them 0.5% of a core.
AGAIN_EVERY, ROOMS_AGAIN = 3.0, 2_000
#: People in one message (about 5 KB), and in all messages of a round (5 ms of work). Other rooms wait for the next.
PEOPLE_A_MESSAGE, PEOPLE_A_ROUND = 100, 4_000
#: Seconds between two messages of a round: Linux queues 10 datagrams for a process that is not reading.
PAUSE = 0.02
#: People of a large room that all processes together name: clients list 500, and each name is kept in each process.
NAMED_TOGETHER = 2 * NAMED_ROOM
#: People elsewhere whose names are kept, at 0.3 KB. Of a room reported beyond that only the count is kept.
MAX_NAMED = 100_000
#: Notices of each kind in a round: typing, and read markers.
MAX_NOTICES = 500
#: Rooms updated in one step when a process has gone.
ROOMS_A_STEP = 50
#: Bound on the random number of a process.
_PROCESSES = 1 << 60


class Carrier(Protocol):
    """Takes messages to all other processes; each may be lost, late, doubled, or come back."""

    def tell(self, message: bytes) -> None:
        """Send a message without waiting."""


@dataclass(slots=True)
class _Process:
    """What another process has reported."""

    number: int  # of its last message
    heard: float  # when that came
    rooms: dict[str, There] = field(default_factory=dict)
    incomplete: bool = False  # one of its messages was lost
    asked: float = -math.inf  # when all its rooms were last requested
    unconfirmed: set[str] | None = None  # rooms that it has not named since it began to report all


class Elsewhere:
    """See the module. `run` sends, `heard` receives. `heard_hint` and `heard_kick` are set from outside."""

    def __init__(self, hub: Hub, carrier: Carrier, clock: Callable[[], float] = trio.current_time) -> None:
        self._hub = hub
        self._carrier = carrier
        self._clock = clock
        self._me = secrets.randbelow(_PROCESSES)
        self._sent = 0  # messages
        self._told_at = -math.inf  # when the last message was sent
        self._processes: dict[int, _Process] = {}
        self._named = 0  # people in other processes whose names are kept
        self._untold: dict[str, None] = {}  # rooms that have changed since they were reported, the oldest change first
        self._note: Callable[[str], object] = self._untold.setdefault  # called when a room's people here have changed
        self._all_wanted = False  # another process lacks something: report all rooms
        self._told_all = -math.inf  # when the last report of all rooms began
        self._begin = False  # the next message begins a report of all rooms
        self._last: str | None = None  # the last room of that report
        self._typed: dict[tuple[str, str], Typed] = {}  # by room and user
        self._moved: dict[tuple[str, int], Moved] = {}
        self._hints: dict[str, None] = {}
        self._kicked: list[Kicked] = []
        self.heard_hint: Callable[[str], None] = lambda name: None
        self.heard_kick: Callable[[str, str], object] = lambda user, room: None
        self.garbled = 0  # messages that could not be decoded
        hub.registry.make_presence = self._make_presence
        hub.note_written = self._written

    async def run(self) -> None:
        """Send this process's reports until cancelled."""
        while True:
            for index, message in enumerate(self._messages()):
                if index:
                    await trio.sleep(PAUSE)
                self._carrier.tell(message)
            await trio.sleep(TELL_EVERY)
            await self._expire()

    # -- what is told -----------------------------------------------------------------------------------------------

    def types(self, room: str, principal: Principal) -> None:
        """Somebody types in a room here."""
        if len(self._typed) < MAX_NOTICES:
            self._typed[room, principal.author.id] = Typed(room, named(principal))

    def _written(self, room: str, records: Sequence[Record]) -> None:
        """What authors here typed until now is sent, see `Notices.written`."""
        for record in records if self._typed else ():
            if record.kind is Kind.MESSAGE:
                self._typed.pop((room, record.user_id), None)

    def moved(self, room: str, principal: Principal, offset: int) -> None:
        """Somebody has read up to an offset here; the same person's connections elsewhere are notified."""
        if len(self._moved) < MAX_NOTICES and self._is_elsewhere(room, principal.number):
            self._moved[room, principal.number] = Moved(room, named(principal), offset)

    def hint(self, name: str) -> None:
        """Tell the other processes to read something from the log again."""
        self._hints[name] = None

    def kick(self, user: str, room: str) -> None:
        """A moderator takes a user out of a room, in every process."""
        if len(self._kicked) < MAX_NOTICES:
            self._kicked.append(Kicked(room, user))

    def _messages(self) -> Iterator[bytes]:
        """The messages of this round."""
        pause = max(AGAIN_EVERY, len(self._hub.rooms) * len(self._processes) / ROOMS_AGAIN)
        if self._all_wanted and self._clock() >= self._told_all + pause:
            self._tell_all()
        again, now = self._lacking(), self._clock()
        news = (again, self._untold, self._typed, self._moved, self._hints, self._kicked)
        if not any(news) and now < self._told_at + ALIVE_EVERY:
            return
        self._told_at = now
        said = self._next()
        said.again = again
        said.typed = list(self._typed.values())
        said.moved = list(self._moved.values())
        said.hints, said.kicked = list(self._hints), list(self._kicked)
        for told in (self._typed, self._moved, self._hints, self._kicked):
            told.clear()
        left = PEOPLE_A_ROUND - self._fill(said)
        yield encode(said)
        while self._untold and left > 0:
            said = self._next()
            left -= self._fill(said)
            yield encode(said)

    def _next(self) -> Said:
        self._sent += 1
        said = Said(self._me, self._sent, self._begin)
        self._begin = False
        return said

    def _fill(self, said: Said) -> int:
        """Add rooms to a message. Returns the number of these rooms plus their named people."""
        size = 0
        while self._untold and size < PEOPLE_A_MESSAGE:
            room = next(iter(self._untold))
            del self._untold[room]
            presence = self._presence(room)
            people = [] if presence is None else [named(each) for each in self._people(presence)]
            said.rooms.append(RoomSaid(room, 0 if presence is None else presence.count_here, people))
            size += len(people) + 1
            if room == self._last:
                self._last, said.end = None, True
                break  # the rooms after it have changed since, and are no part of the full report
        return size

    def _people(self, presence: WiderPresence) -> list[Principal]:
        """The people here who are named to the other processes."""
        is_large = len(presence) > NAMED_ROOM
        share = NAMED_TOGETHER // (len(self._processes) + 1) if is_large else NAMED_ROOM
        return presence.people_here(min(NAMED_ROOM, max(1, share)))

    def _tell_all(self) -> None:
        self._all_wanted, self._told_all = False, self._clock()
        self._untold.update(dict.fromkeys(name for name, room in self._hub.rooms.items() if room.presence.here))
        self._begin = True
        self._last = next(reversed(self._untold), "")
        self._untold[self._last] = None  # with no people anywhere, "" (no possible room) carries the two marks

    def _lacking(self) -> list[int]:
        """Processes whose rooms are all to be requested again."""
        now = self._clock()
        lacking = []
        for number, process in self._processes.items():
            if process.incomplete and now >= process.asked + AGAIN_EVERY:
                process.asked = now
                lacking.append(number)
        return lacking

    def _make_presence(self, name: str) -> WiderPresence:
        presence = WiderPresence(name, self._note)
        for process in self._processes.values():
            there = process.rooms.get(name)
            if there is not None:
                presence.begin_with(there)
        return presence

    def _presence(self, name: str) -> WiderPresence | None:
        """The presence of a room, if it is in memory."""
        room = self._hub.rooms.get(name)
        return room.presence if room is not None and isinstance(room.presence, WiderPresence) else None

    # -- what is heard ----------------------------------------------------------------------------------------------

    def heard(self, message: bytes) -> None:
        """Process a message of another process; one of this process is ignored."""
        try:
            said = decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.garbled += 1
            return
        process = None if said.process == self._me else self._take_turn(said)
        if process is None:
            return
        if said.begin:
            process.incomplete, process.unconfirmed = False, set(process.rooms)
        for room in said.rooms:
            self._take_in(process, room.room, self._there(process, room))
            if process.unconfirmed is not None:
                process.unconfirmed.discard(room.room)
        if said.end and process.unconfirmed is not None:
            for name in process.unconfirmed:
                self._take_in(process, name, NOBODY)
            process.unconfirmed = None
        if self._me in said.again:
            self._all_wanted = True
        for typed in said.typed:
            self._hub.types(typed.room, principal_of(typed.who))
        for moved in said.moved:
            self._hub.moved(moved.room, principal_of(moved.who), moved.offset)
        for hint in said.hints:
            self.heard_hint(hint)
        for kicked in said.kicked:
            self.heard_kick(kicked.user, kicked.room)

    def _take_turn(self, said: Said) -> _Process | None:
        """The process that sent a message. None: the message is a repeated one, or older than the last."""
        process = self._processes.get(said.process)
        if process is None:
            process = self._processes[said.process] = _Process(0, self._clock())
            self._all_wanted |= said.number == 1  # it has just started, and knows no others
        if said.number <= process.number:
            return None
        if said.number > process.number + 1:
            process.incomplete, process.unconfirmed = True, None
        process.number, process.heard = said.number, self._clock()
        return process

    def _there(self, process: _Process, said: RoomSaid) -> There:
        """The people of a room in one process; only their number if too many names are kept already."""
        known = len(process.rooms.get(said.room, NOBODY).people)
        if not said.people or self._named - known + len(said.people) > MAX_NAMED:
            return There(NOBODY.people, said.count)
        people = {each.number: principal_of(each) for each in said.people}
        return There(people, max(0, said.count - len(people)))

    def _take_in(self, process: _Process, name: str, there: There) -> None:
        """Replace what is known of a room in one process, and note the change in the room, if it is in memory."""
        before = process.rooms.get(name, NOBODY)
        if before.same_as(there):
            return  # no change: the usual case in a report of all rooms
        process.rooms.pop(name, None)
        self._named += len(there.people) - len(before.people)
        if there.people or there.unnamed:
            process.rooms[sys.intern(name)] = there  # one string for all processes that are in the room
        room = self._hub.rooms.get(name)
        if room is not None and isinstance(room.presence, WiderPresence):
            was_large = len(room.presence) > NAMED_ROOM
            room.presence.hear(before, there)
            self._hub.note_presence(room)
            if was_large != (len(room.presence) > NAMED_ROOM) and room.presence.here:
                self._untold[name] = None  # report it again: fewer people here are named now, or all of them

    async def _expire(self) -> None:
        """Forget processes that have been silent for EXPIRY, with all their people."""
        now = self._clock()
        for number, process in list(self._processes.items()):
            if process.heard + EXPIRY <= now:
                del self._processes[number]
                for index, name in enumerate(list(process.rooms)):
                    self._take_in(process, name, NOBODY)
                    if index % ROOMS_A_STEP == ROOMS_A_STEP - 1:
                        await trio.lowlevel.checkpoint()

    def _is_elsewhere(self, room: str, number: int) -> bool:
        there = (each.rooms.get(room, NOBODY) for each in self._processes.values())
        return any(number in each.people or each.unnamed for each in there)

    def statistics(self) -> dict[str, int]:
        """Other known processes, and people in rooms there."""
        there = [each for process in self._processes.values() for each in process.rooms.values()]
        return {
            "processes": len(self._processes), "people": sum(len(each.people) + each.unnamed for each in there)
        }  # fmt: skip
