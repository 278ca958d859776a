"""`loadgen attack`: baseline, attack, recovery, and what healthy clients met in each.

Owns: the order of an attack. All three phases come from one run on one machine, so that noise is in all of them; the
honest slow clients, whom a good defence must not hurt, are there from before the baseline until the end.
`findings.py` makes figures of what was seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio

from loadgen import cpu_pressure, cpu_steal
from loadgen.client import Client, Needs
from loadgen.exercise import whole_cycles, without_a_page
from loadgen.findings import ATTACKERS, BESIDE, Findings, Floor
from loadgen.liveness import cause_of_death
from loadgen.memory import Size
from loadgen.messages import FailPending, MakeVictims, RereadMessages, StopTraffic
from loadgen.personas.chat import Chat
from loadgen.preflight import InvalidRunError
from loadgen.procfs import Usage
from loadgen.report import Outcome, Report, verdict
from loadgen.scenario import Plan, Session
from loadgen.scrape import scrape
from loadgen.span import Span
from loadgen.timers import now
from loadgen.victims.kinds import KEEPS_MESSAGES
from loadgen.workers import Worker, Workers

#: Before the attack: how long, and how often each, the victims try to join.
CONNECT_LIMIT_SECONDS: Final = 15.0
CONNECT_ATTEMPTS: Final = 3

#: The honest slow take their time to arrive: a request typed by hand takes 8 s.
NEIGHBOURS_SECONDS: Final = 12.0

#: Of each kind, beside an attack.
NEIGHBOURS: Final = 5

#: What is said in their room: about 5 KB/s, more than a phone on a 2G network can take.
NEIGHBOURS_RATE: Final = 5.0
NEIGHBOURS_TEXT_BYTES: Final = 1000

#: An operation whose message has not come back by then has failed.
OPERATION_TIMEOUT_SECONDS: Final = 5.0

#: Each victim has an operation as often as this, ...
OPERATION_SECONDS: Final = 0.1

#: ... but over HTTP one follows the other, so that a target far away is asked once in so many of its round trips.
ROUND_TRIPS: Final = 2.0

#: Newcomers that come a second: each shows a moment in which the door was open.
NEWCOMERS_PER_S: Final = 10.0

#: Attackers have computers of their own; here they share one with the victims, and it is not their CPU that is judged.
#: At 10 a process gets a tenth of what it competes with.
CROWD_NICENESS: Final = 10

#: How long a server may take after the recovery to have as few descriptors open as before the attack.
RETURN_SECONDS: Final = 5.0

_POLL_WAIT_SECONDS: Final = 25.0
_WATCH_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """What `attack` is told beside the plan."""

    counts: Mapping[type[Client], int]
    victims: Mapping[str, int]  # by kind, see victims/runner.py
    neighbours: Mapping[type[Client], int]
    baseline_seconds: float
    attack_seconds: float
    recovery_seconds: float
    timeout_seconds: float = OPERATION_TIMEOUT_SECONDS
    newcomers_per_s: float = NEWCOMERS_PER_S
    fixed_duration: bool = False  # rather leave neighbours out than play for as long as they need

    @property
    def beside(self) -> int:
        """Connections beside the attackers': a victim over HTTP has two."""
        waiting = round(self.newcomers_per_s * self.timeout_seconds)
        return 2 * sum(self.victims.values()) + sum(self.neighbours.values()) + 1 + waiting

    def against(self, counts: Mapping[type[Client], int]) -> "AttackConfig":
        """The same with these attackers."""
        return replace(self, counts=counts)

    @property
    def phases(self) -> list[tuple[str, float]]:
        """The phases and how long they are meant to be."""
        return [
            ("baseline", self.baseline_seconds),
            ("attack", self.attack_seconds),
            ("recovery", self.recovery_seconds),
        ]


class Attack:
    """One attack."""

    def __init__(self, plan: Plan, config: AttackConfig, floor: Floor | None = None) -> None:
        self._plan = plan
        self._config = config
        self._session = Session(plan)
        self._findings = Findings(
            plan,
            self._session,
            attackers=config.counts,
            neighbours={**config.neighbours, Chat: 1},
            timeout_seconds=config.timeout_seconds,
            floor=floor,
        )

    async def play(self) -> Report:
        """Play it and report."""
        await self._look_at_the_target()
        attackers = {persona.name for persona in self._config.counts}
        self._plan.progress.plan(self._config.phases, attackers=attackers)
        await self._session.play(self._act)
        return self._findings.report()

    async def _look_at_the_target(self) -> None:
        """Fetch its page: how far away it is, and whether those can come who need one."""
        pages = await self._session.look()
        self._findings.round_trip_seconds = min(page.seconds for page in pages)
        if self._config.neighbours:
            self._choose_neighbours(pages[0].status)

    def _choose_neighbours(self, status: int | None) -> None:
        """Only those play that can, and the attack lasts until each has done once all that it does."""
        config = self._config
        neighbours, no_page = without_a_page(config.neighbours, status)
        beside = config.baseline_seconds + config.recovery_seconds
        if not config.fixed_duration:
            longest = max((persona.cycle_seconds for persona in neighbours), default=0.0)
            config = replace(config, attack_seconds=max(config.attack_seconds, longest - beside))
        neighbours, too_long = whole_cycles(neighbours, config.attack_seconds + beside)
        self._config = replace(config, neighbours=neighbours)
        self._findings.left_out += [*no_page, *too_long]

    def leave_out(self, reason: str) -> None:
        """Note what is not played, and why."""
        self._findings.left_out.append(reason)

    def report_without(self, reason: str, outcome: Outcome = Outcome.INVALID) -> Report:
        """A report of an attack that could not be played, for those who go on to the next."""
        report = self._findings.report()
        reasons = [reason] if reason else self._findings.left_out
        report.verdict = verdict(outcome, list(reasons))
        return report

    async def _act(self) -> None:
        session, config = self._session, self._config
        victims = await session.spawn_victims()
        crowd = await session.spawn_crowd(niceness=CROWD_NICENESS)
        session.begin("warm-up")
        await self._invite(victims)
        if config.neighbours:
            await self._settle_neighbours(crowd)
        await self._make(crowd, ATTACKERS, config.counts)
        await session.pause(self._plan.settle_seconds)
        self._findings.counters_before = await self._scrape()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_memory)
            await self._phase("baseline", config.baseline_seconds, crowd)
            self._findings.descriptors_before = self._plan.server.descriptors() if self._plan.server else None
            await self._assail(crowd)
            await self._phase("recovery", config.recovery_seconds, crowd)
            nursery.cancel_scope.cancel()
        await self._see_what_is_left()
        self._findings.died = await cause_of_death(self._plan.target, self._plan.server)
        await victims.order(StopTraffic())
        await session.until(lambda: victims.up_to_date and not victims.current.outstanding, config.timeout_seconds)
        await victims.order(FailPending())
        if KEEPS_MESSAGES & config.victims.keys():
            await victims.order(RereadMessages())
        self._findings.counters_after = await self._scrape()

    async def _invite(self, victims: Worker) -> None:
        """Connect the victims; without them there is no run."""
        config, wanted = self._config, sum(self._config.victims.values())
        await victims.order(
            MakeVictims(
                counts=dict(config.victims),
                timeout_seconds=config.timeout_seconds,
                interval_seconds=max(OPERATION_SECONDS, ROUND_TRIPS * self._findings.round_trip_seconds),
                newcomers_per_s=config.newcomers_per_s,
                path=self._plan.path,
                websocket_path=self._plan.websocket_path,
            )
        )

        def decided() -> bool:
            status = victims.current
            return status.connected == wanted or status.failures >= CONNECT_ATTEMPTS * wanted

        await self._session.until(decided, CONNECT_LIMIT_SECONDS)
        status = victims.current
        if status.connected < wanted:
            chats = bool(KEEPS_MESSAGES & config.victims.keys())
            hint = "; for a server that does not speak chat.v1, say --victim 'GET /path' or --victim ws-echo"
            raise InvalidRunError(
                f"only {status.connected} of {wanted} victims could do their work before the attack:"
                f" {status.last_failure or 'no answer'}{hint if chats else ''}"
            )

    @property
    def _speaker(self) -> dict[type[Client], int]:
        """Who speaks in the neighbours' room, if any of them is in one."""
        return {Chat: 1} if any(persona.needs is Needs.CHAT for persona in self._config.neighbours) else {}

    async def _settle_neighbours(self, crowd: Workers) -> None:
        """Let the honest slow come in, and somebody talk to them: a slow reader in a silent room is none."""
        await self._make(crowd, BESIDE, {**self._config.neighbours, **self._speaker})
        await crowd.open(BESIDE, 1.0)
        await self._session.until(lambda: crowd.settled, NEIGHBOURS_SECONDS)
        await crowd.speak(NEIGHBOURS_RATE, text_bytes=NEIGHBOURS_TEXT_BYTES)

    async def _make(self, crowd: Workers, group: str, counts: Mapping[type[Client], int]) -> None:
        await crowd.make(
            group,
            {persona.name: number for persona, number in counts.items()},
            rooms=("lobby",),
            poll_wait_seconds=_POLL_WAIT_SECONDS,
            path=self._plan.path,
            websocket_path=self._plan.websocket_path,
        )

    async def _phase(self, name: str, seconds: float, crowd: Workers) -> None:
        findings = self._findings
        begun, before, spent = now(), self._usage(), _cpu_seconds(crowd)
        ticks, pressure = cpu_steal.read(), cpu_pressure.read()
        await self._session.enter(name)
        try:
            await self._session.pause(seconds)
        finally:
            findings.spans[name] = Span(
                begun,
                now() - begun,
                before,
                self._usage(),
                _cpu_seconds(crowd) - spent,
                ticks,
                cpu_steal.read(),
                pressure,
                cpu_pressure.read(),
            )

    async def _assail(self, crowd: Workers) -> None:
        watching = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, crowd, watching)
            await crowd.open(ATTACKERS, 1.0)
            try:
                await self._phase("attack", self._config.attack_seconds, crowd)
            finally:
                watching.cancel()
        await crowd.close(ATTACKERS)
        await self._session.until(lambda: crowd.settled, CONNECT_LIMIT_SECONDS)

    async def _see_what_is_left(self) -> None:
        """Let the server close what the attackers left behind, and count what it still has."""
        server, findings = self._plan.server, self._findings
        if server is None:
            return

        def is_back() -> bool:
            findings.descriptors_after = server.descriptors()
            after, before = findings.descriptors_after, findings.descriptors_before
            return after is None or before is None or after <= before

        await self._session.until(is_back, RETURN_SECONDS)

    async def _watch_memory(self) -> None:
        """Read the server's memory again and again."""
        findings = self._findings
        while True:
            usage = self._usage()
            if usage is None:
                return
            findings.memory.setdefault(self._session.phase, []).append(Size(now(), usage.pss_bytes))
            await trio.sleep(_WATCH_SECONDS)

    async def _watch(self, crowd: Workers, scope: trio.CancelScope) -> None:
        """Count attacker-seconds, and what we need ourselves for the most attackers that were held."""
        findings, own_before = self._findings, self._session.own_bytes()
        peak, begun, last = 0, now(), now()
        with scope:
            while True:
                await trio.sleep(_WATCH_SECONDS)
                held, moment = crowd.held(ATTACKERS), now()
                findings.attacker_seconds += held * (moment - last)
                last = moment
                if held <= peak:
                    continue
                peak = held
                findings.opening_seconds = crowd.last_held - begun
                findings.own_growth = self._session.own_bytes() - own_before

    def _usage(self) -> Usage | None:
        return self._plan.server.usage() if self._plan.server else None

    async def _scrape(self) -> dict[str, float] | None:
        return await trio.to_thread.run_sync(partial(scrape, self._plan.target))


def _cpu_seconds(crowd: Workers) -> float:
    return sum(worker.watched.cpu_seconds() or 0.0 for worker in crowd.workers)
