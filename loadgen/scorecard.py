"""`loadgen scorecard`: every attack in turn, one verdict table.

Owns: which attacks are played, in which order and with how many attackers. Each is an experiment of its own, with its
own baseline, so that one does not affect the next. A target that is started anew for each attack keeps no memory from
the attack before.

With a floor, each is played there first: on a server that does the least that makes a chat, started fresh for each
attack. Delays of the victims there come from the machine and the generator, and so would affect any server. May not:
judge; measured.py says what the figures mean.
"""

import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import trio

from loadgen import target
from loadgen.client import Client, Threat
from loadgen.compare.catalogue import PEERS
from loadgen.compare.process import DiedError, Server, running
from loadgen.exercise import unmet
from loadgen.experiment import Experiment
from loadgen.measured import Floor
from loadgen.player import Player
from loadgen.preflight import InvalidRunError
from loadgen.procfs import Process
from loadgen.protocols import served
from loadgen.report import Outcome, Report, Started, verdict
from loadgen.session import Plan, cause_of_death
from loadgen.stopping import stoppable
from loadgen.target import USUAL, Target, UsageError
from loadgen.verdict import worst

#: Address space of the floor, which buffers without limit for clients that do not read; it dies before the machine
#: does.
MOST_BYTES: Final = 4 * 2**30

#: The default ping interval of the peers of a comparison.
_PING_SECONDS: Final = 20.0

_PEER: Final = PEERS["floor"]


def require_floor(where: Target) -> None:
    """Refuse a target that the floor cannot be compared with."""
    if where.tls or not where.on_loopback:
        raise UsageError("--floor: it runs on this machine and speaks no TLS, so there is nothing to compare with")


def is_fair(experiment: Experiment) -> bool:
    """Whether the floor can be compared in this attack, which is not so for malformed input: it does not validate."""
    return all(persona.threat is not Threat.MALFORMED for persona in experiment.attackers)


async def play_floor(plan: Plan, experiment: Experiment) -> Floor:
    """Play the attack there. A floor that fails says why, and does not end the scorecard."""
    try:
        async with running(_floor) as server:
            resource.prlimit(server.pid, resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
            return await _play_at(server, plan, experiment)
    except DiedError as error:
        return Floor(fault=f"the floor {error}")


def _floor(work: Path, port: int) -> list[str]:
    return _PEER.kit.command(work, work, port, _PING_SECONDS)


async def _play_at(server: Server, plan: Plan, experiment: Experiment) -> Floor:
    there = replace(
        plan,
        target=target.find(server.url),
        server=Process(server.pid) if plan.server else None,  # watching a process has a cost, so watch both or neither
        conditions=(),
        no_bar=True,  # the floor is a measure, and is not judged
        endpoint=USUAL,
    )
    try:
        report = await Player(there, experiment).play()
    except InvalidRunError as error:
        server.require()  # if it died, that is the better reason
        return Floor(fault=str(error))
    server.require()
    return as_floor(report)


def as_floor(report: Report) -> Floor:
    """The part of a finished run that is reported."""
    if report.outcome is Outcome.INTERRUPTED:
        return Floor(interrupted=True)
    if report.outcome is Outcome.INVALID:
        return Floor(fault=report.verdict.reasons[0])
    return Floor(figures=report.figures)


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
        """Fail at once if `--start` does not work, instead of in each row, an hour later."""
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
            self.parts.append(await self._play_one(kind, experiment))
            if self.parts[-1].outcome is Outcome.INTERRUPTED:
                self.stop.set()
                return

    async def _play_one(self, kind: type[Client], experiment: Experiment) -> Report:
        why_not = unmet(kind, served(experiment.victims)) or await self._why_gone()
        if why_not:
            return Player(self.plan, experiment).report_without(why_not, Outcome.NOT_EXERCISED)
        found = await self._play_at_the_floor(experiment)
        if found is not None and found.interrupted:
            stopped = "stopped at the floor, before the target was attacked"
            return Player(self.plan, experiment, found).report_without(stopped, Outcome.INTERRUPTED)
        return await self._play_at_the_target(experiment, found)

    async def _why_gone(self) -> str:
        """Why the target is gone, or an empty text. It died after the last attack, so that row fell short."""
        if self.start:
            return ""
        cause = await cause_of_death(self.plan)
        if not cause:
            return ""
        last = self.parts[-1] if self.parts else None
        if last is not None and last.outcome is Outcome.HELD:
            last.verdict = verdict(Outcome.FELL_SHORT, [f"the server died: {cause}"])
        return f"not exercised: the server was gone before this attack ({cause})"

    async def _play_at_the_target(self, experiment: Experiment, found: Floor | None) -> Report:
        player = Player(self.plan, experiment, found)
        try:
            async with self._running_target() as plan:
                player = Player(plan, experiment, found)
                return await player.play()
        except InvalidRunError as error:  # most likely the server has not recovered, which is this row's result
            return player.report_without(str(error))
        except DiedError as error:
            return player.report_without(f"--start: the target {error}")

    @asynccontextmanager
    async def _running_target(self) -> AsyncIterator[Plan]:
        plan = self.plan
        if not self.start:
            yield plan
            return
        async with running(lambda work, port: self.start, port=plan.target.port) as server:
            yield replace(plan, server=Process(server.pid))

    async def _play_at_the_floor(self, experiment: Experiment) -> Floor | None:
        if not self.with_floor or not is_fair(experiment):
            return None
        self.plan.progress.say("at the floor first")
        found = await play_floor(self.plan, experiment)
        self.plan.progress.say(f"now at {self.plan.target.url}")
        return found

    def _report(self) -> Report:
        parts = self.parts
        outcomes = [part.outcome for part in parts]
        outcome = Outcome.INTERRUPTED if self.stop.is_set() else worst(outcomes)
        reasons = [
            f"{part.command}: {'; '.join(part.verdict.reasons)}" for part in parts if part.outcome is not Outcome.HELD
        ]
        return Report(
            command="scorecard",
            arguments=self.plan.arguments,
            target=self.plan.target.url,
            seed=self.plan.seed,
            started=self.started.at,
            seconds=self.started.seconds,
            verdict=verdict(outcome, reasons),
            figures={
                "attacks": len(parts),
                "held": outcomes.count(Outcome.HELD),
                "fell_short": outcomes.count(Outcome.FELL_SHORT),
                "invalid": outcomes.count(Outcome.INVALID),
                "not_exercised": outcomes.count(Outcome.NOT_EXERCISED),
            },
            meanings={
                "attacks": "attacks that were played",
                "held": "of these, the target held",
                "fell_short": "the target fell short",
                "invalid": "the generator was the bottleneck, or there were no victims to compare with",
                "not_exercised": "the attack did not take place",
            },
            parts=parts,
        )
