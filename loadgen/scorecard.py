"""`loadgen scorecard`: every attack in turn, one verdict table.

Owns: which attacks are played, in which order and with how many attackers; each is a whole experiment of its own, with
its own baseline, so that one does not colour the next. With a floor beside, each is played there first. A target that
is started anew for each attack has nothing left of the attack before in its memory.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from loadgen import floor
from loadgen.client import Client
from loadgen.compare.process import DiedError, running
from loadgen.exercise import unmet
from loadgen.experiment import Experiment
from loadgen.liveness import cause_of_death
from loadgen.measured import Floor
from loadgen.player import Player
from loadgen.preflight import InvalidRunError
from loadgen.procfs import Process
from loadgen.protocols import served
from loadgen.report import Outcome, Report, Started, verdict
from loadgen.session import Plan
from loadgen.stopping import stoppable
from loadgen.target import UsageError
from loadgen.verdict import worst


class Scorecard:
    def __init__(
        self,
        plan: Plan,
        experiment: Experiment,
        kinds: Iterable[type[Client]],
        clients: int,
        *,
        with_floor: bool = False,
        start: Sequence[str] = (),
    ) -> None:
        self._plan = plan
        self._experiment = experiment  # its attackers are not looked at
        self._kinds = list(kinds)
        self._clients = clients
        self._with_floor = with_floor
        self._start = start  # the command that starts the target; empty: it runs
        self._started = Started()
        self._parts: list[Report] = []
        self._stop = trio.Event()

    async def play(self) -> Report:
        """Play all attacks, one after the other. Raises UsageError if the target cannot be started at all."""
        await self._require_start()
        async with stoppable(self._plan.progress.say) as self._stop:  # while an attack is played, it has its own
            await self._play_all()
        return self._report()

    async def _require_start(self) -> None:
        """A command that starts nothing would be told in each row, an hour later."""
        try:
            async with self._running_target():
                pass
        except DiedError as error:
            raise UsageError(f"--start: the target {error}") from None

    async def _play_all(self) -> None:
        for number, kind in enumerate(self._kinds, start=1):
            count = min(kind.usual_clients, self._clients)
            self._plan.progress.say(f"attack {number} of {len(self._kinds)}: {count:,} {kind.name}")
            part = await self._play_one(kind, self._experiment.against({kind: count}))
            self._parts.append(part)
            if part.outcome is Outcome.INTERRUPTED:
                self._stop.set()
                return

    async def _play_one(self, kind: type[Client], experiment: Experiment) -> Report:
        why_not = unmet(kind, served(experiment.victims)) or await self._why_gone()
        if why_not:
            part = Player(self._plan, experiment).report_without(why_not, Outcome.NOT_EXERCISED)
            part.command = kind.name
            return part
        found = await self._play_at_the_floor(experiment)
        if found is not None and found.interrupted:
            part = Player(self._plan, experiment, found).report_without(
                "stopped at the floor, before the target was attacked", Outcome.INTERRUPTED
            )
        else:
            part = await self._play_at_the_target(experiment, found)
        part.command = kind.name
        return part

    async def _why_gone(self) -> str:
        """Why there is nothing left to attack. The row that last saw it alive is the one after which it died."""
        if self._start:
            return ""
        cause = await cause_of_death(self._plan.target, self._plan.server)
        if not cause:
            return ""
        last = self._parts[-1] if self._parts else None
        if last is not None and last.outcome is Outcome.HELD:
            last.verdict = verdict(Outcome.FELL_SHORT, [f"the server died: {cause}"])
        return f"not exercised: the server was gone before this attack ({cause})"

    async def _play_at_the_target(self, experiment: Experiment, found: Floor | None) -> Report:
        player = Player(self._plan, experiment, found)
        try:
            async with self._running_target() as plan:
                player = Player(plan, experiment, found)
                return await player.play()
        except InvalidRunError as error:  # the server did not get up again, most likely: that is this row's finding
            return player.report_without(str(error))
        except DiedError as error:
            return player.report_without(f"--start: the target {error}")

    @asynccontextmanager
    async def _running_target(self) -> AsyncIterator[Plan]:
        plan = self._plan
        if not self._start:
            yield plan
            return
        async with running(lambda work, port: self._start, port=plan.target.port) as server:
            yield replace(plan, server=Process(server.pid))

    async def _play_at_the_floor(self, experiment: Experiment) -> Floor | None:
        if not self._with_floor or not floor.is_fair(experiment):
            return None
        self._plan.progress.say("at the floor first")
        found = await floor.play(self._plan, experiment)
        self._plan.progress.say(f"now at {self._plan.target.url}")
        return found

    def _report(self) -> Report:
        parts = self._parts
        outcomes = [part.outcome for part in parts]
        outcome = Outcome.INTERRUPTED if self._stop.is_set() else worst(outcomes)
        reasons = [
            f"{part.command}: {'; '.join(part.verdict.reasons)}" for part in parts if part.outcome is not Outcome.HELD
        ]
        return Report(
            command="scorecard",
            arguments=self._plan.arguments,
            target=self._plan.target.url,
            seed=self._plan.seed,
            started=self._started.at,
            seconds=self._started.seconds,
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
