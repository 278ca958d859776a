"""Who is in which room in the other processes of this chat, and what their people are told of ours.

Owns: what the others have said, and what is still to be said to them. May not: know what carries it, keep anything for
longer than a few seconds after its process has gone silent, or trust it: it is shown to people, and decides nothing.

Each process says once a second who is in the rooms in which that has changed, each room completely. Where nothing has,
it says every other second that it is alive. Messages may be lost, late or doubled: each has a number, and who misses
one asks for everything again, which comes between two marks. A process that is silent for EXPIRY is gone, with
everybody in it.
"""

import math
import secrets
import sys
from collections.abc import Callable, Iterator
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

#: Seconds between two messages of a process.
TELL_EVERY = 1.0
#: Seconds after which a process says that it is alive, in its next round: 53 that each woke all others every second
#: took a core for it.
ALIVE_EVERY = 1.5
#: Seconds without a message after which a process is gone: a restart of the carrier takes 2, and who was there is
#: present for longer than that after a reload anyway.
EXPIRY = 6.0
#: Seconds between two times that one process is asked for everything, or tells it; longer where that is much: so many
#: rooms a second, each counted for each process that hears of it, which takes them 0.5% of a core.
AGAIN_EVERY, ROOMS_AGAIN = 3.0, 2_000
#: People in one message, about 5 KB, and in all of a second: 5 ms of it. The rooms that are left wait for the next.
PEOPLE_A_MESSAGE, PEOPLE_A_ROUND = 100, 4_000
#: Seconds between two messages of one second: Linux keeps 10 datagrams for a process that does not read just now.
PAUSE = 0.02
#: Names that all processes together give of a large room: clients list 500, and each is kept in each process.
NAMED_TOGETHER = 2 * NAMED_ROOM
#: People elsewhere whose names are kept, at 0.3 KB. Rooms that are told beyond it are counts until they are told again.
MAX_NAMED = 100_000
#: Notices of a second: who types, and whose read marker has moved.
MAX_NOTICES = 500
#: Rooms looked at in one step when a process has gone.
ROOMS_A_STEP = 50
#: What a random number of a process is below.
_PROCESSES = 1 << 60


class Carrier(Protocol):
    """Takes messages to all other processes; each may be lost, late, doubled, or come back."""

    def tell(self, message: bytes) -> None:
        """Send one, and do not wait."""


@dataclass(slots=True)
class _Process:
    """What another process has said."""

    number: int  # of its last message
    heard: float
    rooms: dict[str, There] = field(default_factory=dict)
    incomplete: bool = False  # something of what it has said was lost
    asked: float = -math.inf  # when it was asked for everything
    unconfirmed: set[str] | None = None  # rooms that it has not named since it began to tell everything


class Elsewhere:
    """See the module. `run` tells, `heard` takes in. What is to be done on a hint or a kick is set from outside."""

    def __init__(self, hub: Hub, carrier: Carrier, clock: Callable[[], float] = trio.current_time) -> None:
        self._hub = hub
        self._carrier = carrier
        self._clock = clock
        self._me = secrets.randbelow(_PROCESSES)
        self._sent = 0  # messages
        self._told_at = -math.inf  # when the last of them was
        self._processes: dict[int, _Process] = {}
        self._named = 0  # people in them whose names are kept
        self._untold: dict[str, None] = {}  # rooms that have changed since they were told, the longest ago first
        self._note: Callable[[str], object] = self._untold.setdefault  # a room's people here have changed
        self._all_wanted = False  # somebody lacks something
        self._told_all = -math.inf  # when that was begun
        self._begin = False  # the next message begins it
        self._last: str | None = None  # the room that ends it
        self._typed: dict[tuple[str, int], Typed] = {}
        self._moved: dict[tuple[str, int], Moved] = {}
        self._hints: dict[str, None] = {}
        self._kicked: list[Kicked] = []
        self.heard_hint: Callable[[str], None] = lambda name: None
        self.heard_kick: Callable[[str, str], object] = lambda user, room: None
        self.garbled = 0  # messages that are none
        hub.registry.make_presence = self._make_presence

    async def run(self) -> None:
        """Tell the others until cancelled."""
        while True:
            for index, message in enumerate(self._messages()):
                if index:
                    await trio.sleep(PAUSE)
                self._carrier.tell(message)
            await trio.sleep(TELL_EVERY)
            await self._expire()

    # -- what is told -----------------------------------------------------------------------------------------------

    def types(self, room: str, principal: Principal) -> None:
        """Somebody is writing something here."""
        if len(self._typed) < MAX_NOTICES:
            self._typed[room, principal.number] = Typed(room, named(principal))

    def moved(self, room: str, principal: Principal, offset: int) -> None:
        """Somebody has read up to an offset here; its connections elsewhere are told."""
        if len(self._moved) < MAX_NOTICES and self._is_elsewhere(room, principal.number):
            self._moved[room, principal.number] = Moved(room, named(principal), offset)

    def hint(self, name: str) -> None:
        """Something in the log is to be looked up again."""
        self._hints[name] = None

    def kick(self, user: str, room: str) -> None:
        """A moderator takes a user out of a room, wherever it is."""
        if len(self._kicked) < MAX_NOTICES:
            self._kicked.append(Kicked(room, user))

    def _messages(self) -> Iterator[bytes]:
        """Those of this round."""
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
        """Add rooms to a message; how many they and their people are."""
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
                break  # what is behind it has changed since
        return size

    def _people(self, presence: WiderPresence) -> list[Principal]:
        """Those here who are named to the others."""
        is_large = len(presence) > NAMED_ROOM
        share = NAMED_TOGETHER // (len(self._processes) + 1) if is_large else NAMED_ROOM
        return presence.people_here(min(NAMED_ROOM, max(1, share)))

    def _tell_all(self) -> None:
        self._all_wanted, self._told_all = False, self._clock()
        self._untold.update(dict.fromkeys(name for name, room in self._hub.rooms.items() if room.presence.here))
        self._begin = True
        self._last = next(reversed(self._untold), "")
        self._untold[self._last] = None  # nobody is anywhere: that is said of a room that cannot be

    def _lacking(self) -> list[int]:
        """Processes to be asked for everything."""
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
        """Who is in a room, if it is in memory."""
        room = self._hub.rooms.get(name)
        return room.presence if room is not None and isinstance(room.presence, WiderPresence) else None

    # -- what is heard ----------------------------------------------------------------------------------------------

    def heard(self, message: bytes) -> None:
        """Take in a message of another process, or of this one."""
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
        """Whose message it is; None: it has come before, or behind a later one."""
        process = self._processes.get(said.process)
        if process is None:
            process = self._processes[said.process] = _Process(0, self._clock())
            self._all_wanted |= said.number == 1  # it has just begun, and knows nobody
        if said.number <= process.number:
            return None
        if said.number > process.number + 1:
            process.incomplete, process.unconfirmed = True, None
        process.number, process.heard = said.number, self._clock()
        return process

    def _there(self, process: _Process, said: RoomSaid) -> There:
        """Who is in a room in one process, with as many names as may be kept."""
        known = len(process.rooms.get(said.room, NOBODY).people)
        if not said.people or self._named - known + len(said.people) > MAX_NAMED:
            return There(NOBODY.people, said.count)
        people = {each.number: principal_of(each) for each in said.people}
        return There(people, max(0, said.count - len(people)))

    def _take_in(self, process: _Process, name: str, there: There) -> None:
        """Who is in a room in one process now: told in the room, if it is in memory."""
        before = process.rooms.get(name, NOBODY)
        if before.same_as(there):
            return  # told again, which is most of what is heard when messages are lost
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
                self._untold[name] = None  # fewer of ours are to be named, or all again

    async def _expire(self) -> None:
        """Forget the processes that have gone silent, with everybody in them."""
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
        """Other processes that are heard, and people in rooms there."""
        there = [each for process in self._processes.values() for each in process.rooms.values()]
        return {
            "processes": len(self._processes), "people": sum(len(each.people) + each.unnamed for each in there)
        }  # fmt: skip
