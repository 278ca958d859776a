"""Sanctions, sign-outs, kicks and read markers in several processes on one log, at any moment.

Moderators mute, ban and lift at the same time at any process; users sign out and move markers. Hints and messages are
lost, the log is slow, and processes start anew. What was decided at a process holds there from its answer on, and
everywhere within BOUND. A kick happens in each process, and once. No marker goes back.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import product
from typing import TypeVar

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat.cluster import EXPIRY
from chatserver.chat.moderation import Moderation
from chatserver.chat.policy import READ, WRITE
from chatserver.chat.principal import NamedGuest
from chatserver.chat.read_markers import STORE_EVERY, ReadMarkers
from chatserver.chat.reloader import RELOAD_EVERY, Reloader
from chatserver.chat.signed_out import SignedOut
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import Draft
from chatserver.log.memory import MemoryLog
from chatserver.log.program import Program
from chatserver.log.sanctions import EVERYWHERE, Penalty, Sanction, Sanctions
from chatserver.log.signouts import SignOut, SignOuts
from chatserver.log.tables import Tables
from tests.chat.processes import SAID, Air, Process, lose
from tests.support.examples import new_examples
from tests.support.groups import append
from tests.support.scripted import HERE

PROCESSES, USERS, RECORDS = 3, range(2), 30
IDS = [f"g_{number:015x}" for number in USERS]
#: Seconds that a call of the log takes before its commit or its snapshot, and again after it.
SLOW = 1.0
#: Seconds within which a change is known everywhere, whatever is lost: a read may be under way.
BOUND = RELOAD_EVERY + 6 * SLOW
LOOK = 1.0  # s between two looks
ENTRY = AuditEntry(0, "u_mod", "Mod", HERE, "act", "lobby")

ACTS = "sanction sanction sanction lift lift kick sign_out move move restart restart spoil wait wait wait"
ACT = st.tuples(st.sampled_from(ACTS.split()), st.integers(0, 1 << 16))
BESIDE = "sanction", "lift", "sign_out"  # acts that happen beside the next ones
T = TypeVar("T")


def now_ms() -> int:
    return int(trio.current_time() * 1000)


class Server:
    """One process: its tables of what is in force, and its slow way to the log."""

    shared = True

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self.cluster, self._heard = process.cluster, process.kicks
        self._kicked: list[str] = []
        self.sanctions, self.signouts = Sanctions(self), SignOuts(self)

    def kick(self, user: str) -> None:
        self._kicked.append(user)
        self.cluster.kick(user, "lobby", "")

    @property
    def kicked(self) -> Counter[str]:
        """Whom this process has taken out of the room, and how often."""
        return Counter([*self._kicked, *(kicked.user for kicked in self._heard)])

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.moderation, self.signed_out = Moderation(wall_ms=now_ms), SignedOut(wall_ms=now_ms)
        self.markers = ReadMarkers(self._world.log.markers)
        self.reloader = Reloader(self, self.moderation, self.signed_out)  # type: ignore[arg-type]
        self.decided: dict[int, bool] = {}  # sanctions made and lifted here: whether they are in force
        await self.reloader.restore()
        self.since = trio.current_time()
        with trio.CancelScope() as self.running:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.reloader.run)
                nursery.start_soon(self.markers.run)
                task_status.started()

    async def _pause(self) -> None:
        await trio.sleep(self._world.dice.choice((0.0, 0.1, SLOW)))

    async def ask_tables(self, query: Callable[[Tables], T]) -> T:
        await self._pause()
        found = await self._world.log.ask_tables(query)
        await self._pause()
        return found

    async def change_tables(self, doing: str, work: Callable[[Tables], T], *, hint: str = "") -> T:
        def noting(tables: Tables) -> T:
            done = work(tables)
            self._world.note_change(self, hint, {id_ for (id_,) in tables.run("SELECT id FROM sanctions")})
            return done

        await self._pause()
        done = await self._world.log.change_tables(doing, noting, hint=hint)
        await self._pause()
        return done


class World:
    """The processes, and when the tables of their log have changed."""

    def __init__(self, log: MemoryLog, air: Air, dice: random.Random, nursery: trio.Nursery) -> None:
        self.log, self.air, self.dice, self._nursery = log, air, dice, nursery
        self.servers: list[Server] = []
        self._changed: dict[int, float] = {}  # ids of sanctions, and when they came or went
        self._table: set[int] = set()
        self._signed_out: dict[int, tuple[int, float]] = {}  # users: when, by the wall clock and ours
        self._moved: dict[str, tuple[int, float]] = {}  # users: the marker, and when it was moved there
        self._kicks = 0
        self.is_whole = True  # no hint or message is lost

    def note_change(self, source: Server, hint: str, sanctions: set[int]) -> None:
        self._changed.update(dict.fromkeys(sanctions ^ self._table, trio.current_time()))
        self._table = sanctions
        for server in self.servers:
            if server is not source and self.is_whole:
                server.reloader.on_hints([hint])

    # -- acts ---------------------------------------------------------------------------------------------------------

    async def act(self, name: str, seed: int) -> None:
        dice = random.Random(seed)
        server, act = dice.choice(self.servers), getattr(self, name)
        if name in BESIDE:
            self._nursery.start_soon(act, server, dice)
        else:
            await act(server, dice)

    async def sanction(self, server: Server, dice: random.Random) -> None:
        """As `ModerationHandlers` does it; so are the others."""
        moderation, decided = server.moderation, server.decided
        user, network = dice.choice([*((user, "") for user in IDS), ("", HERE)])
        until = dice.choice((0, now_ms() + dice.randrange(1, 60_000)))
        room, kind = dice.choice(("lobby", "den", EVERYWHERE)), dice.choice(list(Penalty))
        made = Sanction(room, kind, user, network, until, "", "u_mod", "Mod", now_ms())
        stored = await server.sanctions.add(made, ENTRY)
        if moderation.enforce(stored) is not None:
            decided[stored.id] = True

    async def lift(self, server: Server, dice: random.Random) -> None:
        moderation, decided = server.moderation, server.decided
        for id_ in list(moderation.in_force)[-dice.randint(1, 2) :][:1]:
            await server.sanctions.lift(id_, ENTRY)
            moderation.lift(id_)
            decided[id_] = False

    async def kick(self, server: Server, dice: random.Random) -> None:
        self._kicks += 1
        user = f"u_{self._kicks}"
        server.kick(user)

    async def sign_out(self, server: Server, dice: random.Random) -> None:
        signed_out, out = server.signed_out, SignOut(dice.choice(USERS), guest=False, time=now_ms(), until=1 << 50)
        await server.signouts.add(out)
        signed_out.note(out)

    async def move(self, server: Server, dice: random.Random) -> None:
        user, offset = dice.choice(IDS), dice.randint(1, RECORDS)
        server.markers.move(user, "lobby", offset)
        if offset > self._moved.get(user, (0, 0.0))[0]:
            self._moved[user] = offset, trio.current_time()

    async def wait(self, server: Server, dice: random.Random) -> None:
        await self.pass_(dice.choice((0.3, 0.3, 1.0, 3.0, EXPIRY, RELOAD_EVERY, BOUND)))

    async def restart(self, server: Server, dice: random.Random) -> None:
        server.running.cancel()
        await self._nursery.start(server.run)

    async def spoil(self, server: Server, dice: random.Random) -> None:
        self.is_whole = dice.random() < 0.5
        self.air.spoil = (lambda message: [message]) if self.is_whole else lose(0.3, dice)

    # -- looks --------------------------------------------------------------------------------------------------------

    async def pass_(self, seconds: float) -> None:
        until = trio.current_time() + seconds
        while (left := until - trio.current_time()) > 0:
            await trio.sleep(min(LOOK, left))
            await self.look()

    async def look(self) -> None:
        now = trio.current_time()
        for out in (await self.log.signouts.load(now_ms()))[0]:
            if self._signed_out.get(out.number, (0, 0.0))[0] != out.time:
                self._signed_out[out.number] = out.time, now
        for user, (offset, since) in self._moved.items():
            read = (await self.log.markers.of_user(user)).get("lobby", 0)
            assert read == offset or now <= since + 2 * STORE_EVERY + LOOK, "it is not stored"
        # The last to be loaded: until the comparison no other task runs.
        in_force = {each.id for each in await self.log.sanctions.load(now_ms())}
        for server in self.servers:
            known = {id_: each for id_, each in server.moderation.in_force.items() if not each.expired(now_ms())}
            for id_ in known.keys() ^ in_force:
                assert now <= max(self._changed[id_], server.since) + BOUND, f"{id_} is not as in the log"
                assert server.decided.get(id_) is not (id_ in in_force), f"{id_} was decided here"
            self._look_at_rules(server, known)
            for number, (time, since) in self._signed_out.items():
                is_late = now > max(since, server.since) + BOUND
                assert not (is_late and server.signed_out.holds(number, (time - 1) / 1000)), "still signed in"
            assert set(server.kicked.values()) <= {1}, "kicked twice"

    def _look_at_rules(self, server: Server, known: dict[int, Sanction]) -> None:
        """What is refused follows from the sanctions that are in force."""
        for user, (action, room) in product(USERS, ((READ, "lobby"), (WRITE, "den"))):
            found = server.moderation.sanction_on(NamedGuest(user, HERE, "Ann"), action, room)
            assert (found is not None) is any(
                (each.user == IDS[user] or each.network == HERE)
                and each.room in (room, EVERYWHERE)
                and (each.kind is Penalty.BAN or action is WRITE)
                for each in known.values()
            )

    async def end(self) -> None:
        self.is_whole, self.air.spoil = True, lambda message: [message]
        await self.pass_(SAID + EXPIRY)
        await self.kick(self.servers[0], self.dice)
        await self.pass_(2 * BOUND)
        for server in self.servers:
            assert server.kicked[f"u_{self._kicks}"] == 1, "everybody has heard of the kick"


async def play(acts: list[tuple[str, int]], seed: int) -> None:
    air, log = Air(), MemoryLog(wall_ms=now_ms)
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(log.run, lambda records: None, Program())
        for _ in range(RECORDS):
            await append(log, Draft("lobby", "u_zoe", "Zoe", "hi"))
        world = World(log, air, random.Random(seed), nursery)
        for _ in range(PROCESSES):
            server = Server(world, await stack.enter_async_context(air.process()))
            await nursery.start(server.run)
            world.servers.append(server)
        for name, act_seed in acts:
            await world.act(name, act_seed)
        await world.end()
        nursery.cancel_scope.cancel()


@new_examples(8)
@given(st.lists(ACT, min_size=25, max_size=50), st.integers(0, 1 << 16))
def test_what_was_decided_holds_there_at_once_and_everywhere_soon(acts: list[tuple[str, int]], seed: int) -> None:
    trio.run(play, acts, seed, clock=trio.testing.MockClock(autojump_threshold=0))
