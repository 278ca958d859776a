"""What every measuring command has in common: its flags, the checks before a run, the output after it.

Owns: the flags that several commands have, in classes by the commands that have them; the order of the checks, and how
a report is printed and written. A command is a function that makes a `Plan` here, plays it, and ends with `finish`.
"""

import os
import random
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter
from rich.console import Console

from loadgen import flags, personas
from loadgen.flags import File, Files, Folder, Name, PerSecond, Pid, Processes, Seconds, UrlPath
from loadgen.net import target
from loadgen.net.target import PER_ADDRESS, Endpoint, Target, UsageError
from loadgen.output.exports import json_of, require, save
from loadgen.output.render import show
from loadgen.report import conditions
from loadgen.report import format as fmt
from loadgen.report.schema import Report
from loadgen.run import preflight
from loadgen.run.experiment import Experiment
from loadgen.run.procfs import Process
from loadgen.run.progress import Progress
from loadgen.run.session import Plan

Url = Annotated[
    str, Parameter(help="The target, for example http://127.0.0.1:8000; loopback only, see --allow-target.")
]
ConnectRate = Annotated[
    PerSecond, Parameter(help="Connections to begin a second; 0 = as fast as the target takes them.")
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reported:
    """The flags that every command with a target has."""

    report: Folder | None = None
    """Write it into this directory: HTML, Markdown, JSON, JUnit, CSV, OpenMetrics, HDR log."""
    json: bool = False
    """Print the report as JSON on standard output."""
    allow_target: Annotated[
        Annotated[str, Parameter(metavar="HOST")] | None,
        Parameter(
            help=f"Permit this host although it is off the loopback; it must also serve {target.CONSENT_TEXT!r} at"
            f" {target.CONSENT_PATH}."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Judged(Reported):
    """Those of the commands that judge the target."""

    fail_if: Annotated[tuple[str, ...], Parameter(metavar="FIGURE>NUMBER")] = ()
    """Exit 1 if true, for example 'p99_ratio>1.2'; repeatable, or with commas. Adds to the default bar. The report
    lists the figures by name."""
    no_bar: bool = False
    """Judge by --fail-if alone, without the default bar."""


@dataclass(frozen=True, kw_only=True)
class Seeded(Reported):
    """Those of the commands that leave something to chance."""

    seed: Annotated[int, Parameter(metavar="N")] | None = None
    """Replay a run's random choices; by default a new one, which is printed."""


@dataclass(frozen=True, kw_only=True)
class Common(Seeded, Judged):
    """Those of the commands that judge a target under random load."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Sending:
    """The flag that every command with a target has for its requests."""

    header: Annotated[tuple[str, ...], Parameter(metavar="FIELD")] = ()
    """A field of plain requests and WebSocket upgrades, 'Name: value' (cookies, bearer tokens); repeatable. @FILE reads
    one a line, and keeps them out of the report."""

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(field for text in self.header for field in flags.fields(text))


@dataclass(frozen=True, kw_only=True)
class Asking(Sending):
    """The flags of the commands that load servers."""

    wait: Annotated[Seconds, Parameter(validator=flags.PAUSE)] = 0.0
    """Seconds to wait for the target to listen; 0 = it listens already."""
    processes: Processes = 1
    """Processes to play the crowd in; one holds about 18,000 clients and half a core."""
    path: UrlPath = "/"
    """What plain GETs fetch."""
    ws_path: UrlPath = "/ws"
    """Where the target speaks WebSocket."""
    request: Annotated[str, Parameter(metavar="'METHOD PATH'")] | None = None
    """What plain requests ask, for example 'POST /api': a method and a path."""
    body: File | None = None
    """A file with the body of --request."""
    subprotocol: Name = ""
    """The subprotocol that WebSockets ask for."""

    def endpoint(self, page: str | None = None) -> Endpoint:
        """What requests and upgrades are like; `page` is what the victims fetch, if their kind names it."""
        method, asked = ("GET", "") if self.request is None else flags.request(self.request)
        if page is not None and self.path not in {Asking.path, page}:
            raise UsageError(f"--path: attackers fetch what the victims do, {page!r}; name one of them")
        return Endpoint(
            path=page or (asked if asked and method != "POST" else self.path),
            websocket_path=self.ws_path,
            method=method,
            asked=asked,
            fields=self.fields,
            body=b"" if self.body is None else flags.file("--body", self.body),
            subprotocol=flags.subprotocol(self.subprotocol),
        )


@dataclass(frozen=True, kw_only=True)
class Playing(Asking):
    """Those of the commands in which the user names the personas."""

    persona: Files = ()
    """A Python file with a persona of your own, see docs/personas.md; repeatable."""

    def load_personas(self) -> None:
        """Load the personas of --persona, before another flag names one."""
        for file in self.persona:
            personas.load(file)


@dataclass(frozen=True, kw_only=True)
class Watching(Asking):
    """Those of the commands that measure one server's process."""

    server_pid: Pid | None = None
    """Process id of the server: also measure its memory, CPU and descriptors, children included. Start it fresh: a
    server reuses memory that an earlier crowd left behind, so its growth would not show."""


@dataclass(frozen=True, kw_only=True)
class Loading(Watching, Playing):
    """Those of the commands that load one server with the personas that the user names."""


JUDGED: Final = Judged()
SEEDED: Final = Seeded()
SENDING: Final = Sending()
COMMON: Final = Common()
PLAYING: Final = Playing()
WATCHING: Final = Watching()
LOADING: Final = Loading()


def find(url: str, common: Reported, wait: float = 0.0) -> Target:
    where = target.find(url, allow=common.allow_target, wait=wait)
    target.probe(where)
    return where


def require_sent(loading: Asking, endpoint: Endpoint, experiment: Experiment) -> None:
    """Refuse a request or a body that no client of this experiment would send."""
    if loading.request and not experiment.sends(endpoint):
        raise UsageError(
            f"--request: no client sends {loading.request!r}: request=… in --mix does; victims and attackers GET a page"
            " (--victim 'GET /path', --path), and only attackers' bodies go to 'POST /path'"
        )
    if loading.body and not experiment.requests:
        raise UsageError("--body: no client sends it: request=… in --mix does, and attackers have bodies of their own")


def make_plan(
    url: str,
    common: Common,
    loading: Watching,
    experiment: Experiment,
    *,
    connect_rate: float,
    known: Iterable[str] = (),
    rounds: int = 1,
    started_by_us: bool = False,
    fewer: str = "",
) -> Plan:
    """Check everything that can be checked before a connection is opened, the cheapest first.

    `fewer` is the flag for fewer clients, where it is not --clients, --victims and --newcomers.
    """
    clients, probes = experiment.clients, experiment.probe_connections
    watched = started_by_us or loading.server_pid is not None
    thresholds = conditions.parse(common.fail_if, known or experiment.known, server_pid=watched)
    endpoint = loading.endpoint(experiment.probes.path if experiment.probes else None)
    require_sent(loading, endpoint, experiment)
    require(common.report)
    server = None if loading.server_pid is None else Process(loading.server_pid)
    if server is not None:
        server.require()
    where = target.find(url, allow=common.allow_target) if started_by_us else find(url, common, loading.wait)
    if not where.spreads_sources and any(group.per_address != PER_ADDRESS for group in experiment.groups):
        raise UsageError(
            f"--per-address: {where.address} is not in 127.0.0.0/8, so this machine has one source address for it"
        )
    crowd = fewer or ("--clients, --neighbours" if experiment.neighbours else "--clients")
    probing = fewer or "--victims, --newcomers"
    notes = preflight.check(where, clients, loading.processes, probes=probes, flags=(crowd, probing))
    notes += filter(None, [experiment.why_longer])
    if server is not None:
        server.require_listening(where.port)
    seed = make_seed(common)
    seconds = rounds * experiment.expected_seconds
    progress = announce(
        where, f"{fmt.several(clients + probes, 'connection')} for about {seconds:,.0f} s, seed {seed}", notes
    )
    return Plan(
        target=where,
        connect_rate=connect_rate,
        seed=seed,
        server=server,
        conditions=thresholds,
        progress=progress,
        processes=loading.processes,
        endpoint=endpoint,
        personas=loading.persona if isinstance(loading, Playing) else (),
        no_bar=common.no_bar,
    )


def make_seed(common: Seeded) -> int:
    return random.SystemRandom().getrandbits(32) if common.seed is None else common.seed


def arguments() -> str:
    """The command line, quoted so that it can be pasted."""
    # bytes that are not UTF-8 are surrogates here, which JSON cannot hold
    return shlex.join(["loadgen", *sys.argv[1:]]).encode("utf-8", "replace").decode()


def announce(where: Target, what: str, notes: Iterable[str] = (), *, path: str = "") -> Progress:
    """Print what will be done to which target, and why that is permitted."""
    whose = "on this machine" if where.on_loopback else "permitted by --allow-target and by its own consent"
    progress = Progress()
    target_line = f"target {where.url}{path} ({where.address} port {where.port}), {whose}"
    progress.banner([arguments(), target_line, f"{what}; Ctrl-C ends it with the results so far", *notes])
    return progress


def finish(report: Report, common: Reported) -> int:
    for each in (report, *report.parts):
        each.arguments = arguments()
    try:
        if common.json:
            sys.stdout.write(json_of(report))
        else:
            show(report, Console(highlight=False))
    finally:  # also if standard output was closed
        if common.report is not None:
            save(report, common.report)
            print(f"report: {os.path.join(common.report, 'report.html')}", file=sys.stderr)  # noqa: T201, PTH118
    return report.outcome.exit_code
