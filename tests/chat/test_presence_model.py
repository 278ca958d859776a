"""Who is listed in several processes, compared with a model at any moment, whatever happens to the processes.

Users come, leave, lose connections, reload at another process, poll and change names. Processes are killed and started,
and messages between them are lost for a while. Nobody is missing who has been there for BOUND, nobody is listed who has
been gone for the grace and BOUND, and who has one connection is shown by its name. A member that applies its notices,
one a second at most, has the same list.
"""

import math
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat.cluster import EXPIRY
from chatserver.chat.principal import NamedGuest, Principal
from chatserver.settings.fields import Settings
from tests.chat.processes import MENDED, Air, Process, lose
from tests.support.examples import new_examples
from tests.support.scripted import HERE, Peer

ROOMS, USERS, NAMES = ("lobby", "den"), range(2), "abc"
#: Seconds within which each process knows of a change, after any loss of messages, and then a killed process's people.
BOUND, FORGOTTEN = MENDED, EXPIRY + MENDED
GRACE = Settings().presence_grace
#: Seconds between two looks.
LOOK = 0.25
MOST_PROCESSES = 4

Place = tuple[int, str]  # a user in a room
ACTS = (
    "join join join leave lose lose poll reload reload reload rename rename wait wait rest kill start mute lose_some "
    "mend"
)
ACT = st.tuples(st.sampled_from(ACTS.split()), st.integers(0, 1 << 16))


@dataclass(eq=False)
class Window:
    """A connection of a user in a room, and what its notices have told it."""

    process: Process
    peer: Peer
    user: int
    room: str
    since: float  # when it was opened, or the user was named there
    known: set[int]
    heard: int = 0  # notices
    heard_at: float = -math.inf


@dataclass(eq=False)
class World:
    """Processes with their windows. `gone`: from when a user without a window there may be listed no longer."""

    air: Air
    stack: AsyncExitStack
    began: dict[Process, float] = field(default_factory=dict)  # of the living processes
    windows: list[Window] = field(default_factory=list)
    gone: dict[Place, float] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=lambda: dict.fromkeys(USERS, NAMES[0]))
    is_whole: bool = True  # no message is lost
    whole_since: float = -math.inf

    async def act(self, name: str, seed: int) -> None:
        dice = random.Random(seed)
        await getattr(self, name)(dice)

    def _one(self, dice: random.Random) -> Process:
        return dice.choice(list(self.began))

    def _principal(self, user: int) -> Principal:
        return NamedGuest(user, HERE, self.names[user])

    def _may_stay(self, user: int, room: str, seconds: float) -> None:
        self.gone[user, room] = max(self.gone.get((user, room), -math.inf), trio.current_time() + seconds)

    # -- acts ---------------------------------------------------------------------------------------------------------

    async def join(self, dice: random.Random) -> None:
        await self._join(self._one(dice), dice.choice(USERS), dice.choice(ROOMS))

    async def _join(self, process: Process, user: int, room: str) -> None:
        peer = await process.join(user, room)
        process.it.hub.change_principal(peer.members[0], self._principal(user))
        window = Window(process, peer, user, room, trio.current_time(), process.people(room))
        self.windows.append(window)

    def _end(self, dice: random.Random, end: Callable[[Window], None]) -> Window | None:
        if not self.windows:
            return None
        window = self.windows.pop(dice.randrange(len(self.windows)))
        end(window)
        self._may_stay(window.user, window.room, GRACE + BOUND)
        return window

    async def leave(self, dice: random.Random) -> None:
        self._end(dice, lambda window: window.process.it.leave(window.peer.members[0]))

    async def lose(self, dice: random.Random) -> None:
        self._end(dice, lambda window: window.process.it.sink.die(window.peer))

    async def reload(self, dice: random.Random) -> None:
        window = self._end(dice, lambda window: window.process.it.sink.die(window.peer))
        await self._pass(dice.choice((0.0, 0.5, 3.0)))
        if window is not None:
            await self._join(self._one(dice), window.user, window.room)

    async def poll(self, dice: random.Random) -> None:
        it, user, room = self._one(dice).it, dice.choice(USERS), dice.choice(ROOMS)
        await it.load(room)
        it.hub.polled(it.hub.rooms[room], self._principal(user))
        self._may_stay(user, room, GRACE + BOUND)

    async def rename(self, dice: random.Random) -> None:
        """A user gets another name on all connections."""
        user = dice.choice(USERS)
        self.names[user] = dice.choice(NAMES)
        for window in self.windows:
            if window.user == user:
                window.process.it.hub.change_principal(window.peer.members[0], self._principal(user))
                window.since = trio.current_time()

    async def wait(self, dice: random.Random) -> None:
        await self._pass(dice.uniform(0.0, 2.0))

    async def rest(self, dice: random.Random) -> None:
        await self._pass(dice.choice((BOUND, GRACE + BOUND, 90.0)))

    async def start(self, _: random.Random) -> None:
        if len(self.began) < MOST_PROCESSES:
            self.began[await self.stack.enter_async_context(self.air.process())] = trio.current_time()

    async def kill(self, dice: random.Random) -> None:
        """A process sends and hears nothing any more; the others still list its people for a while."""
        if len(self.began) == 1:
            return
        process = self._one(dice)
        del self.began[process]
        process.stop()
        process.cluster.receive = lambda message: []  # type: ignore[method-assign]
        for room in ROOMS:
            for user in process.people(room):
                self._may_stay(user, room, GRACE + FORGOTTEN)
        self.windows = [window for window in self.windows if window.process is not process]

    async def mute(self, _: random.Random) -> None:
        self.is_whole, self.air.spoil = False, lambda message: []

    async def lose_some(self, dice: random.Random) -> None:
        self.is_whole, self.air.spoil = False, lose(0.5, dice)

    async def mend(self, _: random.Random) -> None:
        self.air.spoil = lambda message: [message]
        if not self.is_whole:
            self.is_whole, self.whole_since = True, trio.current_time()

    # -- looks --------------------------------------------------------------------------------------------------------

    async def _pass(self, seconds: float) -> None:
        until = trio.current_time() + seconds
        while (left := until - trio.current_time()) > 0:
            await trio.sleep(min(LOOK, left))
            self.look()

    def look(self) -> None:
        now = trio.current_time()
        for process, began in self.began.items():
            for room in ROOMS:
                people = process.people(room)
                assert process.count(room) == len(people)
                for user in USERS:
                    windows = [each for each in self.windows if (each.user, each.room) == (user, room)]
                    if user not in people:
                        assert not any(self._must_know(process, began, each, now) for each in windows), (user, room)
                        continue
                    until = max(self.gone.get((user, room), -math.inf), self.whole_since + FORGOTTEN)
                    if now <= until or not self.is_whole:
                        continue
                    assert windows, f"{user} is in {room} no more"
                    if len(windows) == 1 and self._must_know(process, began, windows[0], now):
                        shown = process.it.hub.registry.presence(room).person(user)
                        assert shown is not None
                        assert shown.label == self.names[user]
        for window in self.windows:
            self._hear(window, now)

    def _must_know(self, process: Process, began: float, window: Window, now: float) -> bool:
        """Whether a process must know of a window, and by which name."""
        if window.process is process:
            return True
        since = max(began, self.began[window.process], window.since, self.whole_since)
        return self.is_whole and now > since + BOUND

    def _hear(self, window: Window, now: float) -> None:
        notices = window.peer.presence(window.room)
        for came, went, count in notices[window.heard :]:
            assert now - window.heard_at > 1.0 - 2 * LOOK, "at most one a second"
            window.heard_at = now
            window.known |= _numbers(came)
            window.known -= _numbers(went)
            assert count == len(window.known)
        window.heard = len(notices)
        presence = window.process.it.hub.rooms[window.room].presence
        assert presence.changed or window.known == window.process.people(window.room)


def _numbers(people: str) -> set[int]:
    return set() if people == "-" else set(map(int, people.split(",")))


async def play(acts: list[tuple[str, int]]) -> None:
    async with AsyncExitStack() as stack:
        world = World(Air(), stack)
        for act, seed in (("start", 0), ("start", 0), *acts, ("mend", 0)):
            await world.act(act, seed)
        await world._pass(GRACE + 2 * FORGOTTEN)
        world.air.spoil = lambda message: []


@new_examples(14)
@given(st.lists(ACT, min_size=30, max_size=80))
def test_the_people_of_a_room_are_right_in_each_process_at_any_moment(acts: list[tuple[str, int]]) -> None:
    trio.run(play, acts, clock=trio.testing.MockClock(autojump_threshold=0))
