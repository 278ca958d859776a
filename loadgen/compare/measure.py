"""One measurement: an experiment against one server, and its report.

Owns: what every measurement of a comparison has in common. figures.py defines the figures, and findings.py checks
whether they are sound. Errors may come in exception groups, because there are nurseries here.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import trio

from loadgen import flags
from loadgen.clients.client import Client
from loadgen.clients.messages import Role
from loadgen.compare.process import DiedError, Running
from loadgen.net import target
from loadgen.net.target import Endpoint
from loadgen.personas import registry
from loadgen.report.schema import Outcome, Report
from loadgen.run import experiment
from loadgen.run.crowd import Crowd
from loadgen.run.experiment import Experiment, Group, Probes
from loadgen.run.player import Player
from loadgen.run.preflight import InvalidRunError
from loadgen.run.procfs import Process
from loadgen.run.session import Plan, cause_of_death
from loadgen.run.workers import Workers, spawn

#: Pause between the arrival of a crowd and the first reading; shorter than in `loadgen run`, because there are many
#: runs.
SETTLE_SECONDS: Final = 0.8

BASELINE_SECONDS: Final = 2.0
RECOVERY_SECONDS: Final = 1.0

#: Attackers that connect per second, as in `loadgen attack`.
CONNECT_RATE: Final = 5000.0

#: A path that every peer answers with a short page.
ENDPOINT: Final = Endpoint(path="/healthz")

#: Time for a crowd to connect. A slow server accepts 800 a second.
_COMING_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.1
_BESIDE: Final = "beside"


class Meter:
    def __init__(self, server: Running, plan: Plan, stop: trio.Event, *, allow: str | None = None) -> None:
        self.server = server
        self.reports: list[Report] = []
        self._stop = stop  # set by Ctrl-C, which ends the comparison
        self._plan = replace(
            plan,
            target=target.find(server.url, allow=allow),
            server=None if server.pid is None else Process(server.pid),
            no_bar=True,  # a comparison judges no server
        )

    async def run(
        self,
        counts: Mapping[str, int],
        *,
        label: str = "",
        seconds: float,
        rate: float = 0.0,
        rooms: int = 1,
        endpoint: Endpoint | None = None,
    ) -> Report:
        """Play honest load, see `loadgen run`; `label` distinguishes the runs of one scenario."""
        load = experiment.honest_load(
            _personas(counts),
            rooms=flags.rooms(rooms, "compare", sum(counts.values())),
            rate=rate,
            seconds=seconds,
        )
        return await self._played(load, 0.0, label, endpoint)

    async def attack(self, counts: Mapping[str, int], *, victims: Mapping[str, int], seconds: float) -> Report:
        attacked = experiment.attack(  # without neighbours: most peers do not speak enough of the protocol for them
            probes=Probes(victims=victims),
            baseline_seconds=BASELINE_SECONDS,
            attack_seconds=seconds,
            recovery_seconds=RECOVERY_SECONDS,
        )
        return await self._played(attacked.against(_personas(counts)), CONNECT_RATE, "")

    @asynccontextmanager
    async def beside(self, counts: Mapping[str, int]) -> AsyncIterator[int]:
        """Hold a crowd, in a process of its own, while something else is measured; yields how many are held."""
        role = Role(target=self._plan.target, seed=self._plan.seed, connect_rate=0.0, endpoint=ENDPOINT)
        async with trio.open_nursery() as nursery:
            worker = await spawn(nursery, "crowd", role)
            try:
                crowd = Workers([worker])
                await crowd.make(Group(name=_BESIDE, counts=_personas(counts), rooms=(_BESIDE,)))
                await crowd.call(Crowd.open, _BESIDE, 1.0)
                with trio.move_on_after(_COMING_SECONDS):
                    while not crowd.has_opened:  # noqa: ASYNC110  workers report their state; there is no event for it
                        await trio.sleep(_LOOK_SECONDS)
                yield crowd.held(_BESIDE)
            finally:
                await worker.leave()
            nursery.cancel_scope.cancel()

    async def _played(
        self, what: Experiment, connect_rate: float, label: str, endpoint: Endpoint | None = None
    ) -> Report:
        plan = replace(self._plan, connect_rate=connect_rate, endpoint=endpoint or self._plan.endpoint)
        try:
            report = await Player(plan, what).play()
        except InvalidRunError:
            self.server.require()  # if it died, that is the better reason
            raise
        if report.outcome is Outcome.INTERRUPTED:
            self._stop.set()
            await trio.sleep_forever()  # the comparison ends it here
        self.server.require()
        if cause := await cause_of_death(plan):  # of a server that we did not start
            raise DiedError(f"died: {cause}")
        if report.outcome is Outcome.FELL_SHORT:  # which without a bar only says that nobody was served
            raise InvalidRunError(report.verdict.reasons[0])
        report.command = label
        self.reports.append(report)
        return report


def _personas(counts: Mapping[str, int]) -> dict[type[Client], int]:
    return {registry()[name]: number for name, number in counts.items()}
