"""`loadgen scorecard`: every attack in turn, one verdict table.

Owns: which attacks are played, in which order and with how many attackers. Each is an experiment of its own, with its
own baseline, so that one does not affect the next. With a floor, each is played there first. A target that is started
anew for each attack keeps no memory from the attack before.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import trio

from loadgen import floor
from loadgen.client import Client
from loadgen.compare.process import DiedError, running
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
from loadgen.target import UsageError
from loadgen.verdict import worst


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
        if not self.with_floor or not floor.is_fair(experiment):
            return None
        self.plan.progress.say("at the floor first")
        found = await floor.play(self.plan, experiment)
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
