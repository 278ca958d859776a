"""Deadlines of HTTP: a request is begun in some way, and then nothing, or next to nothing, comes.

Owns: the openings. A probe that stalls finds the deadline between two bytes, its twin that drips finds the total one;
a server that starts its clock anew at each byte has the first and not the second.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import repeat

import trio

from loadgen.fingerprint.exchange import Exchange, exchange
from loadgen.fingerprint.findings import Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.line import EndedError, Ending, Line
from loadgen.fingerprint.site import ANSWER_SECONDS, WAIT, Site
from loadgen.fingerprint.survey import BODY_BEGIN, BODY_TYPE
from loadgen.fingerprint.watch import MOMENT_SECONDS, OPEN, Sign, answer_or_end, dripping, ending_of

#: A body that would take half a day at a byte a second, and that every server of chat messages would take.
_BODY_BYTES = 48 * 1024

#: Sixteen bytes a chunk, so that no rule about overhead ends the connection before the deadline.
CHUNK = b"10\r\n" + b" " * 16 + b"\r\n"

#: While the last word of a server is tested, a byte is sent this often: the answer to one after the end is RST.
_NUDGE_SECONDS = 0.25

Opening = Callable[[Site, Exchange], bytes]


def nothing(site: Site, talk: Exchange) -> bytes:
    """Not a byte."""
    return b""


def head(site: Site, talk: Exchange) -> bytes:
    """A head that lacks its end, within a field that goes on and on."""
    return site.plain_request(talk).removesuffix(b"\r\n") + b"X-Slow: "


def body(site: Site, talk: Exchange) -> bytes:
    """A body of which a byte is there."""
    return talk.request("POST", site.survey.body_path, [BODY_TYPE, ("Content-Length", str(_BODY_BYTES))]) + BODY_BEGIN


def chunked_body(site: Site, talk: Exchange) -> bytes:
    """A body in chunks of which one is there."""
    return talk.request("POST", site.survey.body_path, [BODY_TYPE, ("Transfer-Encoding", "chunked")]) + CHUNK


def expectation(site: Site, talk: Exchange) -> bytes:
    """A head that asks whether it may send the body."""
    fields = [BODY_TYPE, ("Content-Length", str(_BODY_BYTES)), ("Expect", "100-continue")]
    return talk.request("POST", site.survey.body_path, fields)


async def stalled(site: Site, opening: Opening) -> Finding:
    """Begin, and wait."""
    return await _begin(site, opening, drip=())


async def dripped(site: Site, opening: Opening, piece: bytes) -> Finding:
    """Begin, and go on a little a second."""
    return await _begin(site, opening, drip=repeat(piece))


async def _begin(site: Site, opening: Opening, drip: Iterable[bytes]) -> Finding:
    async with site.dial() as line:
        talk = site.exchange()
        begun = trio.current_time()
        with suppress(EndedError):  # whoever listens hears of it too
            await line.send(opening(site, talk))
        async with dripping(line, drip, site.options.pace):
            sign = await answer_or_end(line, talk, site.until)
        hints = "".join(f"{hint}, then " for hint in talk.hints)
        return elapsed(site, line, begun, sign, before=hints)


def elapsed(site: Site, line: Line, begun: float, sign: Sign | None, *, before: str = "") -> Finding:
    """How long it took until the sign."""
    if sign is None:
        return NoneSeen(looked=max(site.until - begun, 0.0), how=f"{before}{OPEN}" if before else "")
    return Found(value=sign.at - begun, uncertainty=site.doubt(line), how=before + sign.how)


async def keepalive(site: Site) -> Finding:
    """Be answered, and ask no more."""
    async with site.dial() as line:
        talk = site.exchange()
        with trio.fail_after(ANSWER_SECONDS):
            await exchange(line, talk, [site.plain_request(talk)])
        begun = trio.current_time()
        return elapsed(site, line, begun, await answer_or_end(line, site.exchange(), site.until))


async def held_poll(site: Site) -> Finding:
    """Ask a long-poll to be held for a second, then for an hour."""
    path = site.options.poll_path
    async with site.dial() as line:
        talk = site.exchange()
        begun = trio.current_time()
        with trio.fail_after(ANSWER_SECONDS + site.options.prompt):
            answer = await exchange(line, talk, [talk.request("GET", path.replace(WAIT, f"{site.options.prompt:g}"))])
        held = trio.current_time() - begun
    if answer.status >= 400 or held < site.options.prompt / 2:
        return NotApplicable(why=f"GET {path} is answered {answer.status} at once")
    async with site.dial() as line:
        talk = site.exchange()
        begun = trio.current_time()
        await line.send(talk.request("GET", path.replace(WAIT, "3600")))
        sign = await answer_or_end(line, talk, site.until)
        if sign is not None and sign.at - begun < site.options.prompt / 2 and not sign.how.startswith("200"):
            return NotApplicable(why=f"it refuses to hold for an hour: {sign.how}")
        return elapsed(site, line, begun, sign)


async def linger(site: Site) -> Finding:
    """Say something that is no HTTP, and go on talking after the server's last word."""
    async with site.dial() as line:
        talk = site.exchange()
        await line.send(b"this is not HTTP\r\n\r\n")
        sign = await answer_or_end(line, talk, min(site.until, trio.current_time() + ANSWER_SECONDS))
        if sign is None or sign.how.endswith(OPEN):
            return NotApplicable(why="it does not close after bytes that are no HTTP")
        if sign.how.endswith("RST"):
            return Found(value=0.0, uncertainty=MOMENT_SECONDS, how=sign.how)
        return await _nudge(site, line, sign)


async def _nudge(site: Site, line: Line, sign: Sign) -> Finding:
    """Send a byte now and then until one is answered with RST: only then has the server let go of its descriptor."""
    with trio.move_on_at(site.until):
        with suppress(EndedError):
            while line.ending is not Ending.RST:
                await line.send(b"x")
                await trio.sleep(min(_NUDGE_SECONDS, site.options.pace))
        return Found(
            value=max(trio.current_time() - sign.at, 0.0),
            uncertainty=site.doubt(line) + _NUDGE_SECONDS,
            how=f"{sign.how}, then RST",
        )
    return NoneSeen(looked=site.until - sign.at, how=f"{sign.how}, and still reading")


async def closes_in(site: Site, line: Line, since: float) -> Finding:
    """How long a server takes to end the connection after its last word."""
    how = await ending_of(line, max(site.until - trio.current_time(), 0))
    if how == OPEN:
        return NoneSeen(looked=site.until - since, how=OPEN)
    return Found(value=trio.current_time() - since, uncertainty=site.doubt(line), how=how)
