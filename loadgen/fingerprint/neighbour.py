"""An ordinary client beside the probes: is it still served, and is the server still there?

Owns: a plain request a second, and the moment when the server died. A dying server ends all connections at once, which
looks like as many deadlines, so the results of probes that ended after its last sign of life are discarded.
"""

from typing import Final

import trio

from loadgen.fingerprint.exchange import TROUBLE, exchange
from loadgen.fingerprint.findings import Failed, Finding, Found, NotApplicable, Unit, remark
from loadgen.fingerprint.practice import Limit, Mark
from loadgen.fingerprint.site import ANSWER_SECONDS, LAG_EVERY_SECONDS, Need, Site

#: After this many refused connections in a row, the server has died.
_REFUSALS: Final = 2
_AGAIN_SECONDS: Final = 0.2

MEANWHILE: Final = Limit(
    name="plain requests meanwhile",
    figure="answers_meanwhile_percent",
    meaning="plain requests answered while all slow probes were open, one a second",
    why="a hundred slow clients must not stop a server; they do if it has a thread each and no more than that many",
    unit=Unit.PERCENT,
    good=(99, None),
    below=Mark.MISSING,
)


class Neighbour:
    def __init__(self, site: Site) -> None:
        self.last_alive = site.begun
        self.died = trio.Event()
        self._site = site
        self._asked = 0
        self._answered = 0

    async def run(self) -> None:
        """Send one request each pace, on a new connection, until the server is dead."""
        while not self.died.is_set():
            await self.look()
            await trio.sleep(self._site.options.pace)

    async def look(self) -> None:
        """Send a request, and another if the connection is refused; if that is refused too, the server is dead."""
        for _ in range(_REFUSALS):
            try:
                answered = await self._ask()
            except ConnectionRefusedError:
                await trio.sleep(_AGAIN_SECONDS)
                continue
            except TROUBLE:
                answered = False
            self._asked += 1
            self._answered += answered
            return
        self.died.set()

    async def _ask(self) -> bool:
        begun = trio.current_time()
        with trio.fail_after(ANSWER_SECONDS):
            async with self._site.dial() as line:
                self.last_alive = begun
                answer = await exchange(line, [self._site.plain_request()])
        return answer.status == self._site.plain_status

    def finding(self) -> Finding:
        lack = self._site.lacks.get(Need.HTTP)
        if lack is not None:
            return lack if isinstance(lack, Failed) else Found(value=0, how=remark(lack))
        if not self._asked:
            return NotApplicable(why="there was no time to ask")
        return Found(value=100 * self._answered / self._asked, how=f"{self._answered} of {self._asked}")


async def watch_lag(site: Site) -> None:
    """Record how late our own schedule runs: no measured time is more exact than that."""
    while True:
        due = trio.current_time() + LAG_EVERY_SECONDS
        await trio.sleep_until(due)
        site.worst_lag = max(site.worst_lag, trio.current_time() - due)
