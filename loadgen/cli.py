"""The command line: flags in, a scenario run, an exit code out.

Owns: what may be typed, and the exit codes (0 held, 1 fell short, 2 bad flags, 3 invalid or not exercised, 4 refused
target, 130 stopped by Ctrl-C).
"""

import errno
import io
import os
import sys
import traceback
from collections.abc import Iterable
from dataclasses import replace
from importlib import metadata
from typing import Final, TextIO

import cyclopts
import trio
from cyclopts import App, Parameter

from loadgen import experiment, flags, scenariofile
from loadgen import format as fmt
from loadgen.capacity import capacity
from loadgen.client import Threat
from loadgen.common import COMMON, LOADING, Common, ConnectRate, Loading, Url, finish, make_plan
from loadgen.compare.comparison import compare
from loadgen.conform.suite import conform
from loadgen.diff import diff
from loadgen.fingerprint.play import fingerprint
from loadgen.flags import Clients, File, Mix, Name, PerSecond, Seconds
from loadgen.personas import registry, summary
from loadgen.player import Player
from loadgen.preflight import InvalidRunError
from loadgen.report import Outcome
from loadgen.scorecard import attack, scorecard
from loadgen.stopping import first
from loadgen.target import TargetDownError, TargetRefusedError, UsageError

BAD_FLAGS: Final = 2
REFUSED: Final = 4

DEFAULT_RATE: Final = 10.0

#: A chat, as most are.
CHAT_LOAD: Final = "idle=80,poll=15,chat=5"


def shown_default(default: object) -> str | None:
    """The default of a flag for `--help`, unless it is off or empty."""
    if default is None or default is False or default in ("", ()):
        return None
    return f"{default:g}" if isinstance(default, float) else str(default)


app = App(
    name="loadgen",
    help="A load generator for HTTP and WebSocket servers that reports which clients were hurt.\n\nExit codes: 0 the"
    " target held, 1 it fell short, 2 bad flags, 3 nothing was measured (the generator was the bottleneck, or the"
    " attack did not take place), 4 refused target, 130 stopped.",
    default_parameter=Parameter(negative="", show_default=shown_default),
    version=lambda: f"loadgen {metadata.version('chatserver')}",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `_main` says that it stopped
)


@app.command
def run(
    url: Url,
    /,
    *,
    clients: Clients = 1000,
    mix: Mix | None = None,
    rate: PerSecond | None = None,
    duration: Seconds = 30.0,
    rooms: Clients | None = None,
    room: Name | None = None,
    poll_wait: Seconds = 25.0,
    connect_rate: ConnectRate = 0.0,
    loading: Loading = LOADING,
    common: Common = COMMON,
) -> int:
    """Play honest load: connect a crowd, let it chat on a schedule, report latencies and what the crowd costs.

    Latencies count from the moment a message was due, so a target that stalls cannot hide it. The default bar:
    no client refused, failed or ended, every message acknowledged and back at its sender.

    Args:
        clients: Virtual clients in all.
        mix: Shares of the personas, see `loadgen list`. Default idle=80,poll=15,chat=5; with --request request=100.
        rate: Messages or requests a second, open-loop. Default 10 if the mix has speakers.
        duration: Seconds of steady load, after all clients are connected.
        rooms: Spread the clients over this many rooms. Default one for 50 clients.
        room: Name of the room; with --rooms above 1 the beginning of the rooms' names.
        poll_wait: Seconds that a long-poll asks to be held.
    """
    loading.load_personas()
    counts = flags.mix(mix or ("request=100" if loading.request else CHAT_LOAD), clients)
    speakers = any(persona.speaks for persona in counts)
    if rate and not speakers:
        raise UsageError("--rate: nobody speaks; add chat=… to --mix, or request=… or echo=…")
    what = experiment.honest_load(
        counts,
        rooms=flags.rooms(rooms, room, clients),
        rate=(DEFAULT_RATE if rate is None else rate) if speakers else 0.0,
        seconds=duration,
        poll_wait_seconds=poll_wait,
    )
    plan = make_plan(url, common, loading, what, connect_rate=connect_rate)
    return finish(trio.run(Player(plan, what).reported), common)


app.command(attack)
app.command(scorecard)


@app.command
def play(url: Url, /, *, scenario: File, loading: Loading = LOADING, common: Common = COMMON) -> int:
    """Play a scenario from a file: groups, phases with ramps, spikes and soaks, victims, thresholds.

    `run` and `attack` are presets of what such a file can say. --fail-if adds to what the file asks for.

    Args:
        scenario: The TOML file, see docs/loadgen.md.
    """
    loading.load_personas()
    loaded = scenariofile.read(scenario)
    common = replace(common, fail_if=(*loaded.fail_if, *common.fail_if), no_bar=loaded.no_bar or common.no_bar)
    plan = make_plan(url, common, loading, loaded.experiment, connect_rate=loaded.connect_rate, fewer="--scenario")
    return finish(trio.run(Player(plan, loaded.experiment).reported), common)


app.command(capacity)
app.command(fingerprint)
app.command(compare, usage="Usage: loadgen compare [OPTIONS] [URL...]")
app.command(conform, usage="Usage: loadgen conform [OPTIONS] [URL]")
app.command(diff)


@app.command(name="list")
def list_() -> int:
    """List the personas and the attacks, each with the protocol that it needs and what it does."""
    known = registry().values()
    width = max(len(persona.name) for persona in known)
    groups = (
        ("personas, for run --mix", [each for each in known if each.honest and not each.slow]),
        ("honest slow clients, beside every attack and for run --mix", [each for each in known if each.slow]),
        *(
            (
                f"attacks, for --kind: {threat.value}, together {threat.everybody}",
                [each for each in known if not each.honest and each.threat is threat],
            )
            for threat in Threat
        ),
    )
    for title, personas in groups:
        print(f"{title}:")
        for persona in personas:
            print(f"  {persona.name:<{width}}  {persona.needs.value:<9}  {summary(persona)}")
    return 0


def main(arguments: Iterable[str] | None = None) -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the shell; a socket must not get its descriptor
            stream = open(os.devnull, mode)  # noqa: SIM115, PTH123  (open until the end)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8")  # units like µs, which the locale's encoding may not have
    sys.exit(_main(sys.argv[1:] if arguments is None else list(arguments)))


def _main(arguments: list[str]) -> int:
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        return _complain(_explain(error), BAD_FLAGS)
    except UsageError as error:
        return _complain(str(error), BAD_FLAGS)
    except TargetDownError as error:
        return _complain(str(error), Outcome.FELL_SHORT.exit_code)
    except InvalidRunError as error:
        return _complain(f"invalid run: {error}", Outcome.INVALID.exit_code)
    except TargetRefusedError as error:
        return _complain(f"refused: {error}", REFUSED)
    except (Exception, KeyboardInterrupt, SystemExit, BaseExceptionGroup) as error:  # noqa: BLE001  Python would exit with 1
        return _end(error)
    return result if isinstance(result, int) else 0


def _drop(stream: TextIO) -> None:
    """Have what is still buffered go nowhere: the flush at the exit would raise the error again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end(error: BaseException) -> int:
    """Tell Ctrl-C and closed output, which trio's nurseries wrap in groups, from a fault of the generator's own."""
    group = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
    if group.split(KeyboardInterrupt)[1] is None:
        return _complain("stopped", Outcome.INTERRUPTED.exit_code)
    cause = first(error)
    if isinstance(cause, BrokenPipeError | SystemExit):  # output was closed, as by `head`; rich exits for that
        _drop(sys.stdout)
        _drop(sys.stderr)
        return Outcome.INTERRUPTED.exit_code
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        _drop(sys.stdout)
        return _complain(f"{cause.filename or 'standard output'}: {cause.strerror}", BAD_FLAGS)
    traceback.print_exc()
    return _complain("invalid run: a fault of the generator's own, see above", Outcome.INVALID.exit_code)


def _explain(error: cyclopts.CycloptsError) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, cyclopts.ValidationError) and error.argument is not None:
        text = f"{error.argument.name}: {error.exception_message}."
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        hint = text.partition("requires an argument.")[2]  # the flag that is misspelt
        text = f"{error.argument.name} {'needs a value' if error.keyword else 'is missing'}.{hint}"
    return f"{text} See {' '.join(('loadgen', *(error.command_chain or ())))} --help"


def _complain(text: str, code: int) -> int:
    try:
        print(f"loadgen: {fmt.printable(text)}", file=sys.stderr)  # a server may have part in it
    except OSError:  # then the exit code is all that there is
        _drop(sys.stderr)
    return code
