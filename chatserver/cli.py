"""The `chatserver` command: serve, limits, chat, token, doctor; and admin, whose commands are in cli_admin.py.

Owns: command lines and exit codes. May not: hold a default or a limit; flags are made from `Settings`, one for each
field. A command imports its modules when it runs, so that `--help` is quick.

Exit codes: those of `serve --help`, 1 if `chat`, `admin` or `doctor` failed, 130 when interrupted (as cyclopts has it).
"""

import atexit
import dataclasses
import errno
import io
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial, reduce
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
)

from chatserver import __version__
from chatserver.cli_admin import admin
from chatserver.exits import EXIT_BAD_FLAGS, EXIT_CLEAN, EXIT_FAULT, complain, drop_output
from chatserver.settings.describe import print_limits, shown_value
from chatserver.settings.fields import SPECS, TYPES, Settings
from chatserver.settings.memory import OWN_BYTES, limits_within, memory_limit
from chatserver.settings.sources import load_settings
from chatserver.settings.spec import ConfigError, Section

#: The flags in `--help`; the others, which are rarely needed, are in `--help-all`.
COMMON = frozenset((
    "host", "port", "workers", "tls_cert", "tls_key", "allow_origin", "trusted_proxy", "guests", "log", "quiet",
    "max_connections", "per_ip", "publish_rate", "retain_messages",
))  # fmt: skip

_GROUPS = {section: Group(section.value, sort_key=order) for order, section in enumerate(Section, start=1)}
_DEFAULTS = Settings()
#: The names of types in the complaint about a value that is not of its type.
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
#: Errors of output: a full disk, a quota, a limit on the size of files (`ulimit -f`), a terminal that is gone.
_CANNOT_WRITE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))


def _flag(name: str, *, shown: bool) -> tuple[str, Any, Any]:
    """Make the flag of one field. It takes text; settings/sources.py converts it, as for the environment."""
    spec, kind = SPECS[name], TYPES[name]
    default = shown_value(name, getattr(_DEFAULTS, name))
    shape: Any = kind if kind in (bool, tuple[str, ...]) else str
    numeric = kind in (int, float)
    zero = f" 0: {spec.zero}." if numeric and spec.zero is not None and not default.startswith("0 ") else ""
    ending = "" if kind is bool else f"{zero} [default: {default}]"
    flag = Parameter(
        help=spec.meaning + ending, group=_GROUPS[spec.section], negative="", metavar=spec.metavar, show=shown
    )
    return name, Annotated[shape | None, flag], None


def _flags(*, everything: bool) -> type:
    """One optional field for each field of Settings; `--help` shows the common ones, or everything."""
    return dataclasses.make_dataclass(
        "Flags",
        [_flag(name, shown=everything or name in COMMON) for name in SPECS],
        kw_only=True,
        frozen=True,
        namespace={"__module__": __name__},  # cyclopts resolves the annotations there
    )


if TYPE_CHECKING:

    class Flags:
        """One optional field for each field of Settings."""
else:
    Flags = _flags(everything=False)

AllFlags = Annotated[Flags, Parameter(name="*")]
ConfigFile = Annotated[
    Path | None,
    Parameter(
        name="--config",
        metavar="FILE",
        help="TOML file with the same names (port = 9000). A flag wins over its environment variable"
        " (CHATSERVER_PORT), and the variable over the file.",
        group=_GROUPS[Section.SERVICE],
    ),
]


app = App(
    name="chatserver",
    # No default is shown for a switch that is off or a text that is empty.
    default_parameter=Parameter(show_default=lambda value: str(value) if value else None),
    help="A chat and long-poll server that slow peers cannot hurt.",
    version=f"chatserver {__version__}",
    result_action="return_value",
)


@app.command
def serve(
    *,
    config: ConfigFile = None,
    help_all: Annotated[
        bool, Parameter(negative="", show_default=False, help="Show every flag.", group=_GROUPS[Section.SERVICE])
    ] = False,
    flags: AllFlags = Flags(),  # noqa: B008  (immutable)
) -> int:
    """Run the server until SIGTERM or SIGINT, or until the terminal is closed in whose foreground it was started.

    Prints one line, `listening on URL`, to standard output for each address when it is ready; its own logs
    go to standard error. Exit codes: 0 clean stop, 2 bad flags or config, 3 could not bind, 4 the message
    log cannot be opened.

    With --workers N, N processes serve on one port, and SIGHUP replaces them one by one.

    Every limit has a flag as well: `chatserver limits` shows their values and reasons, --help-all their flags.
    """
    if help_all:
        return _show_every_flag()
    # While it starts, and after its end: a reload does not end the process, and the signals to stop end even process 1
    # of a container, for which the kernel ignores signals without a handler.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: os._exit(EXIT_CLEAN))
        # At its very end the interpreter removes handlers, but goes on ignoring what is ignored.
        atexit.register(signal.signal, stop, signal.SIG_IGN)
    # With `stty tostop` the terminal would stop workers, which are in the background, at a line of the log.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    settings = _settings(flags, config)
    if settings.workers > 1:
        from chatserver.workers.supervisor import run as supervise  # noqa: PLC0415  (quick --help)

        return supervise(settings, partial(_settings, flags, config))
    from chatserver.server import run  # noqa: PLC0415  (quick --help)

    return run(settings)


def _show_every_flag() -> int:
    """The help of `serve` with nothing left out."""
    whole = App(name="chatserver serve", help=serve.__doc__, version_flags=(), help_flags=())

    def everything(*, config: ConfigFile = None, flags: object = None) -> None:
        """Never called."""

    everything.__annotations__["flags"] = Annotated[_flags(everything=True), Parameter(name="*")]
    whole.default(everything)
    whole.help_print([])
    return 0


@app.command
def limits(
    *,
    config: ConfigFile = None,
    flags: AllFlags = Flags(),  # noqa: B008  (immutable)
) -> int:
    """Print every limit with its value, its unit and the reason for it.

    Takes the flags of `serve` (`serve --help-all` shows the rest of them), the environment and --config, and shows the
    values that would be in force.
    """
    from chatserver.net.descriptors import connection_limit, raise_descriptor_limit  # noqa: PLC0415  (quick --help)

    settings = _settings(flags, config)
    if not settings.max_connections:
        each = connection_limit(0, descriptors=raise_descriptor_limit())
        settings = dataclasses.replace(settings, max_connections=each * settings.workers)
    print_limits(settings, sys.stdout)
    return 0


@app.command
def chat(
    url: str,
    /,
    *,
    room: Annotated[str | None, Parameter(metavar="ROOM")] = None,
    name: Annotated[str, Parameter(metavar="NAME")] = "",
    token: Annotated[str | None, Parameter(metavar="TOKEN")] = None,
    transport: Literal["ws", "poll", "sse"] = "ws",
    plain: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    send: Annotated[bool, Parameter(negative="")] = False,
    retry_for: Annotated[float, Parameter(metavar="SECONDS")] = 30.0,
) -> int:
    """Chat from the terminal.

    Reconnects by itself and goes on from where it was: nothing is lost, nothing comes twice. At a terminal with a
    prompt, /help lists the commands. With --send, publishes the lines of standard input. Exit codes: 0 all is well,
    with --send all lines are acknowledged; 1 the server refused, or a line is not acknowledged; 2 bad flags.

    Parameters
    ----------
    url
        Where the server is: http://host:port, ws://host:port or host:port. The page's address of a room, like
        http://host:port/#ops, names the room too. HTTPS_PROXY and NO_PROXY apply to https, as with curl.
    room
        The room to join; by default the room that the URL names, or lobby.
    name
        Join as a guest with this name; without it the server makes one up. The next start with the same name, or again
        without one, is the same guest.
    token
        Sign in with this token; @FILE reads it from a file, where other users cannot see it, and again after a change.
    transport
        WebSocket, long-poll or server-sent events, for networks that let only some of them through.
    plain
        No colours, no prompt and no commands, one line a message: for pipes, and at a terminal for screen readers. The
        lines of a pipe are published as they are, also those that begin with a slash.
    json
        As --plain, with one JSON object a line for everything that happens.
    send
        Publish each line of standard input that is not blank, then exit.
    retry_for
        With --send: give up on a line after this many seconds without an acknowledgement.
    """
    from chatserver.terminal.arguments import read_room  # noqa: PLC0415  (quick --help)
    from chatserver.terminal.modes import Options, run  # noqa: PLC0415  (quick --help)

    options = Options(
        url=url, room="" if room is None else read_room(room), name=name, token=_token(token), transport=transport,
        plain=plain, json=json, send=send, retry_for=retry_for,
    )  # fmt: skip
    return run(options)


@app.command
def token(
    *,
    key: Annotated[Path, Parameter(metavar="FILE")],
    sub: Annotated[str, Parameter(metavar="ID")],
    name: Annotated[str, Parameter(metavar="NAME")] = "",
    room: Annotated[tuple[str, ...], Parameter(negative="", metavar="PATTERN=RIGHTS")] = (),
    role: Annotated[str, Parameter(metavar="ROLE")] = "",
    expires: Annotated[str, Parameter(metavar="TIME")] = "1h",
    issuer: Annotated[str, Parameter(metavar="TEXT")] = "",
    audience: Annotated[str, Parameter(metavar="TEXT")] = "",
) -> int:
    """Print a token with which a user can sign in, for scripts and tests.

    Parameters
    ----------
    key
        The file of `serve --token-key` if it holds a secret; the private key (PEM) if it holds a public one.
    sub
        The user's id.
    name
        The name that others see; the default is the id.
    room
        A room pattern and the rights there, read (r) and write (w), like team-*=rw or ops=r; repeat it for more. With
        it, the user may enter these rooms and no others.
    role
        `moderator` may delete, mute and ban; leave it out for all others.
    expires
        How long the token is valid: 90s, 10m, 1h, 30d.
    issuer
        The claim `iss`; needed where `serve --token-issuer` is given.
    audience
        The claim `aud`; needed where `serve --token-audience` is given.
    """
    from chatserver.api.minting import mint  # noqa: PLC0415  (quick --help)

    print(mint(key, sub, name=name, role=role, rooms=room, expires=expires, issuer=issuer, audience=audience))
    return 0


@app.command(usage="Usage: chatserver doctor [OPTIONS] URL [MORE...]")
def doctor(
    url: str,
    /,
    *more: str,
    token: Annotated[str | None, Parameter(metavar="TOKEN")] = None,
    room: Annotated[str, Parameter(metavar="ROOM")] = "doctor",
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Examine a running server, or all nodes of a cluster.

    For each node: is it up and ready, its version, log and shared servers, and how far its clock is off. Between nodes:
    do they share one log, and how long does a message take from each to each. Publishes three messages on each node.
    Exit codes: 0 all is well, 1 something is wrong, 2 bad flags.

    Parameters
    ----------
    url
        A node, not a load balancer: http://host:port, ws://host:port or host:port.
    more
        The other nodes of the cluster.
    token
        Sign in with this token; @FILE reads it from a file, where other users cannot see it.
    room
        The room to publish in, and the prefix of the rooms that presence is tested with.
    json
        Print JSON, for programs.
    """
    from chatserver.doctor.command import run  # noqa: PLC0415  (quick --help)

    return run((url, *more), token=_token(token), room=room, json=json)


app.command(admin)


def main() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the shell; a socket must not get its descriptor
            stream = open(os.devnull, mode)  # noqa: SIM115, PTH123  (open until the end)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8")  # texts have characters that the locale's encoding may not have
    sys.exit(run_command(sys.argv[1:]))


def run_command(tokens: list[str]) -> int:
    """Run one command and return its exit code; a bad flag is one line on standard error."""
    if any("\ud800" <= character <= "\udfff" for token in tokens for character in token):  # stands for another byte
        return _refuse("a word of the command line is not UTF-8")
    try:
        code = app(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _refuse(_explain(error))
    except ConfigError as error:
        return _refuse(str(error))
    except BaseExceptionGroup as group:  # of a nursery
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        return 130
    except (BrokenPipeError, SystemExit) as error:  # `chatserver limits | head`; for that rich exits, which prints help
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise  # cyclopts exits for Ctrl-C
        drop_output()
        return EXIT_CLEAN
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        drop_output()
        complain(f"standard output: {error.strerror}")
        return EXIT_FAULT
    return code if isinstance(code, int) else 0  # --help and --version return None


def _refuse(message: str) -> int:
    complain(message)
    return EXIT_BAD_FLAGS


def _explain(error: CycloptsError) -> str:
    """Say in one line what is wrong with a command line, how it is used, and where to read more."""
    from cyclopts.help import format_usage  # noqa: PLC0415  (quick --help)

    chain = error.command_chain or ()
    usage = reduce(getitem, chain, app).usage or f"Usage: {format_usage(app, chain).plain.strip()}"
    return f"{_fault(error)} {usage}; see {' '.join((app.name[0], *chain))} --help"


def _fault(error: CycloptsError) -> str:
    text = " ".join(str(error).split())
    match error:
        case UnusedCliTokensError(unused_tokens=[first, *_]):
            return f"Unexpected argument {first!r}."
        case MissingArgumentError(argument=argument) if argument is not None:
            hint = text.partition("requires an argument.")[2]  # the flag that is misspelt
            return f"{argument.name} {'needs a value' if error.keyword else 'is missing'}.{hint}"
        case CoercionError(token=token, target_type=kind) if token is not None and kind in _KINDS:
            return f"{token.keyword}: {token.value!r} is not {_KINDS[kind]}."
        case _:
            return text


def _token(given: str | None) -> str:
    """The value of --token; an empty one is of a variable that is not set, and would make us a guest."""
    if given == "":
        raise ConfigError("token", "this is no token")
    return given or ""


def _settings(flags: Flags, config: Path | None) -> Settings:
    given: Mapping[str, object] = {name: getattr(flags, name) for name in SPECS}
    return load_settings(given, os.environ, config, _allowed)


def _allowed(workers: int) -> Mapping[str, int]:
    """What the memory allows that number of processes together."""
    memory = memory_limit()
    if memory < workers * OWN_BYTES:  # the system kills a process without a word
        needed = f"without clients {workers} x {OWN_BYTES >> 20} MiB are used"
        complain(f"{memory >> 20} MiB of memory are allowed here, and {needed}: it may be killed at any time")
    return limits_within(memory, workers)
