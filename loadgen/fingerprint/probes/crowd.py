"""How many connections one address may hold.

Owns: opening them, gently: a few at a time, none says a byte, all are closed within seconds, and it stops at the
first that is turned away. It runs before all other probes, which would be turned away with them.
"""

from contextlib import AsyncExitStack
from typing import Final

import trio

from loadgen.client import TURNED_AWAY
from loadgen.fingerprint.findings import Finding, Found, NoneSeen
from loadgen.fingerprint.line import Line
from loadgen.fingerprint.probes.secure import alert_or_end
from loadgen.fingerprint.site import ANSWER_SECONDS, Site
from loadgen.fingerprint.survey import TROUBLE, ask, word
from loadgen.fingerprint.watch import OPEN, answer_or_end

#: As many as the smallest listen backlogs hold (http.server's): one more costs a second for the SYN to come again.
_AT_ONCE: Final = 5

#: A server that is about to turn connections away has done so by then.
_SETTLE_SECONDS: Final = 0.5
_BETWEEN_SECONDS: Final = 0.01

#: A server that accepts more slowly is left alone: the whole has two minutes.
_LIMIT_SECONDS: Final = 6.0


async def per_address(site: Site) -> Finding:
    """Connect again and again from one address, until some are turned away."""
    finding = await _crowd(site)
    await trio.sleep(_SETTLE_SECONDS)  # the server sees that they have gone, before others come from that address
    return finding


async def _crowd(site: Site) -> Finding:
    lines: list[Line] = []
    refusals: list[str] = []
    async with AsyncExitStack() as crowd:

        async def connect() -> None:
            try:
                # TLS or not: such a cap is one of connections, and costs less than a handshake
                dialling = site.dial(source=site.lonely_source, plaintext=True)
                lines.append(await crowd.enter_async_context(dialling))
            except OSError as error:
                refusals.append(word(error))

        try:
            with trio.fail_after(_LIMIT_SECONDS):
                while len(lines) < site.options.connections and not refusals and not _ended(lines):
                    async with trio.open_nursery() as nursery:
                        for _ in range(min(_AT_ONCE, site.options.connections - len(lines))):
                            nursery.start_soon(connect)
                    await trio.sleep(_BETWEEN_SECONDS)
        except* trio.TooSlowError:
            slow = "it accepts slowly"
        else:
            slow = ""
        await trio.sleep(_SETTLE_SECONDS)
        ended = _ended(lines)
        if not ended and not refusals:
            return NoneSeen(looked=len(lines), how=slow)
        how = refusals[0] if refusals else await _last_words(site, ended[0])
        return Found(value=len(lines) - len(ended), how=f"{how}; {await _others(site)}")


def _ended(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.ending is not None]


async def _last_words(site: Site, line: Line) -> str:
    until = trio.current_time() + ANSWER_SECONDS
    sign = await (alert_or_end(line, until) if site.target.tls else answer_or_end(line, site.exchange(), until))
    return sign.how if sign else OPEN


async def _others(site: Site) -> str:
    """Whether it was a cap on this address, or one on everybody."""
    if not site.target.spreads_sources:
        return "there is no other address to come from"
    try:
        served = (await ask(site, site.options.path)).status not in TURNED_AWAY
    except TROUBLE:
        served = False
    return "other addresses are served" if served else "other addresses are turned away as well"
