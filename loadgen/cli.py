"""The command line: flags in, a scenario run, an exit code out.

Owns: which commands there are, and the exit codes (0 held, 1 fell short, 2 bad flags, 3 invalid or not exercised, 4
refused target, 130 stopped by Ctrl-C). A command is imported when it is named, so that `--version` is quick.
"""

import errno
import io
import os
import sys
import traceback
from collections.abc import Iterable
from typing import Final, TextIO

import cyclopts
from cyclopts import App, Parameter

BAD_FLAGS: Final = 2
REFUSED: Final = 4
#: Errors of output: a full disk, a quota, a limit on the size of files (`ulimit -f`), a terminal that is gone.
_CANNOT_WRITE: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))


def shown_default(default: object) -> str | None:
    """The default of a flag for `--help`, unless it is off or empty."""
    if default is None or default is False or default in ("", ()):
        return None
    if isinstance(default, tuple):
        return " ".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415  a tenth of the CPU of `--help`

    return f"loadgen {metadata.version('chatserver')}"


app = App(
    name="loadgen",
    help="A load generator for HTTP and WebSocket servers that reports which clients were hurt.\n\nExit codes: 0 the"
    " target held, 1 it fell short, 2 bad flags, 3 nothing was measured (the generator was the bottleneck, or the"
    " attack did not take place), 4 refused target, 130 stopped.",
    default_parameter=Parameter(negative="", show_default=shown_default),
    version=_version,
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `_main` says that it stopped
)


app.command("loadgen.load:run")
app.command("loadgen.scorecard:attack")
app.command("loadgen.scorecard:scorecard")
app.command("loadgen.load:play")
app.command("loadgen.capacity:capacity")
app.command("loadgen.fingerprint.play:fingerprint")
app.command("loadgen.compare.comparison:compare", usage="Usage: loadgen compare [OPTIONS] [URL...]")
app.command("loadgen.conform.suite:conform", usage="Usage: loadgen conform [OPTIONS] [URL]")
app.command("loadgen.diff:diff")
app.command("loadgen.load:list_", name="list")


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
    if sys.platform != "linux":
        return _complain("this needs Linux: epoll, TCP_INFO, /proc (chatserver itself does not)", 3)
    try:
        if not arguments or arguments[0] in app.help_flags:
            app.resolved_commands()  # for the first lines of their docstrings
        result = app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        return _complain(_explain(error), BAD_FLAGS)
    except (Exception, KeyboardInterrupt, SystemExit, BaseExceptionGroup) as error:  # noqa: BLE001  Python would exit with 1
        return _end(error)
    return result if isinstance(result, int) else 0


def _drop(stream: TextIO) -> None:
    """Have what is still buffered go nowhere: the flush at the exit would raise the error again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end(error: BaseException) -> int:
    """Tell Ctrl-C and closed output, which trio's nurseries wrap in groups, from a fault of the generator's own."""
    from loadgen.net.target import TargetDownError, TargetRefusedError, UsageError, is_own_fault  # noqa: PLC0415
    from loadgen.report.schema import Outcome  # noqa: PLC0415
    from loadgen.run.preflight import InvalidRunError  # noqa: PLC0415  (quick --version)
    from loadgen.stopping import first  # noqa: PLC0415

    group = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
    if group.split(KeyboardInterrupt)[1] is None:
        return _complain("stopped", Outcome.INTERRUPTED.exit_code)
    known = (UsageError, TargetDownError, InvalidRunError, TargetRefusedError, BrokenPipeError, SystemExit)
    rest = group.split(known)[1]  # a fault of our own counts more than what it was raised beside
    match first(rest or group):
        case UsageError() as wrong:
            return _complain(str(wrong), BAD_FLAGS)
        case TargetDownError() as down:
            return _complain(str(down), Outcome.FELL_SHORT.exit_code)
        case InvalidRunError() as invalid:
            return _complain(f"invalid run: {invalid}", Outcome.INVALID.exit_code)
        case TargetRefusedError() as refused:
            return _complain(f"refused: {refused}", REFUSED)
        case BrokenPipeError() | SystemExit():  # output was closed, as by `head`; rich exits for that
            _drop(sys.stdout)
            _drop(sys.stderr)
            return Outcome.INTERRUPTED.exit_code
        case OSError() as full if full.errno in _CANNOT_WRITE:
            _drop(sys.stdout)
            return _complain(f"{full.filename or 'standard output'}: {full.strerror}", BAD_FLAGS)
        case OSError() as lack if is_own_fault(lack):
            return _complain(f"invalid run: {lack.strerror}: a limit here", Outcome.INVALID.exit_code)
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
    from loadgen.report.format import printable  # noqa: PLC0415

    try:
        print(f"loadgen: {printable(text)}", file=sys.stderr)  # a server may have part in it
    except OSError:  # then the exit code is all that there is
        _drop(sys.stderr)
    return code
