"""The command line of `attack` and `scorecard`.

Owns: their flags, and the checks before anything is played.
"""

from dataclasses import dataclass
from typing import Annotated, Final

import trio
from cyclopts import Parameter

from loadgen import experiment, flags, markdown, target
from loadgen.common import COMMON, LOADING, Common, ConnectRate, Loading, Url, finish, make_plan
from loadgen.exercise import unmet
from loadgen.experiment import NEIGHBOURS, NEWCOMERS_PER_S, OPERATION_TIMEOUT_SECONDS, Experiment
from loadgen.flags import Clients, File, N, Names, Patience, PerSecond, Positive, Seconds
from loadgen.personas import registry
from loadgen.player import Player
from loadgen.protocols import served
from loadgen.report import Outcome
from loadgen.scorecard import Scorecard, require_floor
from loadgen.target import UsageError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Healthy:
    """Flags of both attacking commands for the healthy clients."""

    victims: Positive = 50
    """Healthy clients, each with an operation every 100 ms."""
    victim: Annotated[str, Parameter(metavar="KIND")] = "chat"
    """What the victims are: chat (WebSocket, long-poll, event stream and GET together), ws, poll, sse, or for other
    servers ws-echo and 'GET /path'."""
    newcomers: PerSecond = NEWCOMERS_PER_S
    """Healthy clients a second that connect, do one operation and leave, beside those that stay; 0 = none."""
    timeout: Patience = OPERATION_TIMEOUT_SECONDS
    """Seconds after which a victim's operation has failed."""
    neighbours: N = NEIGHBOURS
    """Honest slow clients of each kind beside them (see `loadgen list`), and 300 behind one address: any that is hurt
    is collateral; 0 = none. Only kinds whose protocol the victims use take part."""
    fixed_duration: bool = False
    """Leave out honest slow clients whose cycle takes longer than the attack; otherwise the attack lasts as long as
    they need."""

    def attacked(self, baseline: float, duration: float, recovery: float) -> tuple[Experiment, str | None]:
        """Return the experiment without its attackers, and the path that `--victim 'GET /path'` names."""
        probes, slow, path = flags.probes(self.victim, self.victims, self.newcomers, self.timeout, self.neighbours)
        what = experiment.attack(
            {},
            probes=probes,
            neighbours=slow,
            baseline_seconds=baseline,
            attack_seconds=duration,
            recovery_seconds=recovery,
            fixed_duration=self.fixed_duration,
        )
        return what, path


HEALTHY: Final = Healthy()


def attack(
    url: Url,
    /,
    *,
    kind: Names,
    clients: Clients = 8000,
    duration: Seconds = 20.0,
    healthy: Healthy = HEALTHY,
    baseline: Seconds = 5.0,
    recovery: Seconds = 5.0,
    connect_rate: ConnectRate = 5000.0,
    loading: Loading = LOADING,
    common: Common = COMMON,
) -> int:
    """Attack a server and measure healthy clients beside it: baseline, attack, recovery.

    The default bar: every operation of the victims succeeds, during the attack and after it; their p99 stays below
    1.5 times the baseline's or 25 ms above it; no honest slow client is hurt; and (with --server-pid) the server's
    memory grows by at most 2 KiB for each attacker.

    Args:
        kind: Attacks to play at once, see `loadgen list`: slow-head,idle-connect; or all-slow, all-greedy,
            all-malformed.
        clients: Attackers in all, shared evenly among the kinds.
        duration: Seconds of attack.
        baseline: Seconds to measure before the attack.
        recovery: Seconds to measure after it.
    """
    loading.load_personas()
    kinds = flags.attacks(kind, "--kind")
    if not kinds:
        raise UsageError("--kind: name at least one attack; `loadgen list` prints them")
    what, path = healthy.attacked(baseline, duration, recovery)
    needs = served(what.victims)
    playable = [each for each in kinds if not unmet(each, needs)]
    what = what.against(flags.shares(dict.fromkeys(playable, 1.0), clients) if playable else {})
    plan = make_plan(url, common, loading.with_path(path), what, connect_rate=connect_rate)
    played = Player(plan, what, left_out=[why for each in kinds if (why := unmet(each, needs))])
    return finish(trio.run(played.play) if playable else played.report_without("", Outcome.NOT_EXERCISED), common)


def scorecard(
    url: Url,
    /,
    *,
    kind: Names = "",
    clients: Clients = 8000,
    duration: Seconds = 12.0,
    healthy: Healthy = HEALTHY,
    baseline: Seconds = 3.0,
    recovery: Seconds = 3.0,
    floor: bool = False,
    start: Annotated[str, Parameter(metavar="COMMAND")] | None = None,
    markdown_file: Annotated[File | None, Parameter(name="--markdown")] = None,
    connect_rate: ConnectRate = 5000.0,
    loading: Loading = LOADING,
    common: Common = COMMON,
) -> int:
    """Play every attack in turn and print one verdict table.

    Each attack has its own baseline and its own recovery; --fail-if is judged for each.

    Args:
        kind: Only these attacks, comma-separated; all-slow, all-greedy and all-malformed are groups of them. By
            default all that can be played.
        clients: Most attackers of one kind; some kinds use fewer, see `loadgen list`.
        duration: Seconds of each attack.
        baseline: Seconds to measure before each attack.
        recovery: Seconds to measure after each.
        floor: Play each slow or greedy attack on a bare epoll loop first, to show what this machine allows: if
            even that is later than 15 ms, late answers of the target prove nothing.
        start: Start the target anew for each attack with this command, which listens at URL, in an empty folder, and
            kill it afterwards. It is measured as with --server-pid, and its memory is that of one attack.
        markdown_file: Also write the table there, as Markdown.
    """
    loading.load_personas()
    what, path = healthy.attacked(baseline, duration, recovery)
    every = [persona for persona in registry().values() if not persona.honest]
    kinds = flags.attacks(kind, "--kind") or every
    markdown.require(markdown_file)
    if floor:
        require_floor(target.find(url, allow=common.allow_target))
    command = flags.command("--start", start, target.find(url, allow=common.allow_target)) if start else []
    if command and loading.server_pid is not None:
        raise UsageError("--server-pid: with --start it is known")
    largest = max(kinds, key=lambda each: each.usual_clients)
    plan = make_plan(
        url,
        common,
        loading.with_path(path),
        what.against({largest: min(clients, largest.usual_clients)}),
        connect_rate=connect_rate,
        rounds=(1 + floor) * len(kinds),
        started_by_us=bool(command),
    )
    report = trio.run(Scorecard(plan, what, kinds, clients, with_floor=floor, start=command).play)
    if markdown_file is not None:
        markdown.write(markdown_file, markdown.by_threat(report))
    return finish(report, common)
