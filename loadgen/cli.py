"""The command line: flags in, a scenario run, an exit code out.

Owns: what may be typed, and the exit codes (0 held, 1 fell short, 2 bad flags, 3 invalid run, 4 refused target, 130
stopped by Ctrl-C). May not: contain anything that a test would want to call without a command line.
"""

import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import cyclopts
import msgspec
import trio
from cyclopts import App, Parameter
from rich.console import Console

from loadgen import figures, flags, preflight, target
from loadgen.attack import Assault, Attack
from loadgen.personas import registry, summary
from loadgen.preflight import InvalidRunError
from loadgen.procfs import Process
from loadgen.progress import Progress
from loadgen.render import show
from loadgen.report import Outcome, Report
from loadgen.run import Load, Run
from loadgen.scenario import Plan
from loadgen.target import TargetDownError, TargetRefusedError, UsageError

BAD_FLAGS: Final = 2
REFUSED: Final = 4

DEFAULT_RATE: Final = 10.0

app = App(
    name="loadgen",
    help="A load generator for chat servers that tells who got hurt.\n\nExit codes: 0 the target held, 1 it fell short,"
    " 2 bad flags, 3 invalid run (the generator was the bottleneck), 4 refused target, 130 stopped.",
    version_flags=(),
    result_action="return_value",
)

Url = Annotated[
    str, Parameter(help="The target, for example http://127.0.0.1:8000; loopback only, see --allow-target.")
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """The flags that every measuring command has."""

    server_pid: Annotated[
        int | None,
        Parameter(
            help="Process id of the server: also measure its memory and CPU, children included. Start it fresh:"
            " memory that an earlier crowd left behind is used again and not seen."
        ),
    ] = None
    fail_if: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="Exit 1 if true, for example 'p99_ratio>1.2'; repeatable, or with commas. Replaces the default bar."
            " The report lists the figures by name.",
        ),
    ] = ()
    seed: Annotated[
        int | None, Parameter(help="Replay a run's random choices; by default a new one, which is printed.")
    ] = None
    json: Annotated[bool, Parameter(negative="", help="Print the report as JSON on standard output.")] = False
    allow_target: Annotated[
        str | None,
        Parameter(
            help=f"Permit this host although it is off the loopback; it must also serve {target.CONSENT_TEXT!r} at"
            f" {target.CONSENT_PATH}."
        ),
    ] = None


_COMMON: Final = Common()
ConnectRate = Annotated[float, Parameter(help="Connections to begin a second; 0 = as fast as the target takes them.")]


@app.command
def run(
    url: Url,
    /,
    *,
    clients: Annotated[int, Parameter(help="Virtual clients in all.")] = 1000,
    mix: Annotated[
        str, Parameter(help="Shares of the personas, see `loadgen list`: idle=80,poll=15,chat=5.")
    ] = "idle=80,poll=15,chat=5",
    rate: Annotated[
        float | None,
        Parameter(help=f"Messages a second, over all chatters, open-loop. Default {DEFAULT_RATE:g} if there are any."),
    ] = None,
    duration: Annotated[float, Parameter(help="Seconds of steady load, after everybody is connected.")] = 30.0,
    rooms: Annotated[
        int | None,
        Parameter(help=f"Spread the clients over so many rooms. Default one for {flags.CLIENTS_PER_ROOM} clients."),
    ] = None,
    room: Annotated[
        str | None, Parameter(help="Name of the room; with --rooms above 1 the beginning of the rooms' names.")
    ] = None,
    poll_wait: Annotated[float, Parameter(help="Seconds that a long-poll asks to be held.")] = 25.0,
    connect_rate: ConnectRate = 0.0,
    common: Common = _COMMON,
) -> int:
    """Play honest load: connect a crowd, let it chat on a schedule, report latencies and what the crowd costs.

    Latencies count from the moment a message was due, so a target that stalls cannot hide it. The default bar:
    nobody refused, failed or ended, every message acknowledged and back at its sender.
    """
    flags.at_least("--clients", clients, 1)
    flags.seconds("--duration", duration)
    flags.seconds("--poll-wait", poll_wait)
    counts = flags.mix(mix, clients)
    chatters = any(persona.name == "chat" for persona in counts)
    if rate is not None:
        flags.at_least("--rate", rate, 0)
        if rate and not chatters:
            raise UsageError("--rate: nobody speaks; add chat=… to --mix")
    if rooms is not None:
        flags.at_least("--rooms", rooms, 1)
    plan = _plan(url, clients, common, connect_rate, known=figures.RUN)
    load = Load(
        counts=counts,
        rooms=flags.rooms(rooms, room, clients),
        rate=(DEFAULT_RATE if rate is None else rate) if chatters else 0.0,
        seconds=duration,
        poll_wait_seconds=poll_wait,
    )
    return _finish(trio.run(Run(plan, load).play), json=common.json)


@app.command
def attack(
    url: Url,
    /,
    *,
    kind: Annotated[str, Parameter(help="Attacks to play at once, see `loadgen list`: slow-head,idle-connect.")],
    clients: Annotated[int, Parameter(help="Attackers in all, shared evenly among the kinds.")] = 8000,
    duration: Annotated[float, Parameter(help="Seconds of attack.")] = 20.0,
    victims: Annotated[int, Parameter(help="Healthy members, each with a round trip every 100 ms.")] = 50,
    baseline: Annotated[float, Parameter(help="Seconds to measure before the attack.")] = 5.0,
    recovery: Annotated[float, Parameter(help="Seconds to measure after it.")] = 5.0,
    connect_rate: ConnectRate = 5000.0,
    common: Common = _COMMON,
) -> int:
    """Attack a server and measure healthy clients beside it: baseline, attack, recovery.

    The default bar: every round trip succeeds, the victims' p99 stays below 1.5 times the baseline's or 15 ms above
    it, and (with --server-pid) the server's memory grows by at most 2 KiB for each attacker.
    """
    flags.at_least("--clients", clients, 1)
    flags.at_least("--victims", victims, 1)
    for flag, value in (("--duration", duration), ("--baseline", baseline), ("--recovery", recovery)):
        flags.seconds(flag, value)
    kinds = [flags.find_persona(name, "--kind", honest=False) for name in dict.fromkeys(flags.names(kind))]
    if not kinds:
        raise UsageError("--kind: name at least one attack; `loadgen list` prints them")
    counts = flags.shares(dict.fromkeys(kinds, 1.0), clients)
    plan = _plan(url, clients + victims, common, connect_rate, known=figures.ATTACK)
    assault = Assault(
        counts=counts,
        victims=victims,
        baseline_seconds=baseline,
        attack_seconds=duration,
        recovery_seconds=recovery,
    )
    return _finish(trio.run(Attack(plan, assault).play), json=common.json)


@app.command(name="list")
def list_() -> int:
    """List the personas and the attacks, each with what it does."""
    known = registry().values()
    width = max(len(persona.name) for persona in known)
    for title, honest in (("personas, for run --mix", True), ("attacks, for attack --kind", False)):
        print(f"{title}:")
        for persona in known:
            if persona.honest is honest:
                print(f"  {persona.name:<{width}}  {summary(persona)}")
    return 0


def main(arguments: Iterable[str] | None = None) -> None:
    """Run the program and exit."""
    sys.exit(_main(sys.argv[1:] if arguments is None else list(arguments)))


def _main(arguments: list[str]) -> int:
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        return _complain(" ".join(str(error).split()), BAD_FLAGS)
    except UsageError as error:
        return _complain(str(error), BAD_FLAGS)
    except TargetDownError as error:
        return _complain(str(error), Outcome.FELL_SHORT)
    except InvalidRunError as error:
        return _complain(f"invalid run: {error}", Outcome.INVALID)
    except TargetRefusedError as error:
        return _complain(f"refused: {error}", REFUSED)
    except BaseExceptionGroup as group:  # trio's nurseries wrap the second Ctrl-C
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        return _complain("stopped", Outcome.INTERRUPTED)
    except KeyboardInterrupt:
        return _complain("stopped", Outcome.INTERRUPTED)
    return result if isinstance(result, int) else 0


def _complain(text: str, code: int) -> int:
    print(f"loadgen: {text}", file=sys.stderr)
    return code


def _plan(url: str, connections: int, common: Common, connect_rate: float, *, known: Iterable[str]) -> Plan:
    """Check everything that can be checked before a connection is opened, the cheapest first."""
    conditions = figures.parse(common.fail_if, known, server_pid=common.server_pid is not None)
    flags.at_least("--connect-rate", connect_rate, 0)
    server = None if common.server_pid is None else Process(common.server_pid)
    if server is not None:
        server.require()
    where = target.find(url, allow=common.allow_target)
    preflight.check(where, connections)
    target.probe(where)
    seed = random.SystemRandom().getrandbits(32) if common.seed is None else common.seed
    progress = Progress()
    progress.say(f"target {where.url} ({where.address} port {where.port}), seed {seed}")
    return Plan(
        target=where,
        connect_rate=connect_rate,
        seed=seed,
        server=server,
        conditions=conditions,
        progress=progress,
    )


def _finish(report: Report, *, json: bool) -> int:
    if json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    else:
        show(report, Console(highlight=False))
    return report.exit_code
