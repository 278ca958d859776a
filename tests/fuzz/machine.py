"""Random rules on a `World`: its events in any order, and `invariants` must hold after each.

Owns: the rules. May not: look at the server to decide what happens next, or a run could
not be repeated. A rule for a peer does nothing while there is none.
"""

import errno
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from hypothesis import strategies as st

from chatserver.chat.moderation import Enforcement, Refusal
from chatserver.chat.principal import author, number_of
from chatserver.chat.registry import EMPTY_ROOM_SECONDS
from chatserver.log.interface import Draft, LogBusy
from chatserver.log.sanctions import Penalty, Sanction
from tests.fuzz import at_rest, choices, grammar, invariants
from tests.fuzz.choices import Chosen
from tests.fuzz.plants import PLANTS, PLANTS_IN_ROOMS
from tests.fuzz.puppet import Puppet
from tests.fuzz.rules import act, rule
from tests.fuzz.world import PROXY, World
from tests.support.peers import say, upgrade

#: Seconds between the two pieces of what is sent in two: less than any deadline.
PIECES_APART = 0.3
#: Bytes that a peer has sent which has barely begun.
BARELY = 9


class ConnectionMachine:
    secure = False

    def __init__(self) -> None:
        self.world = World(secure=self.secure, look=invariants.check)
        self.said = 0  # messages
        self.sanctions = 0

    def do(self, name: str, drawn: dict[str, Any]) -> None:
        """Apply a rule, unless it is for a peer and there is none."""
        found = {key: self._find(each) if isinstance(each, Chosen) else each for key, each in drawn.items()}
        if None not in [found[key] for key, each in drawn.items() if isinstance(each, Chosen)]:
            getattr(self, name)(**found)

    def _find(self, chosen: Chosen) -> Puppet | None:
        there = [
            each for each in self.world.puppets
            if each.open and not each.ended and chosen.frames in (None, each.frames)
        ]  # fmt: skip
        return there[chosen.number % len(there)] if there else None

    # -- peers ------------------------------------------------------------------------------------------------------

    @act
    async def begin(self, joins: Sequence[str]) -> None:
        """Put members into rooms, each from its own address, who read everything."""
        for room in joins:
            self._publish(room, 1, 1)
        there = [self.world.knock(f"127.0.6.{number}", small=False) for number, _ in enumerate(joins, 1)]
        for puppet, room in zip(there, joins, strict=True):
            puppet.greedy = puppet.frames = True
            puppet.say(upgrade() + say(type="join", id=0, room=room))
            puppet.send()

    @act
    async def begin_amid(self, names: Sequence[str], size: int, delay: float) -> None:
        """Put in peers who have sent something and read nothing; the log may be slow."""
        for room in grammar.ROOMS:
            self._publish(room, 12, size)
        await self.world.settle()  # or polls would begin before the last message, and be answered at once
        self.world.log.delay = delay
        for number, name in enumerate(names):
            if name == grammar.HALF_A_HEADER:
                puppet = self.world.knock(PROXY, small=True, header=grammar.HEADERS["half of it"][:BARELY])
            else:
                puppet = self.world.knock(f"127.0.2.{number % 3}", small=True)
            if name not in ("nothing", grammar.BARELY_BEGUN, grammar.HALF_A_HEADER):
                await self.world.greet(puppet)
            wire = grammar.with_cursors(grammar.UNDER_WAY[name], self.world.log.last)
            late = 1 if name in grammar.LAST_BYTE_LATE else 0
            puppet.frames = wire.startswith(grammar.UPGRADE)
            puppet.say(wire[: len(wire) - late])
            puppet.send(BARELY if name in (grammar.BARELY_BEGUN, grammar.HALF_A_HEADER) else None)
            puppet.say(wire[len(wire) - late :])

    @rule(source=choices.SOURCES, small=st.booleans(), greeted=st.booleans())
    async def knock(self, source: str, small: bool, greeted: bool) -> None:
        """A peer connects, perhaps without a TLS handshake."""
        puppet = self.world.knock(source, small=small)
        if greeted:
            await self.world.greet(puppet)

    @rule(2, source=choices.SOURCES, small=st.booleans(), greedy=st.booleans(), joins=choices.JOINS)
    async def join(self, source: str, small: bool, greedy: bool, joins: str) -> None:
        """A peer connects and joins."""
        puppet = self.world.knock(source, small=small)
        await self.world.greet(puppet)
        puppet.greedy, puppet.frames = greedy, True
        puppet.say(upgrade() + grammar.FRAMES[joins])
        puppet.send()

    @rule(
        3, source=choices.SOURCES, small=st.booleans(), greedy=st.booleans(),
        what=st.one_of(choices.BUSY_REQUESTS, choices.BUSY_REQUESTS, choices.REQUESTS),
        cut=st.one_of(st.none(), st.none(), st.integers(1, 200)),
    )  # fmt: skip
    async def ask_as_newcomer(self, source: str, small: bool, greedy: bool, what: str, cut: int | None) -> None:
        """A peer connects and sends a request, perhaps in two pieces."""
        puppet = self.world.knock(source, small=small)
        await self.world.greet(puppet)
        puppet.greedy = greedy
        self._say(puppet, what, [], cut)
        if cut is not None:
            await self.world.wait(PIECES_APART)
            puppet.send()

    @rule(header=choices.HEADERS, cut=choices.CUTS, what=choices.FORWARDED)
    async def knock_from_balancer(self, header: str, cut: int | None, what: str | None) -> None:
        """A balancer connects with a PROXY header; perhaps it forwards a request for another client."""
        puppet = self.world.knock(PROXY, small=False, header=grammar.HEADERS[header])
        puppet.send(cut)
        if what is not None:
            await self.world.greet(puppet)
            self._say(puppet, what, [], None)

    @rule(what=st.sampled_from(("metrics", "half a head", "health, five times")))
    async def look_as_operator(self, what: str) -> None:
        """An operator connects to the listener for metrics."""
        puppet = self.world.knock("127.0.5.1", small=False, operator=True)
        await self.world.greet(puppet)
        self._say(puppet, what, [], None)

    @rule(puppet=choices.ASKERS, cut=choices.CUTS)
    async def open_websocket(self, puppet: Puppet, cut: int | None) -> None:
        """An HTTP client upgrades."""
        puppet.frames = True
        puppet.say(upgrade())
        puppet.send(cut)

    @rule(
        3, puppet=choices.ASKERS, what=choices.REQUESTS, edits=st.one_of(st.just([]), choices.EDITS), cut=choices.CUTS
    )
    async def ask(self, puppet: Puppet, what: str, edits: Sequence[grammar.Edit], cut: int | None) -> None:
        """Send a request, right or spoiled."""
        self._say(puppet, what, edits, cut)

    @rule(4, puppet=choices.MEMBERS, what=choices.FRAMES, edits=st.one_of(st.just([]), choices.EDITS), cut=choices.CUTS)
    async def tell(self, puppet: Puppet, what: str, edits: Sequence[grammar.Edit], cut: int | None) -> None:
        """Send frames, right or spoiled."""
        self._say(puppet, what, edits, cut)

    def _say(self, puppet: Puppet, what: str, edits: Sequence[grammar.Edit], cut: int | None) -> None:
        wire = grammar.with_cursors(grammar.SAMPLES[what], self.world.log.last)
        if edits or what in grammar.UNREADABLE:
            puppet.hearing.readable = False
        wire = grammar.spoil(wire, edits)
        if self.secure and cut is not None and cut % 2:  # between two records; else within the first
            puppet.say(wire[:cut])
            puppet.send()
            puppet.say(wire[cut:])
        else:
            puppet.say(wire)
            puppet.send(cut)

    @rule(2, puppet=choices.MEMBERS, what=choices.FRAMES, cut=st.integers(1, 40))
    async def tell_in_two(self, puppet: Puppet, what: str, cut: int) -> None:
        """Send frames in two pieces."""
        self._say(puppet, what, [], cut)
        await self.world.wait(PIECES_APART)
        puppet.send()

    @rule(
        request=st.one_of(choices.BUSY_REQUESTS, choices.REQUESTS),
        frames=st.one_of(choices.BUSY_FRAMES, choices.FRAMES),
        foreign=choices.FOREIGN,
    )
    async def say_together(self, request: str, frames: str, foreign: bool) -> None:
        """All peers send the same; seldom each in the protocol that it does not speak."""
        for puppet in self.world.puppets:
            self._say(puppet, frames if puppet.frames != foreign else request, [], None)

    @rule(
        2, room=st.sampled_from(grammar.ROOMS), count=st.sampled_from((4, 20)), times=choices.TIMES,
        delay=choices.DELAYS, failing=st.sampled_from((0, 0, 1, 2)),
    )  # fmt: skip
    async def publish_together(self, room: str, count: int, times: int, delay: float, failing: int) -> None:
        """All peers publish into a busy room; the log may be slow or fail."""
        self.world.log.delay, self.world.log.failing_commits = delay, failing
        for puppet in self.world.puppets:
            puppet.say(grammar.publish(room, frames=puppet.frames) * times)
            puppet.send()
        self._publish(room, count, 900)

    @rule(greedy=st.booleans())
    async def hear_together(self, greedy: bool) -> None:
        """All peers read everything, and perhaps continue to."""
        for puppet in self.world.puppets:
            puppet.greedy = puppet.greedy or greedy
            puppet.hear()
            puppet.send()

    @rule(puppet=choices.ANYBODY, greedy=st.booleans())
    async def attend(self, puppet: Puppet, greedy: bool) -> None:
        """Begin or stop to read everything."""
        puppet.greedy = greedy

    @rule(puppet=choices.ANYBODY, cut=choices.CUTS)
    async def go_on(self, puppet: Puppet, cut: int | None) -> None:
        """Send more of what is unsent."""
        puppet.send(cut)

    @rule(2, puppet=choices.ANYBODY, most=choices.SIPS, polite=st.booleans())
    async def hear(self, puppet: Puppet, most: int, polite: bool) -> None:
        """Read some bytes."""
        puppet.hear(most, polite=polite)
        if polite:
            puppet.send()

    @rule(puppet=choices.ANYBODY)
    async def scrawl(self, puppet: Puppet) -> None:
        """Send bytes that are neither TLS nor HTTP."""
        puppet.hearing.readable = False
        puppet.scrawl(b"\x17\x03\x03\x00\x05hello\x15\x03\x03")
        puppet.send()

    @rule(puppet=choices.ANYBODY, farewell=st.booleans(), early=st.booleans())
    async def end(self, puppet: Puppet, farewell: bool, early: bool) -> None:
        """Send FIN, perhaps after a close_notify, or too early."""
        if farewell:
            puppet.farewell()
        if not early:
            puppet.send()
        puppet.end()

    @rule(puppet=choices.ANYBODY, abort=st.booleans())
    async def leave(self, puppet: Puppet, abort: bool) -> None:
        puppet.close(abort=abort)

    @rule(puppet=choices.ANYBODY, rounds=st.integers(0, 12), abort=st.sampled_from((True, True, False)))
    async def lie_in_wait(self, puppet: Puppet, rounds: int, abort: bool) -> None:
        """Close between two later steps of the scheduler: in a pass over a room, a handshake, an answer."""
        self.world.ambush(rounds, partial(puppet.close, abort=abort))

    # -- time -------------------------------------------------------------------------------------------------------

    @rule(4, seconds=st.sampled_from((0.1, 0.3, 0.6, 1.1, 2.2, 5.0)))
    async def wait(self, seconds: float) -> None:
        await self.world.wait(seconds)

    @rule(seconds=st.sampled_from((0.1, 0.5, 2.0, 12.0)))
    async def stall(self, seconds: float) -> None:
        """The server's process stands still."""
        await self.world.stall(seconds)

    # -- the hub and its log ----------------------------------------------------------------------------------------

    @rule(2, room=st.sampled_from(grammar.ROOMS), count=st.sampled_from((1, 1, 3, 20, 60)), size=choices.SIZES)
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
    async def retain(self, most: int) -> None:
        if not self.world.draining:
            firsts = await self.world.log.retain(lambda _: (most, 0))
            self.world.parts.hub.retained(firsts)

    @rule(2, delay=st.one_of(st.just(0.0), choices.DELAYS), reads=st.integers(0, 2), commits=st.integers(0, 1))
    async def upset_the_log(self, delay: float, reads: int, commits: int) -> None:
        log = self.world.log
        log.delay, log.failing_reads, log.failing_commits = delay, reads, commits

    # -- moderators -------------------------------------------------------------------------------------------------

    @rule(2, kind=choices.SANCTIONS, network=choices.SOURCES, room=choices.PLACES)
    async def sanction(self, kind: Penalty | None, network: str, room: str) -> None:
        """A moderator bans, mutes or kicks everybody of a network."""
        moderation = self.world.parts.moderation
        self.sanctions += 1
        if kind is None:
            moderation.apply(Enforcement(kind=None, room=room, key=network, refusal=Refusal("out", None)))
        else:
            moderation.enforce(Sanction(room, kind, "", network, 0, "noise", "u_m", "Mo", 0, id=self.sanctions))

    @rule(2, which=st.integers(1, 3))
    async def lift(self, which: int) -> None:
        """A moderator lifts one of the last sanctions."""
        self.world.parts.moderation.lift(self.sanctions + 1 - which)

    @rule()
    async def sign_out(self) -> None:
        """The guest with a token signs out everywhere."""
        parts = self.world.parts
        parts.services.identities.signed_out.end(number_of(grammar.GUEST, parts.log.identity.secret))

    # -- trouble of our own -----------------------------------------------------------------------------------------

    @rule(where=st.sampled_from(tuple(PLANTS)))
    async def plant(self, where: str) -> None:
        """Plant a bug that may cost no more than one connection."""
        self.world.plant(*PLANTS[where](self.world.parts))

    @rule(where=st.sampled_from(tuple(PLANTS_IN_ROOMS)))
    async def plant_in_room(self, where: str) -> None:
        """Plant a bug after which a room's members may wait for the next message."""
        self.world.plant(*PLANTS_IN_ROOMS[where](self.world.parts), costs_rooms=True)

    @rule(number=st.sampled_from((errno.EMFILE, errno.ECONNABORTED, errno.ENOBUFS)), times=st.integers(1, 3))
    async def refuse_to_accept(self, number: int, times: int) -> None:
        """Let accept fail."""
        self.world.refuse_to_accept(number, times)

    # -- the end ----------------------------------------------------------------------------------------------------

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


def _nobody_asks(answer: Any) -> None:
    """Ignore the acknowledgement."""
