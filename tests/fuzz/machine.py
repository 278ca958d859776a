"""A state machine of hypothesis around a `World`: its rules are the events, and `invariants` must hold after each.

Owns: the rules. May not: look at the server to decide what happens next, or a run could not be repeated. A rule whose
peer is gone does nothing.
"""

import errno
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    precondition,
    rule,
)

from chatserver.chat.principal import author
from chatserver.chat.registry import EMPTY_ROOM_SECONDS
from chatserver.log.interface import Draft, LogBusy
from tests.fuzz import at_rest, grammar, invariants
from tests.fuzz.plants import PLANTS, PLANTS_IN_ROOMS
from tests.fuzz.puppet import Puppet
from tests.fuzz.world import PROXY, World
from tests.support.peers import say, upgrade

Rules = TypeVar("Rules", bound="ConnectionMachine")
Drawn = ParamSpec("Drawn")
Result = TypeVar("Result")

#: Most peers come from one address, the others from one each.
SOURCES = st.sampled_from(("127.0.1.1", "127.0.1.1", "127.0.1.1", "127.0.2.1", "127.0.2.2"))
EDITS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 3), st.sampled_from(grammar.BYTES_OF_NOTE)), max_size=3)
#: How many of the waiting bytes are sent; None is all.
CUTS = st.one_of(st.none(), st.none(), st.integers(1, 40), st.integers(1, 5000))
#: How many bytes are received at a time.
SIPS = st.one_of(st.just(1 << 20), st.integers(1, 300), st.integers(1, 20_000))
#: Valid samples are more likely, since an invalid one ends its connection.
REQUESTS, FRAMES = (
    st.one_of(st.sampled_from(list(right)), st.sampled_from(list(right)), st.sampled_from(list(wrong)))
    for right, wrong in (
        (grammar.RIGHT_REQUESTS, grammar.WRONG_REQUESTS),
        (grammar.RIGHT_FRAMES, grammar.WRONG_FRAMES),
    )
)
BUSY_REQUESTS, BUSY_FRAMES = st.sampled_from(grammar.BUSY_REQUESTS), st.sampled_from(grammar.BUSY_FRAMES)
HEADERS, FORWARDED = st.sampled_from(list(grammar.HEADERS)), st.sampled_from((None, *grammar.FORWARDED))
#: Messages from each peer when all publish, and seconds that the log takes.
TIMES, DELAYS = st.sampled_from((1, 3, 12)), st.sampled_from((0.0, 0.0, 0.3, 1.5, 6.0))
JOINS = st.sampled_from(("join lobby", "join all", "join lobby from the beginning", "join den from the beginning"))

#: Rules in one example.
STEPS = 40
#: Rules before a drain may begin: after it little else happens.
LATE = 25


def act(
    method: Callable[Concatenate[Rules, Drawn], Awaitable[Result]],
) -> Callable[Concatenate[Rules, Drawn], Result]:
    """A rule that runs in the world's thread, followed by the invariants."""

    def run(self: Rules, /, *arguments: Drawn.args, **drawn: Drawn.kwargs) -> Result:
        async def step() -> Result:
            result = await method(self, *arguments, **drawn)
            await self.world.listen()
            await at_rest.check_when_quiet(self.world)
            self.done += 1
            return result

        return self.world.do(step)

    return cast(Callable[Concatenate[Rules, Drawn], Result], wraps(method)(run))


class ConnectionMachine(RuleBasedStateMachine):
    secure = False
    #: clients that speak HTTP, and those that believe their connection to be a WebSocket
    askers: Bundle[Puppet] = Bundle("askers")
    members: Bundle[Puppet] = Bundle("members")
    anybody = st.one_of(askers, members)

    def __init__(self) -> None:
        super().__init__()
        self.world = World(secure=self.secure, look=invariants.check)
        self.done = 0  # rules
        self.said = 0  # messages

    # -- peers ------------------------------------------------------------------------------------------------------

    @initialize(target=members, joins=st.lists(st.sampled_from(grammar.ROOMS), max_size=5))
    @act
    async def begin(self, joins: Sequence[str]) -> MultipleResults[Puppet]:
        """Put members into rooms, each from its own address, who read everything."""
        for room in joins:
            self._publish(room, 1, 1)
        there = [self.world.knock(f"127.0.6.{number}", small=False) for number, _ in enumerate(joins, 1)]
        for puppet, room in zip(there, joins, strict=True):
            puppet.greedy = puppet.frames = True
            puppet.say(upgrade() + say(type="join", id=0, room=room))
            puppet.send()
        return multiple(*there)

    @rule(target=askers, source=SOURCES, small=st.booleans(), greeted=st.booleans())
    @act
    async def knock(self, source: str, small: bool, greeted: bool) -> Puppet:
        """A peer connects, perhaps without a TLS handshake."""
        puppet = self.world.knock(source, small=small)
        if greeted:
            await self.world.greet(puppet)
        return puppet

    @rule(target=members, source=SOURCES, small=st.booleans(), greedy=st.booleans(), joins=JOINS)
    @act
    async def join(self, source: str, small: bool, greedy: bool, joins: str) -> Puppet:
        """A peer connects and joins."""
        puppet = self.world.knock(source, small=small)
        await self.world.greet(puppet)
        puppet.greedy, puppet.frames = greedy, True
        puppet.say(upgrade() + grammar.FRAMES[joins])
        puppet.send()
        return puppet

    @rule(
        target=askers, source=SOURCES, small=st.booleans(), greedy=st.booleans(),
        what=st.one_of(BUSY_REQUESTS, BUSY_REQUESTS, REQUESTS),
    )  # fmt: skip
    @act
    async def ask_as_newcomer(self, source: str, small: bool, greedy: bool, what: str) -> Puppet:
        """A peer connects and sends a request."""
        puppet = self.world.knock(source, small=small)
        await self.world.greet(puppet)
        puppet.greedy = greedy
        self._say(puppet, what, [], None)
        return puppet

    @rule(target=askers, header=HEADERS, cut=CUTS, what=FORWARDED)
    @act
    async def knock_from_balancer(self, header: str, cut: int | None, what: str | None) -> Puppet:
        """A balancer connects with a PROXY header; perhaps it forwards a request for another client."""
        puppet = self.world.knock(PROXY, small=False, header=grammar.HEADERS[header])
        puppet.send(cut)
        if what is not None:
            await self.world.greet(puppet)
            self._say(puppet, what, [], None)
        return puppet

    @rule(target=askers, what=st.sampled_from(("metrics", "half a head", "health, five times")))
    @act
    async def look_as_operator(self, what: str) -> Puppet:
        """An operator connects to the listener for metrics."""
        puppet = self.world.knock("127.0.5.1", small=False, operator=True)
        await self.world.greet(puppet)
        self._say(puppet, what, [], None)
        return puppet

    @rule(target=members, puppet=consumes(askers), cut=CUTS)
    @act
    async def open_websocket(self, puppet: Puppet, cut: int | None) -> Puppet:
        """An HTTP client upgrades."""
        puppet.frames = True
        puppet.say(upgrade())
        puppet.send(cut)
        return puppet

    @rule(puppet=askers, what=REQUESTS, edits=EDITS, cut=CUTS)
    @act
    async def ask(self, puppet: Puppet, what: str, edits: Sequence[grammar.Edit], cut: int | None) -> None:
        """Send a request, right or spoiled."""
        self._say(puppet, what, edits, cut)

    @rule(puppet=members, what=FRAMES, edits=st.one_of(st.just([]), EDITS), cut=CUTS)
    @act
    async def tell(self, puppet: Puppet, what: str, edits: Sequence[grammar.Edit], cut: int | None) -> None:
        """Send frames, right or spoiled."""
        self._say(puppet, what, edits, cut)

    def _say(self, puppet: Puppet, what: str, edits: Sequence[grammar.Edit], cut: int | None) -> None:
        wire = grammar.SAMPLES[what]
        if edits or what in grammar.UNREADABLE:
            puppet.hearing.readable = False
        puppet.say(grammar.spoil(wire, edits))
        puppet.send(cut)

    @rule(what=st.one_of(BUSY_REQUESTS, BUSY_FRAMES, REQUESTS, FRAMES))
    @act
    async def say_together(self, what: str) -> None:
        """All peers send the same, whatever protocol they are in."""
        for puppet in self.world.puppets:
            self._say(puppet, what, [], None)

    @rule(
        room=st.sampled_from(grammar.ROOMS), count=st.sampled_from((4, 20)), times=TIMES, delay=DELAYS,
        failing=st.sampled_from((0, 0, 1, 2)),
    )  # fmt: skip
    @act
    async def publish_together(self, room: str, count: int, times: int, delay: float, failing: int) -> None:
        """All peers publish into a busy room; the log may be slow or fail."""
        self.world.log.delay, self.world.log.failing_commits = delay, failing
        for puppet in self.world.puppets:
            puppet.say(grammar.publish(room, frames=puppet.frames) * times)
            puppet.send()
        self._publish(room, count, 900)

    @rule(greedy=st.booleans())
    @act
    async def hear_together(self, greedy: bool) -> None:
        """All peers read everything, and perhaps continue to."""
        for puppet in self.world.puppets:
            puppet.greedy = puppet.greedy or greedy
            puppet.hear()
            puppet.send()

    @rule(puppet=anybody, greedy=st.booleans())
    @act
    async def attend(self, puppet: Puppet, greedy: bool) -> None:
        """Begin or stop to read everything."""
        puppet.greedy = greedy

    @rule(puppet=anybody, cut=CUTS)
    @act
    async def go_on(self, puppet: Puppet, cut: int | None) -> None:
        """Send more of what is unsent."""
        puppet.send(cut)

    @rule(puppet=anybody, most=SIPS, polite=st.booleans())
    @act
    async def hear(self, puppet: Puppet, most: int, polite: bool) -> None:
        """Read some bytes."""
        puppet.hear(most, polite=polite)
        if polite:
            puppet.send()

    @rule(puppet=anybody)
    @act
    async def scrawl(self, puppet: Puppet) -> None:
        """Send bytes that are neither TLS nor HTTP."""
        puppet.hearing.readable = False
        puppet.scrawl(b"\x17\x03\x03\x00\x05hello\x15\x03\x03")
        puppet.send()

    @rule(puppet=anybody, farewell=st.booleans())
    @act
    async def end(self, puppet: Puppet, farewell: bool) -> None:
        """Send FIN, perhaps after a close_notify."""
        if farewell:
            puppet.farewell()
        puppet.send()
        puppet.end()

    @rule(puppet=st.one_of(consumes(askers), consumes(members)), abort=st.booleans())
    @act
    async def leave(self, puppet: Puppet, abort: bool) -> None:
        puppet.close(abort=abort)

    @rule(puppet=anybody, rounds=st.integers(0, 12), abort=st.sampled_from((True, True, False)))
    @act
    async def lie_in_wait(self, puppet: Puppet, rounds: int, abort: bool) -> None:
        """Close between two later steps of the scheduler: in a pass over a room, a handshake, an answer."""
        self.world.ambush(rounds, partial(puppet.close, abort=abort))

    # -- time -------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.1, 0.3, 0.6, 1.1, 2.2, 5.0)))
    @act
    async def wait(self, seconds: float) -> None:
        await self.world.wait(seconds)

    @rule(seconds=st.sampled_from((0.1, 0.5, 2.0, 12.0)))
    @act
    async def stall(self, seconds: float) -> None:
        """The server's process stands still."""
        await self.world.stall(seconds)

    # -- the hub and its log ----------------------------------------------------------------------------------------

    @rule(
        room=st.sampled_from(grammar.ROOMS),
        count=st.sampled_from((1, 1, 3, 20, 60)),
        size=st.sampled_from((1, 900, 8000)),
    )
    @act
    async def publish(self, room: str, count: int, size: int) -> None:
        """Other users publish a little, or so much that the ring overflows."""
        self._publish(room, count, size)

    def _publish(self, room: str, count: int, size: int) -> None:
        if self.world.draining:
            return
        face = author(self.said)
        for _ in range(count):
            self.said += 1
            draft = Draft(room, face.id, face.name, f"{self.said}".ljust(size, "."))
            with suppress(LogBusy):
                self.world.parts.hub.publish(draft, _nobody_asks)

    @rule(most=st.integers(1, 30))
    @act
    async def retain(self, most: int) -> None:
        if not self.world.draining:
            firsts = await self.world.log.retain(lambda _: (most, 0))
            self.world.parts.hub.retained(firsts)

    @rule(delay=st.one_of(st.just(0.0), DELAYS), reads=st.integers(0, 2), commits=st.integers(0, 1))
    @act
    async def upset_the_log(self, delay: float, reads: int, commits: int) -> None:
        log = self.world.log
        log.delay, log.failing_reads, log.failing_commits = delay, reads, commits

    # -- trouble of our own -----------------------------------------------------------------------------------------

    @rule(where=st.sampled_from(tuple(PLANTS)))
    @act
    async def plant(self, where: str) -> None:
        """Plant a bug that may cost no more than one connection."""
        self.world.plant(*PLANTS[where](self.world.parts))

    @rule(where=st.sampled_from(tuple(PLANTS_IN_ROOMS)))
    @act
    async def plant_in_room(self, where: str) -> None:
        """Plant a bug after which a room's members may wait for the next message."""
        self.world.plant(*PLANTS_IN_ROOMS[where](self.world.parts), costs_rooms=True)

    @rule(number=st.sampled_from((errno.EMFILE, errno.ECONNABORTED, errno.ENOBUFS)), times=st.integers(1, 3))
    @act
    async def refuse_to_accept(self, number: int, times: int) -> None:
        """Let accept fail."""
        self.world.refuse_to_accept(number, times)

    # -- the end ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.done >= LATE and not self.world.draining)
    @rule()
    @act
    async def drain(self) -> None:
        self.world.drain()

    def teardown(self) -> None:
        """All peers leave, time passes, nothing is left; then the server ends cleanly."""
        try:
            self.world.do(self._part)
        finally:
            for puppet in self.world.puppets:
                puppet.close(abort=True)
            self.world.end()

    async def _part(self) -> None:
        world = self.world
        world.heal()
        for number, puppet in enumerate(world.puppets):
            puppet.hear()
            puppet.close(abort=number % 2 == 0)
        await world.settle()
        if not world.draining:
            await world.wait(EMPTY_ROOM_SECONDS)
            await at_rest.check_when_quiet(world)
            world.neighbour.leave()
            await world.wait(EMPTY_ROOM_SECONDS + 30.0)
            await world.settle()
            at_rest.check_nobody_is_left(world)
            world.drain()
        await world.wait(10.0)
        assert world.exit_code == 0, "the drain did not end"
        assert not world.neighbour.here
        at_rest.check(world)


class SecureMachine(ConnectionMachine):
    """The same under TLS."""

    secure = True


def chosen(examples: int) -> settings:
    """The settings of the machines, on top of the profile."""
    # Rules that wait for peers are slow, and many rules find their peer gone: both are expected.
    return settings(
        max_examples=examples, stateful_step_count=STEPS, deadline=None, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def _nobody_asks(answer: Any) -> None:
    """Ignore the acknowledgement."""
