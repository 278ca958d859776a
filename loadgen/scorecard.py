"""`loadgen attack`, and `loadgen scorecard`: every attack in turn, one verdict table.

Owns: their flags and checks; which attacks are played, in which order and with how many attackers. Each has its own
baseline, so that one does not affect the next. With a floor, each is played first on a server that does the least that
makes a chat. May not: judge.
"""

import math
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import trio
from cyclopts import Parameter

from loadgen import flags
from loadgen.clients.client import Client, Threat
from loadgen.common import COMMON, LOADING, Common, ConnectRate, Loading, Url, finish, make_plan
from loadgen.compare.catalogue import PEERS
from loadgen.compare.process import DiedError, running
from loadgen.flags import Clients, N, Names, Patience, PerSecond, Seconds
from loadgen.net import target
from loadgen.net.target import PER_ADDRESS, USUAL, UsageError
from loadgen.output import wording
from loadgen.personas import registry
from loadgen.protocols import served
from loadgen.report.figures import SCORECARD, meanings
from loadgen.report.schema import Outcome, Report, Started, verdict
from loadgen.report.verdict import worst
from loadgen.run import experiment
from loadgen.run.exercise import unmet
from loadgen.run.experiment import NEIGHBOURS, NEWCOMERS_PER_S, OPERATION_TIMEOUT_SECONDS, Experiment
from loadgen.run.player import Player
from loadgen.run.procfs import Process
from loadgen.run.session import Plan, cause_of_death
from loadgen.stopping import stoppable

#: Address space of the floor, which buffers without limit for clients that do not read; it dies before the machine
#: does.
MOST_BYTES: Final = 4 * 2**30

#: The default ping interval of the peers of a comparison.
_PING_SECONDS: Final = 20.0

#: Seconds that a row of a scorecard lasts for its honest slow clients: all but `sleepy-tab` complete a cycle, and all
#: rows take 35 minutes. With a minute for each they would take 55.
LONGEST_ROW: Final = 36.0


async def play_floor(plan: Plan, experiment: Experiment) -> Report:
    """Play the attack at the floor. A floor that fails says why, and does not end the scorecard."""
    # the floor is a measure, and is not judged
    there = replace(plan, conditions=(), no_bar=True, endpoint=USUAL)
    try:
        kit = PEERS["floor"].kit
        async with running(lambda work, port: kit.command(work, work, port, _PING_SECONDS)) as server:
            resource.prlimit(server.pid, resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
            watched = Process(server.pid) if plan.server else None  # it has a cost, so watch both or neither
            report = await Player(replace(there, target=target.find(server.url), server=watched), experiment).reported()
            server.require()  # if it died, that is the better reason
            return report
    except DiedError as error:
        return Player(plan, experiment).report_without(f"the floor {error}")


@dataclass
class Scorecard:
    plan: Plan
    experiment: Experiment  # its attackers are replaced
    kinds: Sequence[type[Client]]
    clients: int
    with_floor: bool = field(default=False, kw_only=True)
    start: Sequence[str] = field(default=(), kw_only=True)  # the command that starts the target; empty: it runs
    started: Started = field(default_factory=Started, init=False)
    parts: list[Report] = field(default_factory=list, init=False)
    stop: trio.Event = field(default_factory=trio.Event, init=False)

    async def play(self) -> Report:
        """Play all attacks, one after the other. Raises UsageError if the target cannot be started at all."""
        await self._require_start()
        async with stoppable(self.plan.progress.say) as self.stop:  # an attack has its own while it is played
            await self._play_all()
        return self._report()

    async def _require_start(self) -> None:
        """Fail at once if `--start` does not work, instead of in each row."""
        try:
            async with self._running_target():
                pass
        except DiedError as error:
            raise UsageError(f"--start: the target {error}") from None

    async def _play_all(self) -> None:
        for number, kind in enumerate(self.kinds, start=1):
            count = min(kind.usual_clients, self.clients)
            self.plan.progress.say(f"attack {number} of {len(self.kinds)}: {count:,} {kind.name}")
            experiment = replace(self.experiment.against({kind: count}), command=kind.name)
            is_first = all(part.outcome is Outcome.NOT_EXERCISED for part in self.parts)
            part = await self._play_one(kind, experiment)
            self.parts.append(part)
            if part.outcome is Outcome.INTERRUPTED:
                self.stop.set()
                return
            if is_first and part.outcome in {Outcome.INVALID, Outcome.FELL_SHORT} and not part.phases:
                return  # nobody is served without an attack: each further row would take as long and say the same

    async def _play_one(self, kind: type[Client], experiment: Experiment) -> Report:
        why_not = unmet(kind, served(experiment.victims), tls=self.plan.target.tls) or await self._why_gone()
        if why_not:
            return Player(self.plan, experiment).report_without(why_not, Outcome.NOT_EXERCISED)
        found = await self._play_at_the_floor(experiment)
        if found and found.outcome is Outcome.INTERRUPTED:
            stopped = "stopped at the floor, before the target was attacked"
            return Player(self.plan, experiment, found).report_without(stopped, Outcome.INTERRUPTED)
        try:
            async with self._running_target() as plan:
                return await Player(plan, experiment, found).reported()
        except DiedError as error:
            return Player(self.plan, experiment, found).report_without(f"--start: the target {error}")

    async def _why_gone(self) -> str:
        """Why the target is gone, or an empty text. It died after the last attack it met, so that row fell short."""
        if self.start:
            return ""
        cause = await cause_of_death(self.plan)
        if not cause:
            return ""
        last = next((part for part in reversed(self.parts) if part.phases), None)
        if last is not None and last.outcome is not Outcome.FELL_SHORT:
            known = last.verdict
            last.verdict = verdict(Outcome.FELL_SHORT, [f"the server died: {cause}"], [*known.reasons, *known.notes])
        return f"not exercised: the server was gone before this attack ({cause})"

    @asynccontextmanager
    async def _running_target(self) -> AsyncIterator[Plan]:
        plan = self.plan
        if not self.start:
            yield plan
            return
        where = plan.target
        async with running(lambda work, port: self.start, host=where.host, port=where.port) as server:
            # where the name has several addresses, only now is it known at which of them it listens
            yield replace(plan, target=target.find(where.url), server=Process(server.pid))

    async def _play_at_the_floor(self, experiment: Experiment) -> Report | None:
        # the floor does not validate, so there is nothing to compare where input is malformed
        if not self.with_floor or any(each.threat is Threat.MALFORMED for each in experiment.attackers):
            return None
        self.plan.progress.say("at the floor first")
        found = await play_floor(self.plan, experiment)
        self.plan.progress.say(f"now at {self.plan.target.url}")
        return found

    def _report(self) -> Report:
        parts = self.parts
        outcomes = [part.outcome for part in parts]
        outcome = Outcome.INTERRUPTED if self.stop.is_set() else worst(outcomes)
        counts = Counter(each.name.lower() for each in outcomes)
        failed = [
            (part.outcome, f"{part.command} {_main_reason(part)}") for part in parts if part.outcome is not Outcome.HELD
        ]
        reasons = [why for each, why in failed if each is outcome]
        notes = [why for each, why in failed if each is not outcome]
        return Report(
            command="scorecard",
            target=self.plan.target.url,
            seed=self.plan.seed,
            started=self.started.at,
            seconds=self.started.seconds,
            verdict=verdict(outcome, reasons, notes),
            figures={"attacks": len(parts), **{name: counts[name] for name in SCORECARD if name != "attacks"}},
            meanings=meanings(SCORECARD),
            parts=parts,
        )


def _main_reason(part: Report) -> str:
    """Its outcome and first reason; the row has all of them."""
    reasons = wording.main_reasons(part)
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return ": ".join([part.outcome, *reasons[:1]]) + more


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Attacking:
    """The flags of both commands: the clients beside an attack, and the phases around it."""

    victims: Clients = 50
    """Healthy clients, each with an operation every 100 ms."""
    victim: Annotated[tuple[str, ...], Parameter(metavar="KIND")] = ("chat",)
    """What the victims are: chat (WebSocket, long-poll, event stream and GET together), ws, poll, sse, or for other
    servers ws-echo and 'GET /path'; repeatable, for equal shares."""
    newcomers: PerSecond = NEWCOMERS_PER_S
    """Healthy clients a second that connect, do one operation and leave, beside those that stay; 0 = none."""
    timeout: Patience = OPERATION_TIMEOUT_SECONDS
    """Seconds after which a victim's operation has failed."""
    neighbours: N = NEIGHBOURS
    """Honest slow clients of each kind beside them (see `loadgen list`), and 300 behind one address: any that is hurt
    is collateral; 0 = none. Only kinds whose protocol the victims use take part."""
    fixed_duration: bool = False
    """Leave out honest slow clients whose cycle takes longer than the attack; otherwise the attack lasts as long as
    they need, in a scorecard up to 36 s in all."""
    baseline: Seconds = 5.0
    """Seconds to measure before an attack."""
    recovery: Seconds = 5.0
    """Seconds to measure after it."""
    per_address: Annotated[int, Parameter(metavar="N", validator=flags.BEHIND_ONE)] = PER_ADDRESS
    """Attackers behind one source address; 1 = an address each, as a botnet has. Only for targets on 127.0.0.0/8: to
    others, ::1 included, this machine has one address."""
    connect_rate: ConnectRate = 5000.0

    def experiment(self, duration: float, longest_cycle: float = math.inf) -> Experiment:
        """Return the experiment without its attackers."""
        probes, slow = flags.probes(self.victim, self.victims, self.newcomers, self.timeout, self.neighbours)
        what = experiment.attack(
            probes=probes,
            baseline_seconds=self.baseline,
            attack_seconds=duration,
            recovery_seconds=self.recovery,
            longest_cycle=0.0 if self.fixed_duration else longest_cycle,
            per_address=self.per_address,
        )
        return what.beside(slow)


ATTACKING: Final = Attacking()


def attack(
    url: Url,
    /,
    *,
    kind: Names,
    clients: Clients = 8000,
    duration: Seconds = 20.0,
    attacking: Attacking = ATTACKING,
    loading: Loading = LOADING,
    common: Common = COMMON,
) -> int:
    """Attack a server and measure healthy clients beside it: baseline, attack, recovery.

    The default bar: every operation of the victims succeeds, during the attack and after it; their p99 stays below
    1.5 times the baseline's or 25 ms above it; no honest slow client is hurt; and (with --server-pid) the server's
    memory grows by at most 512 KiB, and 2 KiB for each attacker.

    Args:
        kind: Attacks to play at once, see `loadgen list`: slow-head,idle-connect; or all-slow, all-greedy,
            all-malformed.
        clients: Attackers in all, shared evenly among the kinds.
        duration: Seconds of attack.
    """
    loading.load_personas()
    kinds = flags.attacks(kind, "--kind")
    what = attacking.experiment(duration)
    left_out = _left_out(kinds, what, url)
    playable = [each for each in kinds if each not in left_out]
    what = what.against(flags.shares(dict.fromkeys(playable, 1.0), clients) if playable else {})
    plan = make_plan(url, common, loading, what, connect_rate=attacking.connect_rate)
    played = Player(plan, what, left_out=[*left_out.values()])
    return finish(trio.run(played.reported) if playable else played.report_without("", Outcome.NOT_EXERCISED), common)


def _left_out(kinds: Iterable[type[Client]], what: Experiment, url: str) -> dict[type[Client], str]:
    """The attacks that cannot be played beside these victims at this URL, each with the reason."""
    needs, tls = served(what.victims), target.is_secure(url)
    return {kind: why for kind in kinds if (why := unmet(kind, needs, tls=tls))}


def scorecard(
    url: Url,
    /,
    *,
    kind: Names = "",
    clients: Clients = 8000,
    duration: Seconds = 12.0,
    attacking: Attacking = ATTACKING,
    floor: bool = False,
    start: Annotated[str, Parameter(metavar="COMMAND")] | None = None,
    loading: Loading = LOADING,
    common: Common = COMMON,
) -> int:
    """Play every attack in turn and print one verdict table.

    Each attack has its own baseline and its own recovery; --fail-if is judged for each.

    Args:
        kind: Only these attacks, comma-separated; all-slow, all-greedy and all-malformed are groups of them. By
            default all that can be played.
        clients: Most attackers of one kind; some kinds use fewer, see docs/personas.md.
        duration: Seconds of each attack.
        floor: Play each slow or greedy attack on a bare epoll loop first, to show what this machine allows: if
            even that is later than 15 ms, late answers of the target prove nothing.
        start: Start the target anew for each attack with this command, which listens at URL, in an empty folder, and
            kill it afterwards. It is measured as with --server-pid, and its memory is that of one attack.
    """
    loading.load_personas()
    what = attacking.experiment(duration, LONGEST_ROW)
    every = [persona for persona in registry().values() if not persona.honest]
    kinds = flags.attacks(kind, "--kind") if kind else every
    if floor and ((where := target.find(url, allow=common.allow_target)).tls or not where.on_loopback):
        raise UsageError("--floor: it runs on this machine and speaks no TLS, so there is nothing to compare with")
    command = flags.command("--start", start, target.find(url, allow=common.allow_target)) if start else []
    if command and loading.server_pid is not None:
        raise UsageError("--server-pid: with --start it is known")
    playable = kinds - _left_out(kinds, what, url).keys()
    largest = max(kinds, key=lambda each: each.usual_clients)
    plan = make_plan(
        url,
        common,
        loading,
        what.against({largest: min(clients, largest.usual_clients)}),
        connect_rate=attacking.connect_rate,
        rounds=(1 + floor) * len(playable),
        started_by_us=bool(command),
    )
    return finish(trio.run(Scorecard(plan, what, kinds, clients, with_floor=floor, start=command).play), common)
