"""All cases, a few side by side.

Owns: what is played when, that the target is an echo at all, and the stop button. May not: know what a case does.
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

#: Cases at a time; most of one is waiting. Below the smallest listen backlogs, and any cap per address.
SIDE_BY_SIDE: Final = 8

#: Of those with a megabyte or more: each keeps a processor busy.
HEAVY_SIDE_BY_SIDE: Final = 2

_HELLO: Final = b"is this an echo?"


async def play(options: Options, cases: Sequence[Case], progress: Progress) -> Report:
    return await _Suite(options, cases, progress).play()


class _Suite:
    def __init__(self, options: Options, cases: Sequence[Case], progress: Progress) -> None:
        self._options = options
        self._cases = cases
        self._progress = progress
        self._found: dict[str, Result] = {}
        self._places = trio.CapacityLimiter(SIDE_BY_SIDE)
        self._heavy_places = trio.CapacityLimiter(HEAVY_SIDE_BY_SIDE)

    async def play(self) -> Report:
        started = Started()
        await self._demand_echo()
        async with stoppable(self._progress.say) as stop, trio.open_nursery() as playing:
            for case in sorted(self._cases, key=lambda case: case.heavy):
                playing.start_soon(self._play_one, case)
        found = [self._found[case.id] for case in self._cases if case.id in self._found]
        return make_report(self._options, found, started=started, stopped=stop.is_set())

    async def _demand_echo(self) -> None:
        """Say in one line that this is no echo, rather than in each case. An echo may break rules."""
        options = self._options
        script = Script(sends=[frame(FIN | TEXT, _HELLO)], hears=[echo(_HELLO)])
        heard = await player.play(script, options.target, options.path, options.timeout)
        came_back = heard.unexpected is not None and heard.unexpected.payload == _HELLO
        if not heard.opened or (heard.missing and not came_back and not heard.fault):
            raise InvalidRunError(
                f"{options.path} is no WebSocket that echoes: it {judge(script, heard).why};"
                " of chatserver that is `serve --echo`, and /echo"
            )

    async def _play_one(self, case: Case) -> None:
        async with self._heavy_places if case.heavy else self._places:
            begun = trio.current_time()
            script = case.script()
            heard = await player.play(script, self._options.target, self._options.path, self._options.timeout)
            result = Result(case, judge(script, heard), trio.current_time() - begun)
        self._found[case.id] = result
        if result.finding.mark is Mark.WRONG:
            self._progress.say(f"{case.id} {case.title}: {result.finding.why}")
        family = [each.id for each in self._cases if each.family == case.family]
        if self._found.keys() >= set(family):
            told = counts([self._found[each] for each in family])
            self._progress.say(f"{case.family} {FAMILIES[case.family]}: {told}")
