"""Presence across the processes of one chat: what the others report, and what this one reports to them.

Owns: the reports of the others, and what this process has yet to send. May not: know what carries the messages, keep a
process's report for more than a few seconds after it falls silent, or trust it: it is shown to people and decides
nothing.

Once a second each process sends the whole presence of each room in which it has changed, and without any change a
heartbeat every other second. Messages may be lost, late or doubled: they are numbered, and a process that misses one
requests a report of all rooms, whose begin and end are marked. Kicks are repeated in the messages of the next seconds.
A process that is silent for EXPIRY is forgotten with all its people.
"""

import math
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TypeVar

import structlog
import trio

from chatserver.chat.cluster_presence import NOBODY, ClusterPresence, RemotePeople
from chatserver.chat.housekeeping import Housekeeping
from chatserver.chat.presence import MAX_NAMED_MEMBERS
from chatserver.chat.principal import Principal
from chatserver.chat.process_messages import (
    Kicked,
    ProcessReport,
    ReadReport,
    RoomReport,
    TypingReport,
    decode,
    encode,
    named,
    principal_of,
)
from chatserver.chat.room import Room
from chatserver.fair import in_steps
from chatserver.log.interface import Kind, Record

#: Seconds between two messages of a process.
REPORT_INTERVAL = 1.0
#: Seconds of silence after which a process sends that it is alive, in its next round: with 53 processes, waking all
#: others every second takes a whole core.
ALIVE_INTERVAL = 1.5
#: Seconds without a message after which a process is forgotten: a restart of the bus takes 2, and people stay
#: present for longer than that after a reload anyway.
EXPIRY = 6.0
#: Seconds between two requests to one process for all its rooms, and between two such reports; longer for many rooms,
#: each of which counts once for each receiving process: at 3.3 µs a room, so many a second take 0.7% of a core there.
RESEND_INTERVAL, RESENT_ROOMS_PER_SECOND = 3.0, 2_000
#: People in one message (about 5 KB), and in all messages of a round (5 ms of work). Other rooms wait for the next.
PEOPLE_PER_MESSAGE, PEOPLE_PER_ROUND = 100, 4_000
#: Seconds between two messages of a round: Linux queues 10 datagrams for a process that is not reading.
PAUSE = 0.02
#: People of a large room that all processes together name: clients list 500, and each name is kept in each process.
MAX_NAMED_IN_ALL = 2 * MAX_NAMED_MEMBERS
#: People elsewhere whose names are kept, at 0.3 KB. Of a room that is reported beyond it, only the count is kept.
MAX_NAMED = 100_000
#: Notices of each kind (typing, read markers, kicks) in a round, and in one message: with the people they name up to
#: 40 KB, with the reasons of kicks up to 80, and a datagram takes 128.
MAX_NOTICES, NOTICES_PER_MESSAGE = 500, 50
#: Characters of a kick's reason that the other processes tell, at up to 4 bytes; a message repeats the last 50 kicks.
MAX_REASON_CHARS = 100
#: Rooms that may have left memory unreported; beyond that, a report of all rooms is made instead. Names are free, and a
#: round reports 2,000 rooms of one person each.
MAX_GONE = 20_000
#: Bound on the random number of a process.
_PROCESSES = 1 << 60

K = TypeVar("K")
V = TypeVar("V")

_log = structlog.get_logger("chatserver.chat")


@dataclass(slots=True)
class _Process:
    """What another process has reported."""

    number: int  # of its last message
    last_heard: float  # when that message came
    rooms: dict[str, RemotePeople] = field(default_factory=dict)
    incomplete: bool = False  # one of its messages was lost
    asked: float = -math.inf  # when all its rooms were last requested
    unconfirmed: set[str] | None = None  # rooms that it has not named since it began to report all
    gone: set[str] = field(default_factory=set)  # rooms that it has no people in, to be forgotten in the next round


class Cluster:
    """See the module. `run` sends, `receive` handles messages.

    `tell` sends a message to all other processes without waiting; it may be lost, late, doubled, or come back.
    """

    def __init__(
        self, rooms: Mapping[str, Room], housekeeping: Housekeeping, tell: Callable[[bytes], None], *,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:  # fmt: skip
        self._rooms = rooms
        self._housekeeping = housekeeping
        self._tell = tell
        self._clock = clock
        self._me = secrets.randbelow(_PROCESSES)
        self._sent = 0  # messages
        self._sent_at = -math.inf  # when the last message was sent
        self._processes: dict[int, _Process] = {}
        self._named = self._unnamed = 0  # people in other processes whose names are kept, and the others
        self._unreadable = 0  # messages that could not be decoded; the first is logged
        self._unreported: dict[str, None] = {}  # rooms that have changed since their last report, the oldest first
        self._note: Callable[[str], object] = self._unreported.setdefault  # called when people here have changed
        self._all_wanted = False  # another process lacks something: report all rooms
        self._reported_all = -math.inf  # when the last report of all rooms began
        self._begin = False  # the next message begins a report of all rooms
        self._last: str | None = None  # the last room of that report
        self._typed: dict[tuple[str, str], TypingReport] = {}  # by room and user
        self._moved: dict[tuple[str, int], ReadReport] = {}
        self._kicked: dict[tuple[str, str], Kicked] = {}
        # Kicks that were sent: when, in which message, and the kick. They are repeated for EXPIRY.
        self._repeated: deque[tuple[float, int, Kicked]] = deque(maxlen=NOTICES_PER_MESSAGE)

    async def run(self) -> None:
        """Send this process's reports until cancelled."""
        while True:
            await self._report_all_if_due()
            for message in self._messages():
                self._tell(message)
                await trio.sleep(PAUSE)
            await trio.sleep(REPORT_INTERVAL)
            await self._expire()

    # -- what is sent -----------------------------------------------------------------------------------------------

    def types(self, room: str, principal: Principal) -> None:
        if len(self._typed) < MAX_NOTICES:
            self._typed[room, principal.author.id] = TypingReport(room, named(principal))

    def written(self, records: Sequence[Record]) -> None:
        """Drop the unsent typing of authors here, see `Notices.written`."""
        for record in records if self._typed else ():
            if record.kind is Kind.MESSAGE:
                self._typed.pop((record.room, record.user_id), None)

    def moved(self, room: str, principal: Principal, offset: int) -> None:
        """A user has read up to an offset here; the user's connections elsewhere are notified."""
        if len(self._moved) < MAX_NOTICES and self._is_elsewhere(room, principal.number):
            self._moved[room, principal.number] = ReadReport(room, named(principal), offset)

    def kick(self, user: str, room: str, reason: str) -> None:
        """A moderator takes a user out of a room, in every process."""
        if len(self._kicked) < MAX_NOTICES:
            self._kicked[room, user] = Kicked(room, user, reason[:MAX_REASON_CHARS])
        else:
            _log.warning("kick_not_told", room=room, user=user)

    async def _report_all_if_due(self) -> None:
        """Begin a report of all rooms, if one is wanted and the last is long enough ago."""
        rooms = self._rooms
        if len(self._unreported) > len(rooms) + MAX_GONE:
            self._unreported.clear()  # in a report of all rooms, a room that is missing is empty
            self._all_wanted, self._last = True, None
        pause = max(RESEND_INTERVAL, len(rooms) * len(self._processes) / RESENT_ROOMS_PER_SECOND)
        if not self._all_wanted or self._clock() < self._reported_all + pause:
            return
        await in_steps(map(self._note_people, list(rooms)))
        self._all_wanted, self._reported_all, self._begin = False, self._clock(), True
        self._last = next(reversed(self._unreported), "")
        self._unreported[self._last] = None  # with no people anywhere, "" (no possible room) carries the two marks

    def _note_people(self, name: str) -> None:
        room = self._rooms.get(name)
        if room is not None and room.presence.here:
            self._unreported[name] = None

    def _messages(self) -> Iterator[bytes]:
        """The messages of this round."""
        now = self._clock()
        waits = self._unreported or self._typed or self._moved or self._kicked
        if not waits and now < self._sent_at + ALIVE_INTERVAL:
            return
        self._sent_at = now
        left, is_full = PEOPLE_PER_ROUND, True
        while is_full and left > 0:
            self._sent += 1
            report = ProcessReport(self._me, self._sent, self._begin, resend=self._lacking())
            self._begin = False
            people = self._fill(report)
            left -= people
            # What comes during the pause is the next round's: a busy chat would otherwise send without end.
            notices = max(len(report.typed), len(report.moved), len(report.kicked))
            is_full = people >= PEOPLE_PER_MESSAGE or notices == NOTICES_PER_MESSAGE
            yield encode(report)

    def _fill(self, report: ProcessReport) -> int:
        """Add notices and rooms to a message. Returns the number of rooms plus their named people."""
        report.typed, report.moved, report.kicked = _some(self._typed), _some(self._moved), _some(self._kicked)
        now = self._clock()
        report.repeated = [(number, kicked) for sent, number, kicked in self._repeated if now < sent + EXPIRY]
        self._repeated += [(now, report.number, kicked) for kicked in report.kicked]
        size = 0
        while self._unreported and size < PEOPLE_PER_MESSAGE:
            room = next(iter(self._unreported))
            del self._unreported[room]
            presence = self._presence(room)
            people = [] if presence is None else [named(each) for each in self._people(presence)]
            report.rooms.append(RoomReport(room, 0 if presence is None else presence.here, people))
            size += len(people) + 1
            if room == self._last:
                self._last, report.end = None, True
        return size

    def _people(self, presence: ClusterPresence) -> list[Principal]:
        """The people here who are named to the other processes."""
        is_large = len(presence) > MAX_NAMED_MEMBERS
        share = MAX_NAMED_IN_ALL // max(2, len(self._processes) + 1)
        return presence.people_here(share if is_large else MAX_NAMED_MEMBERS)

    def _lacking(self) -> list[int]:
        """Processes whose rooms are all to be requested again."""
        now = self._clock()
        lacking = []
        for number, process in self._processes.items():
            if process.incomplete and now >= process.asked + RESEND_INTERVAL:
                process.asked = now
                lacking.append(number)
        return lacking

    def make_presence(self, name: str) -> ClusterPresence:
        """The presence of a room that is loaded: other processes may have people in it already."""
        there = (process.rooms.get(name) for process in self._processes.values())
        return ClusterPresence(name, self._note, [each for each in there if each is not None])

    def _presence(self, name: str) -> ClusterPresence | None:
        """The presence of a room, if it is in memory."""
        room = self._rooms.get(name)
        if room is None:
            return None
        assert isinstance(room.presence, ClusterPresence), "`make_presence` made it"
        return room.presence

    # -- what is received ----------------------------------------------------------------------------------------------

    def receive(self, message: bytes) -> list[Kicked]:
        """Process a message of another process, and return its kicks; one of this process is ignored."""
        try:
            report = decode(message)
        except ValueError as error:
            if not self._unreadable:
                _log.warning("process_message_unreadable", bytes=len(message), reason=str(error))
            self._unreadable += 1
            return []
        process = None if report.process == self._me else self._take_turn(report)
        if process is None:
            return []
        self._receive_rooms(process, report)
        self._receive_notices(report)
        return report.kicked

    def _receive_rooms(self, process: _Process, report: ProcessReport) -> None:
        if report.begin:
            process.incomplete, process.unconfirmed = False, set(process.rooms)
        for room in report.rooms:
            self._take_in(process, room.room, self._there(process, room))
            process.gone.discard(room.room)
            if process.unconfirmed is not None:
                process.unconfirmed.discard(room.room)
        if report.end and process.unconfirmed is not None:
            process.gone, process.unconfirmed = process.unconfirmed, None
        if self._me in report.resend:
            self._all_wanted = True

    def _receive_notices(self, report: ProcessReport) -> None:
        for typed in report.typed:
            self._housekeeping.types(typed.room, principal_of(typed.who))
        for moved in report.moved:
            self._housekeeping.moved(moved.room, principal_of(moved.who), moved.offset)

    def _take_turn(self, report: ProcessReport) -> _Process | None:
        """The process that sent a message. None: the message is a repeated one, or older than the last."""
        process = self._processes.get(report.process)
        if process is None:
            process = self._processes[report.process] = _Process(0, self._clock())
            self._all_wanted |= report.number == 1  # that process has just started, and knows no others
        if report.number <= process.number:
            return None
        if report.number > process.number + 1:
            process.incomplete, process.unconfirmed = True, None
            report.kicked[:0] = [kicked for number, kicked in report.repeated if number > process.number]
        process.number, process.last_heard = report.number, self._clock()
        return process

    def _there(self, process: _Process, report: RoomReport) -> RemotePeople:
        """The people of a room in one process; only their number if too many names are kept already."""
        known = len(process.rooms.get(report.room, NOBODY).people)
        if self._named - known + len(report.people) > MAX_NAMED:
            return RemotePeople(NOBODY.people, report.count)
        people = {each.number: principal_of(each) for each in report.people}
        return RemotePeople(people, max(0, report.count - len(people)))

    def _take_in(self, process: _Process, name: str, there: RemotePeople) -> None:
        """Replace what is known of a room in one process, and note the change in the room, if it is in memory."""
        before = process.rooms.get(name, NOBODY)
        if before.same_as(there):
            return  # no change: the usual case in a report of all rooms
        process.rooms.pop(name, None)
        self._named += len(there.people) - len(before.people)
        self._unnamed += there.unnamed - before.unnamed
        if there.people or there.unnamed:
            process.rooms[name] = there
        presence = self._presence(name)
        if presence is not None:
            was_large = len(presence) > MAX_NAMED_MEMBERS
            presence.apply_remote(before, there)
            self._housekeeping.note_presence(self._rooms[name])
            if was_large != (len(presence) > MAX_NAMED_MEMBERS):
                self._unreported[name] = None  # report it again: fewer people here are named now, or all of them

    async def _expire(self) -> None:
        """Forget rooms that processes have left, and processes that have been silent for EXPIRY.

        A process is known until its last room is forgotten: rooms that are loaded meanwhile get its people from here.
        """
        now = self._clock()
        for number, process in list(self._processes.items()):
            is_silent = process.last_heard + EXPIRY <= now
            if is_silent:
                process.gone, process.incomplete = set(process.rooms), True
            await in_steps(self._forget(process))
            if is_silent and not process.rooms:  # it has not returned meanwhile
                del self._processes[number]

    def _forget(self, process: _Process) -> Iterator[None]:
        while process.gone:
            self._take_in(process, process.gone.pop(), NOBODY)
            yield

    def _is_elsewhere(self, room: str, number: int) -> bool:
        there = (each.rooms.get(room, NOBODY) for each in self._processes.values())
        return any(number in each.people or each.unnamed for each in there)

    def entries(self, number: int) -> Iterator[Principal | None]:
        """The entry of a user in each room of each other process; None: there is none, or it is not named."""
        for process in list(self._processes.values()):
            for there in list(process.rooms.values()):
                yield there.people.get(number)

    def rooms(self) -> Iterator[str]:
        """The rooms that have people in other processes, some of them several times."""
        return chain.from_iterable(process.rooms for process in self._processes.values())

    def statistics(self) -> dict[str, int]:
        """Other known processes, people in rooms there, and messages that could not be decoded."""
        people = self._named + self._unnamed
        return {"processes": len(self._processes), "people": people, "unreadable": self._unreadable}


def _some(waiting: dict[K, V]) -> list[V]:
    """Take the notices of one message."""
    return [waiting.pop(key) for key in list(islice(waiting, NOTICES_PER_MESSAGE))]
