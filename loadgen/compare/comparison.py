"""`loadgen compare`: which server is measured when, and the report.

Owns: the order of play. Within a scenario the servers take turns, round by round, each started fresh for its turn and
ended after it. A server that dies or cannot be measured gets a row that says so. Ctrl-C ends it with the tables so far.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from loadgen.compare.catalogue import OURS, Peer
from loadgen.compare.kits import MissingError
from loadgen.compare.measure import Meter, NoFigureError
from loadgen.compare.process import DiedError, Running, Server, running
from loadgen.compare.relay import Relay
from loadgen.compare.results import Entry, Results
from loadgen.compare.scenario import Sample, Scenario, Sizes
from loadgen.report import LAG_LIMIT_MS, Outcome, Report, Started, Table, verdict
from loadgen.session import Plan
from loadgen.stopping import StoppedError, first, stoppable

#: A longer measurement has failed: the server hangs, or --scale is far too large for it.
MEASUREMENT_SECONDS: Final = 300.0


@dataclass(kw_only=True)
class Comparison:
    """One comparison with its options; played once."""

    peers: Sequence[Peer]
    scenarios: Sequence[Scenario]
    sizes: Sizes
    repeats: int
    peers_dir: Path
    measured: Plan  # how each server is measured; the target is replaced
    say: Callable[[str], None]  # shows the user the progress
    base: str = OURS  # the server that the ratios refer to
    allow_target: str | None = None

    def __post_init__(self) -> None:
        self._started = Started()
        self._skipped: dict[str, str] = {}
        self._results: list[Results] = []
        self._parts: list[Report] = []
        self._stop = trio.Event()

    @property
    def seconds(self) -> float:
        takes_part = [scenario.seconds for scenario in self.scenarios for peer in self.peers if scenario.takes(peer)]
        return self.repeats * sum(takes_part)

    async def play(self) -> Report:
        async with stoppable(self.say) as self._stop:  # a measurement has its own while it runs
            await self._install()
            for scenario in self.scenarios:
                await self._play_scenario(scenario)
        return self._report()

    async def _install(self) -> None:
        for peer in self.peers:
            if peer.kit.is_ready(self._home(peer)):
                continue
            self.say(f"installing {peer.name}, {peer.title}")
            try:
                await trio.to_thread.run_sync(peer.kit.install, self._home(peer), abandon_on_cancel=True)
            except MissingError as error:
                self._skipped[peer.name] = str(error)
                self.say(f"skipping {peer.name}: {error}")

    async def _play_scenario(self, scenario: Scenario) -> None:
        results = Results(scenario, self.base)
        self._results.append(results)
        peers = [peer for peer in self.peers if scenario.takes(peer) and peer.name not in self._skipped]
        for number in range(1, self.repeats + 1):
            entries: dict[str, Entry] = {}
            results.rounds.append(entries)
            for peer in peers:
                self.say(f"{scenario.name}, round {number} of {self.repeats}: {peer.name}")
                entry = await self._measure(scenario, peer)
                await trio.lowlevel.checkpoint()  # a stop ends it here
                entries[peer.name] = entry

    async def _measure(self, scenario: Scenario, peer: Peer) -> Entry:
        sample: Sample = {}
        failure = ""
        reports: list[Report] = []
        try:
            async with self._server(peer) as server, trio.open_nursery() as nursery:
                if peer.relay and isinstance(server, Server):
                    await Relay(server, peer.relay).greet()
                nursery.start_soon(_limit, server)
                meter = Meter(server, self.measured, allow=self.allow_target)
                reports = meter.reports
                sample = await scenario.play(meter, peer, self.sizes)
                nursery.cancel_scope.cancel()
        except* StoppedError:
            self._stop.set()
        except* (DiedError, NoFigureError) as errors:
            failure = str(first(errors))
            self.say(f"{peer.name}: {failure}")
        for report in reports:
            report.command = f"{scenario.name} {report.command}".strip()
            report.target = peer.name
        self._parts += reports
        doubts = [_doubt(each) for each in reports if each.outcome in {Outcome.INVALID, Outcome.NOT_EXERCISED}]
        return Entry(sample=sample, failure=failure, doubt=", ".join(doubts))

    def _server(self, peer: Peer) -> AbstractAsyncContextManager[Running]:
        return nullcontext(Running(peer.url)) if peer.url else running(partial(self._command, peer))

    def _command(self, peer: Peer, work: Path, port: int) -> list[str]:
        return peer.kit.command(self._home(peer), work, port, self.sizes.idle_seconds)

    def _home(self, peer: Peer) -> Path:
        return self.peers_dir / peer.name

    # The report

    def _report(self) -> Report:
        return Report(
            command="compare",
            arguments=self.measured.arguments,
            target=", ".join(peer.name for peer in self.peers if peer.name not in self._skipped),
            seed=self.measured.seed,
            started=self._started.at,
            seconds=self._started.seconds,
            verdict=verdict(self._outcome(), self._reasons()),
            tables=[*(table for each in self._results for table in each.tables(self.peers)), self._servers()],
            parts=self._parts,
        )

    def _outcome(self) -> Outcome:
        if self._stop.is_set():
            return Outcome.INTERRUPTED
        return Outcome.HELD if any(results.measured for results in self._results) else Outcome.INVALID

    def _reasons(self) -> list[str]:
        """What was done and what is missing; a comparison judges no server."""
        servers = len({part.target for part in self._parts})
        done = [f"{len(self._parts)} measurements of {servers} servers"]
        skipped = [f"{name} skipped: {why}" for name, why in self._skipped.items()]
        return [*done, *skipped, *(f"{each.scenario.name}, {line}" for each in self._results for line in each.failures)]

    def _servers(self) -> Table:
        """The table of the servers and their versions."""
        rows = [
            [peer.name, peer.title, self._skipped.get(peer.name) or peer.kit.versions(self._home(peer))]
            for peer in self.peers
        ]
        sizes = "" if any(peer.url for peer in self.peers) else f"{self.sizes}; "
        notes = [f"{sizes}{self.repeats} rounds."]
        return Table(title="Servers", columns=["server", "what it is", "versions"], rows=rows, notes=notes)


async def _limit(server: Running) -> None:
    """Kill the server if the measurement takes too long, which then ends in good order."""
    await trio.sleep(MEASUREMENT_SECONDS)
    server.put_down(f"not measured in {MEASUREMENT_SECONDS:g} s")


def _doubt(report: Report) -> str:
    """Say why a measurement is invalid, in short; its own report says it at length."""
    lag = report.figures.get("lag_p99_ms")
    if lag is None or lag <= LAG_LIMIT_MS:
        return report.verdict.reasons[0]
    return f"loadgen itself was {lag:,.0f} ms late at the 99th percentile"
