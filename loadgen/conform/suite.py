"""`loadgen conform`: all cases, a few side by side.

Owns: the cases in order, the flags, and what is checked before a connection is opened; the order of play, the check
that the target echoes at all, and Ctrl-C. May not: know what a case does.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import Annotated, Final

import trio
from cyclopts import Parameter

from loadgen import flags
from loadgen.cases.case import FAMILIES, Case, Script, echo
from loadgen.cases.websocket import closing, fragmented, framing, limits, opening, pings, reserved, utf8
from loadgen.common import JUDGED, SENDING, Judged, Sending, announce, find, finish
from loadgen.conform import conversation
from loadgen.conform.judge import Finding, Mark, judge
from loadgen.conform.summary import FIGURES, Options, Result, counts, make_report
from loadgen.flags import Range, Seconds
from loadgen.net.target import TargetDownError, UsageError, split
from loadgen.net.wire import FIN, TEXT, frame
from loadgen.output.exports import require
from loadgen.report import format as fmt
from loadgen.report.conditions import parse
from loadgen.report.schema import Report, Started
from loadgen.run import procfs
from loadgen.run.preflight import InvalidRunError
from loadgen.run.progress import Progress
from loadgen.run.session import why_closed
from loadgen.stopping import stoppable

_FOUND: Final = chain(opening(), framing(), pings(), reserved(), fragmented(), utf8(), closing(), limits())
CASES: Final[tuple[Case, ...]] = tuple(sorted(_FOUND, key=lambda case: [*map(int, case.id.split("."))]))


def select(globs: Iterable[str]) -> tuple[Case, ...]:
    """Select cases by number, or by a glob such as `5.*`; without any, all of them."""
    wanted = [glob.strip() for text in globs for glob in text.split(",") if glob.strip()]
    for glob in wanted:
        if not any(fnmatchcase(case.id, glob) for case in CASES):
            raise UsageError(f"--case: no case is {glob!r}; `loadgen conform --list` prints them")
    return tuple(case for case in CASES if not wanted or any(fnmatchcase(case.id, glob) for glob in wanted))


#: Cases at a time, each of which mostly waits: few enough for small listen backlogs and caps per address.
SIDE_BY_SIDE: Final = 8

#: Cases of a megabyte or more at a time: each keeps a processor busy.
HEAVY_SIDE_BY_SIDE: Final = 2

_HELLO: Final = b"is this an echo?"


#: Share of a long case's time in which a program waited for a processor, above which it shows nothing of the server: a
#: case alone leaves one to the server, and one to us.
_BUSY_SHARE: Final = 0.5


async def play(options: Options, cases: Sequence[Case], progress: Progress) -> Report:
    started, found = Started(), dict[str, Result]()
    places, heavy_places = trio.CapacityLimiter(SIDE_BY_SIDE), trio.CapacityLimiter(HEAVY_SIDE_BY_SIDE)
    late: list[Case] = []
    unreached: list[Case] = []

    async def play_one(case: Case, *, is_last: bool = False) -> None:
        async with heavy_places if case.heavy else places:
            begun, waited = trio.current_time(), procfs.pressure() or 0.0
            script = case.script()
            heard = await conversation.play(script, options.target, options.path, options.fields, options.timeout)
            finding = judge(script, heard)
            seconds = trio.current_time() - begun
            unanswered = finding.mark is Mark.WRONG and heard.timed_out and not heard.alive
            waited = (procfs.pressure() or 0.0) - waited
            if unanswered and is_last and case.heavy and waited > _BUSY_SHARE * seconds:
                finding = Finding(Mark.NOT_EXERCISED, f"{finding.why}: other programs had the processors")
            found[case.id] = Result(case, finding, seconds)
        if heard.unreached:
            unreached.append(case)
        if unanswered and not is_last:
            late.append(case)
        elif finding.mark is Mark.WRONG:
            progress.say(f"{case.id} {case.title}: {finding.why}")
        family = [each.id for each in cases if each.family == case.family]
        if found.keys() >= set(family):
            progress.say(f"{case.family} {FAMILIES[case.family]}: {counts([found[each] for each in family])}")

    await _demand_echo(options)
    async with stoppable(progress.say) as stop:
        async with trio.open_nursery() as playing:
            for case in sorted(cases, key=lambda case: case.heavy):
                playing.start_soon(play_one, case)
        if late:
            many = f"{fmt.several(len(late), 'case')} without an answer in time, up to {options.timeout:g} s for each"
            progress.say(f"again, one by one: {many}")
        for case in late:  # what was too slow beside others is not what the server never does
            await play_one(case, is_last=True)
    why_gone = await why_closed(options.target) if unreached else ""
    if why_gone:  # a server that has died has not violated the RFC; one that is there must let us in
        for case in unreached:
            why = found[case.id].finding.why
            found[case.id] = found[case.id]._replace(finding=Finding(Mark.NOT_EXERCISED, why))
    results = [found[case.id] for case in cases if case.id in found]
    return make_report(options, results, started=started, stopped=stop.is_set(), why_gone=why_gone)


async def _demand_echo(options: Options) -> None:
    """Fail once if the target does not echo, rather than in each case; an echo that breaks rules will do."""
    script = Script(sends=[frame(FIN | TEXT, _HELLO)], hears=[echo(_HELLO)])
    heard = await conversation.play(script, options.target, options.path, options.fields, options.timeout)
    came_back = heard.unexpected is not None and heard.unexpected.payload == _HELLO
    if not heard.opened or (heard.missing and not came_back and not heard.fault):
        raise InvalidRunError(
            f"{options.path} is no WebSocket that echoes: it {judge(script, heard).why};"
            " of chatserver that is `serve --echo`, and /echo"
        )


def conform(
    url: str | None = None,
    /,
    *,
    case: Annotated[tuple[str, ...], Parameter(metavar="CASE")] = (),
    timeout: Annotated[Seconds, Parameter(validator=Range(0.1, 600))] = 10.0,
    list_: Annotated[bool, Parameter(name="--list")] = False,
    sending: Sending = SENDING,
    common: Judged = JUDGED,
) -> int:
    """Play RFC 6455 case by case against a WebSocket that echoes, and report what the server does wrong.

    The cases have the numbers of the Autobahn test suite, if that has the same case. A case is ok, non-strict (the RFC
    leaves it to the server, and other servers do better), wrong, or not exercised: long cases may exceed a limit of the
    server (chatserver's flags for them are in docs/loadgen.md). The default bar: nothing is wrong. Exit code 3 means
    that nothing was exercised: no answer, or no echo.

    Args:
        url: A WebSocket that echoes, for example ws://127.0.0.1:8000/echo; loopback only, see --allow-target.
        case: Only the cases with these numbers, for example '5.*'; repeatable, or with commas.
        timeout: Seconds for a case's answers; a long case has more, by its bytes.
        list_: Print the cases and end.
    """
    cases = select(case)
    if list_:
        for each in cases:
            print(f"{each.id:<8}{each.section:<15}{each.title}")  # noqa: T201
        return 0
    if url is None:
        raise UsageError("URL: name a WebSocket that echoes, for example ws://127.0.0.1:8000/echo")
    conditions = parse(common.fail_if, FIGURES, server_pid=False)
    fields = sending.fields
    require(common.report)
    parts, _ = split(url, "ws")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    flags.require("URL", flags.is_path, path)
    try:
        target = find(parts._replace(path="", query="", fragment="").geturl(), common)
    except TargetDownError as error:
        raise InvalidRunError(str(error)) from None
    progress = announce(target, f"{fmt.several(len(cases), 'case')}, {SIDE_BY_SIDE} at a time", path=path)
    options = Options(
        target=target, path=path, fields=fields, timeout=timeout, conditions=conditions, no_bar=common.no_bar
    )
    return finish(trio.run(play, options, cases, progress), common)
