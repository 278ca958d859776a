"""All cases, a few side by side.

Owns: the order of play, the check that the target echoes at all, and Ctrl-C. May not: know what a case does.
"""

from collections.abc import Sequence
from typing import Final

import trio

from loadgen.conform import player
from loadgen.conform.case import Case, Script, echo
from loadgen.conform.catalogue import FAMILIES
from loadgen.conform.judge import Mark, judge
from loadgen.conform.report import Options, Result, counts, make_report
from loadgen.preflight import InvalidRunError
from loadgen.progress import Progress
from loadgen.report import Report, Started
from loadgen.stopping import stoppable
from loadgen.wire import FIN, TEXT, frame

#: Cases at a time, each of which mostly waits: few enough for small listen backlogs and caps per address.
SIDE_BY_SIDE: Final = 8

#: Cases of a megabyte or more at a time: each keeps a processor busy.
HEAVY_SIDE_BY_SIDE: Final = 2

_HELLO: Final = b"is this an echo?"


async def play(options: Options, cases: Sequence[Case], progress: Progress) -> Report:
    started, found = Started(), dict[str, Result]()
    places, heavy_places = trio.CapacityLimiter(SIDE_BY_SIDE), trio.CapacityLimiter(HEAVY_SIDE_BY_SIDE)

    async def play_one(case: Case) -> None:
        async with heavy_places if case.heavy else places:
            begun = trio.current_time()
            script = case.script()
            finding = judge(script, await player.play(script, options.target, options.path, options.timeout))
            found[case.id] = Result(case, finding, trio.current_time() - begun)
        if finding.mark is Mark.WRONG:
            progress.say(f"{case.id} {case.title}: {finding.why}")
        family = [each.id for each in cases if each.family == case.family]
        if found.keys() >= set(family):
            progress.say(f"{case.family} {FAMILIES[case.family]}: {counts([found[each] for each in family])}")

    await _demand_echo(options)
    async with stoppable(progress.say) as stop, trio.open_nursery() as playing:
        for case in sorted(cases, key=lambda case: case.heavy):
            playing.start_soon(play_one, case)
    results = [found[case.id] for case in cases if case.id in found]
    return make_report(options, results, started=started, stopped=stop.is_set())


async def _demand_echo(options: Options) -> None:
    """Fail once if the target does not echo, rather than in each case; an echo that breaks rules will do."""
    script = Script(sends=[frame(FIN | TEXT, _HELLO)], hears=[echo(_HELLO)])
    heard = await player.play(script, options.target, options.path, options.timeout)
    came_back = heard.unexpected is not None and heard.unexpected.payload == _HELLO
    if not heard.opened or (heard.missing and not came_back and not heard.fault):
        raise InvalidRunError(
            f"{options.path} is no WebSocket that echoes: it {judge(script, heard).why};"
            " of chatserver that is `serve --echo`, and /echo"
        )
