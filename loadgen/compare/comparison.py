"""`loadgen compare`: its command line, which server is measured when, and the report.

Owns: its flags and what is checked before anything is installed or started, and the order of play. Within a scenario
the servers take turns, round by round, each started fresh for its turn and ended after it. A server that dies or cannot
be measured gets a row that says so. Ctrl-C ends it with the tables so far.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Final

import trio
from cyclopts import Parameter
from rich.console import Console

from loadgen import flags
from loadgen.common import (
    PLAYING,
    SEEDED,
    Playing,
    Reported,
    Seeded,
    arguments,
    find,
    finish,
    make_seed,
    require_sent,
)
from loadgen.compare.catalogue import OURS, PEERS, Can, Kit, MissingError, Peer
from loadgen.compare.measure import ENDPOINT, SETTLE_SECONDS, Meter
from loadgen.compare.process import HOST, DiedError, Running, running
from loadgen.compare.results import LEAST_ROUNDS, Entry, Results, Sample, Scenario, Sizes
from loadgen.compare.scenarios import greet, load, scenarios
from loadgen.flags import RATE, Clients, Mix, N, Names, PerSecond, Range, Seconds, Share
from loadgen.net import target
from loadgen.net.target import UsageError
from loadgen.net.timers import now
from loadgen.output.exports import require
from loadgen.report import format as fmt
from loadgen.report.schema import Outcome, Report, Started, Table, verdict
from loadgen.run import preflight
from loadgen.run.experiment import honest_load
from loadgen.run.player import NOT_FOLLOWED
from loadgen.run.preflight import InvalidRunError
from loadgen.run.progress import Progress
from loadgen.run.session import Plan
from loadgen.stopping import first, stoppable

#: Where the servers' own environments are, each in a folder of its name.
PEERS_DIR: Final = Path("~/.cache/chatserver-peers").expanduser()

#: A longer measurement has failed: the server hangs, or --scale is far too large for it.
MEASUREMENT_SECONDS: Final = 300.0


@dataclass(kw_only=True)
class Comparison:
    peers: Sequence[Peer]  # the ratios refer to the first
    scenarios: Sequence[Scenario]
    sizes: Sizes
    repeats: int
    peers_dir: Path = PEERS_DIR
    measured: Plan  # how each server is measured; the target is replaced
    say: Callable[[str], None]  # shows the user the progress
    allow_target: str | None = None

    def __post_init__(self) -> None:
        self._started = Started()
        self._skipped: dict[str, str] = {}
        self._results: list[Results] = []
        self._parts: list[Report] = []
        self._done_seconds = 0.0  # estimated duration of the measurements so far

    @property
    def seconds(self) -> float:
        """The estimated duration of all measurements, on a machine that does nothing else."""
        return self.repeats * sum(scenario.seconds for scenario in self.scenarios for _ in self._taking_part(scenario))

    def _taking_part(self, scenario: Scenario) -> list[Peer]:
        return [peer for peer in self.peers if scenario.takes(peer) and peer.name not in self._skipped]

    async def play(self) -> Report:
        async with stoppable(self.say) as self._stop:  # a measurement has its own while it runs
            await self._install()
            self._measuring_since = now()
            for scenario in self.scenarios:
                await self._play_scenario(scenario)
        return self._report()

    async def _install(self) -> None:
        for peer in self.peers:
            try:
                if peer.kit.is_ready(self._home(peer)):
                    continue
                self.say(f"installing {peer.name}, {peer.title}")
                await trio.to_thread.run_sync(peer.kit.install, self._home(peer), abandon_on_cancel=True)
            except (MissingError, OSError) as error:
                self._skipped[peer.name] = str(error)
                self.say(f"skipping {peer.name}: {error}")

    async def _play_scenario(self, scenario: Scenario) -> None:
        results = Results(scenario, self.peers[0].name)
        self._results.append(results)
        for number in range(1, self.repeats + 1):
            entries: dict[str, Entry] = {}
            results.rounds.append(entries)
            for peer in self._taking_part(scenario):
                left = fmt.span(round(self._left_seconds))
                self.say(f"{scenario.name}, round {number} of {self.repeats}: {peer.name}, about {left} left")
                entries[peer.name] = await self._measure(scenario, peer)
                self._done_seconds += scenario.seconds

    @property
    def _left_seconds(self) -> float:
        """The time left if what is to come takes as much longer than estimated as what is done."""
        took, done = now() - self._measuring_since, self._done_seconds
        return (self.seconds - done) * (took / done if done else 1.0)

    async def _measure(self, scenario: Scenario, peer: Peer) -> Entry:
        sample: Sample = {}
        failure = ""
        reports: list[Report] = []
        try:
            async with self._server(peer) as server, trio.open_nursery() as nursery:
                if peer.relay:
                    await greet(server, peer.relay)
                nursery.start_soon(_limit, server)
                meter = Meter(server, self.measured, self._stop, allow=self.allow_target)
                reports = meter.reports
                sample = await scenario.play(meter, peer, self.sizes)
                nursery.cancel_scope.cancel()
        except* (DiedError, InvalidRunError) as errors:
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
            target=", ".join(peer.name for peer in self.peers if peer.name not in self._skipped),
            seed=self.measured.seed,
            started=self._started.at,
            seconds=self._started.seconds,
            verdict=verdict(self._outcome(), self._reasons(), self._redirects()),
            tables=[*(table for each in self._results for table in each.tables(self.peers)), *self._servers()],
            parts=self._parts,
        )

    def _outcome(self) -> Outcome:
        if self._stop.is_set():
            return Outcome.INTERRUPTED
        measured = set().union(*(results.measured for results in self._results))
        # the servers of the catalogue are many, and one may be missing; those that the user names are the question
        missing = any(peer.url and peer.name not in measured for peer in self.peers)
        return Outcome.HELD if measured and not missing else Outcome.INVALID

    def _reasons(self) -> list[str]:
        """What was done and what is missing; a comparison judges no server."""
        servers = len({part.target for part in self._parts})
        done = [f"{fmt.several(len(self._parts), 'measurement')} of {fmt.several(servers, 'server')}"]
        skipped = [f"{name} skipped: {why}" for name, why in self._skipped.items()]
        return [*done, *skipped, *(f"{each.scenario.name}, {line}" for each in self._results for line in each.failures)]

    def _redirects(self) -> Iterable[str]:
        """The servers that served something else than a page, which is why they were quick; each once."""
        notes = (f"{part.target}: {note}" for part in self._parts for note in part.verdict.notes)
        return (note for note in notes if note.endswith(NOT_FOLLOWED))

    def _servers(self) -> Iterator[Table]:
        """The table of the servers of the catalogue and their versions; nothing is known of those that run already."""
        rows = [
            [peer.name, peer.title, self._skipped.get(peer.name) or self._versions(peer)]
            for peer in self.peers
            if not peer.url
        ]
        if rows:
            notes = [f"{self.sizes}; {fmt.several(self.repeats, 'round')}."]
            yield Table(title="Servers", columns=["server", "what it is", "versions"], rows=rows, notes=notes)

    def _versions(self, peer: Peer) -> str:
        try:
            return peer.kit.versions(self._home(peer))
        except MissingError as error:  # Ctrl-C came before it was noticed
            return str(error)


async def _limit(server: Running) -> None:
    """Kill the server if the measurement takes too long, which then ends in good order."""
    await trio.sleep(MEASUREMENT_SECONDS)
    server.kill(f"not measured in {MEASUREMENT_SECONDS:g} s")


def _doubt(report: Report) -> str:
    """Say why a measurement is invalid, in short; its own report says it at length."""
    return report.verdict.reasons[0].partition(" (")[0]


#: Share of the full sizes: all scenarios against eleven servers take a quarter of an hour.
DEFAULT_SCALE: Final = 0.2

#: The default attacks: one on the server's reading, one on its writing.
DEFAULT_ATTACKS: Final = "slow-head,slow-read-ws"

_HERE: Final = target.find(f"http://{HOST}")


def compare(
    *urls: str,
    peers: Names = "",
    only: Names = "",
    attacks: Names = DEFAULT_ATTACKS,
    scale: Annotated[Share, Parameter(validator=Range(0.001, 10))] = DEFAULT_SCALE,
    repeats: Annotated[N, Parameter(validator=Range(1, 100))] = LEAST_ROUNDS,
    clients: Clients | None = None,
    mix: Mix | None = None,
    rate: Annotated[PerSecond | None, Parameter(validator=Range(0.1, RATE.most))] = None,
    duration: Seconds | None = None,
    loading: Playing = PLAYING,
    common: Seeded = SEEDED,
) -> int:
    """Measure chatserver beside others, or servers that run already: the same load, in turns, with ratios.

    The others are small servers that come with loadgen. Each is installed at its first use, in an environment of its
    own; a server that cannot be installed is skipped with a line that says why. Nothing is installed into the system.

    Args:
        urls: Servers that run already, two or more, instead of those that come with loadgen.
        peers: Only these servers, comma-separated, and chatserver, which the ratios refer to.
        only: Only these scenarios: idle, poll, fanout, beside, attack.
        attacks: The attacks to play, see `loadgen list`; all-slow stands for all slow or silent ones.
        scale: Share of the full sizes: 10,000 idle (never below 6,000), 15,000 held beside publishers, 8,000 attackers,
            a room of 1,000.
        repeats: Rounds; ratios need 3 or more.
        clients: With URLs: how many; by default 20.
        mix: With URLs: what is played; by default request=100.
        rate: With URLs: messages or requests a second; by default 100.
        duration: With URLs: seconds of each turn; by default 5.
    """
    given = locals() | vars(loading)
    require(common.report)
    sizes = Sizes().scaled(scale)
    loading.load_personas()
    if urls:
        _refuse(given, _OF_THE_CATALOGUE, "it is for the servers of the catalogue, and not for URLs")
        mixed, rate, seconds = flags.mix(mix or "request=100", clients or 20), rate or 100.0, duration or 5.0
        require_sent(loading, loading.endpoint(), honest_load(mixed, rate=rate, seconds=seconds))
        chosen = _running(urls, loading, common)
        counts = {each.name: number for each, number in mixed.items()}
        notes = preflight.check(_HERE, sum(counts.values()), loading.processes)
        played = [load(counts, rate=rate, seconds=seconds)]
    else:
        _refuse(given, _OF_URLS, "it is for URLs; each scenario says what the servers of the catalogue are asked")
        chosen, played = _peers(peers), _scenarios(only, attacks)
        # refuse before anything is started if this machine cannot hold it; each server is one process
        most = max(sizes.crowd, sizes.beside + sizes.publishers)
        notes = preflight.check(_HERE, most)
    progress = Progress()
    compared = Comparison(
        peers=chosen,
        scenarios=played,
        sizes=sizes,
        repeats=repeats,
        measured=Plan(
            target=_HERE,
            connect_rate=0.0,
            seed=make_seed(common),
            server=None,
            conditions=(),
            processes=loading.processes,
            # the phases of sixty measurements are shown live, but not logged
            progress=progress if sys.stderr.isatty() else Progress(Console(stderr=True, quiet=True)),
            endpoint=loading.endpoint() if urls else ENDPOINT,
            personas=loading.persona,
            settle_seconds=SETTLE_SECONDS,
        ),
        say=progress.say,
        allow_target=common.allow_target,
    )
    summary = (
        f"{fmt.several(len(chosen), 'server')}, {fmt.several(len(played), 'scenario')}, {fmt.several(repeats, 'round')}"
        f": about {fmt.span(compared.seconds)}, seed {compared.measured.seed}; Ctrl-C ends it with the results so far"
    )
    progress.banner([arguments(), summary, *notes])
    return finish(trio.run(compared.play), common)


#: Flags that change nothing for the others.
_OF_URLS: Final = (
    "clients", "mix", "rate", "duration", "path", "ws_path", "request", "header", "body", "subprotocol", "wait",
)  # fmt: skip
_OF_THE_CATALOGUE: Final = ("peers", "only", "attacks", "scale")


def _refuse(given: Mapping[str, object], names: Iterable[str], why: str) -> None:
    usual = {name: flag.default for name, flag in signature(compare).parameters.items()} | vars(PLAYING)
    for name in names:
        if given[name] != usual[name]:
            raise UsageError(f"--{name.replace('_', '-')}: {why}")


def _running(urls: Sequence[str], loading: Playing, common: Reported) -> list[Peer]:
    """Return servers that run already; the ratios refer to the first."""
    if len(set(urls)) < max(len(urls), 2):
        raise UsageError("URL: name two servers or more, each once")
    for url in urls:
        find(url, common, loading.wait)
    return [Peer(name=url, title="", can=Can(0), kit=Kit(), url=url) for url in urls]


def _peers(text: str) -> list[Peer]:
    """Return the named servers, or all; always with ours, because the ratios refer to it."""
    named = flags.chosen("--peers", text, PEERS)
    return [peer for name, peer in PEERS.items() if name in named or name == OURS]


def _scenarios(only: str, attacks: str) -> list[Scenario]:
    everything = scenarios(flags.attacks(attacks, "--attacks") if attacks else ())
    named = flags.chosen("--only", only, dict.fromkeys(scenario.group for scenario in everything))
    return [scenario for scenario in everything if scenario.group in named]
