"""Slow readers: much is asked for, and the answers are taken at a fixed rate, or not at all.

Owns: the pace of reading. Requests are sent one behind the other until more is asked for than is read and the sockets
of both sides hold, so that any page will do. A reader that does not read never sees the end of its connection, so the
kernel is asked; and as a FIN waits behind the bytes that are not taken, one more request is sent now and then: where
nobody has the connection any more, the answer is RST.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from loadgen.fingerprint.findings import Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.line import EndedError, Ending, Line
from loadgen.fingerprint.site import Site
from loadgen.fingerprint.survey import ask

#: What is asked for beyond what is read: more than the sockets of both sides hold, with such segments and windows.
_BEYOND_BYTES: Final = 512 * 1024

#: The least that Linux gives (2,304 in the end). The window opens anew when a whole buffer was read, so a larger one
#: would make the rate come in bursts: of 6 KB with 4,096, which at 300 B/s is one in 20 s; with this, 576 B in each 2.
_RECEIVE_BUFFER_BYTES: Final = 1024

#: Of an Ethernet; the loopback's own are 64 KiB.
_SEGMENT_BYTES: Final = 1460

#: Looks at the connection for each pace.
_LOOKS: Final = 5

_GOODBYE: Final = b"connection: close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of one reader: ended after so long, or `ended` is `None` and it lived as long as we looked."""

    seconds: float
    ended: Ending | None


async def never(site: Site) -> Finding:
    """Read nothing."""
    page = await _page(site)
    if not isinstance(page, _Page):
        return page
    fate = await _read_at(site, 0, page)
    if fate is None:
        return _ALL_ANSWERED
    if fate.ended is None:
        return NoneSeen(looked=fate.seconds)
    return Found(value=fate.seconds, uncertainty=site.options.pace * (1 + 1 / _LOOKS), how=fate.ended)


async def floor(site: Site) -> Finding:
    """Read at several rates side by side: which live?"""
    page = await _page(site)
    if not isinstance(page, _Page):
        return page
    fates: dict[int, Fate] = {}

    async def read(rate: int) -> None:
        fate = await _read_at(site, rate, page)
        if fate is not None:
            fates[rate] = fate

    async with trio.open_nursery() as nursery:
        for rate in site.options.read_rates:
            nursery.start_soon(read, rate)
    return lowest(fates, by_rate=page.lasts)


_ALL_ANSWERED: Final = NotApplicable(why="it closes after some answers; give --read-path of a large page")


def lowest(fates: Mapping[int, Fate], *, by_rate: bool) -> Finding:
    """The slowest rate that lived, of those above all that did not.

    Many requests in a row are no honest thing, and a server may end them for their own sake (node does, for a head that
    it has half read). If all readers end and it is not `by_rate`, that is what happened, and nothing is known.
    """
    if not fates:
        return _ALL_ANSWERED
    dead = {rate: fate for rate, fate in fates.items() if fate.ended}
    if not dead:
        return NoneSeen(looked=min(fate.seconds for fate in fates.values()), how=f"{min(fates)} B/s was kept")
    fastest = max(dead)
    last = dead[fastest]
    how = f"{fastest:,} B/s: {last.ended} after {last.seconds:.1f} s"
    lived = [rate for rate in fates if rate > fastest]
    if lived:
        return Found(value=min(lived), uncertainty=min(lived) - fastest, how=how)
    if by_rate:
        return Found(value=fastest, how=f"even {how}")
    return NotApplicable(why=f"even {how}, which may be for asking so often; give --read-path of a large page")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """What the readers ask for: so large an answer, or so often."""

    request: bytes
    size: int
    lasts: bool  # one answer is enough for all

    def requests(self, size: int) -> bytes:
        """Requests for so many bytes in all."""
        return self.request if self.lasts else self.request * -(-size // self.size)


async def _page(site: Site) -> _Page | Finding:
    path = site.options.read_path or site.options.path
    answer = await ask(site, path)
    enough = _enough(site, max(site.options.read_rates))
    if answer.status >= 400:
        return NotApplicable(why=f"GET {path} is answered {answer.status}: nothing to read")
    if answer.closes and answer.size < enough:
        return NotApplicable(why=f"it closes after one answer of {answer.size:,} B: too little to be read slowly")
    return _Page(request=site.exchange().request("GET", path), size=answer.size, lasts=answer.size >= enough)


def _enough(site: Site, rate: int) -> int:
    return int(rate * site.options.within) + _BEYOND_BYTES


async def _read_at(site: Site, rate: int, page: _Page) -> Fate | None:
    """Read at a rate for as long as patience lasts; `None` if the server said by itself that it would close."""
    async with (
        site.dial(receive_buffer_bytes=_RECEIVE_BUFFER_BYTES, segment_bytes=_SEGMENT_BYTES) as line,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_ask, line, page, _enough(site, rate), site.options.pace)
        begun = trio.current_time()
        announced = await _take(line, rate, site.options.pace / _LOOKS, site.until)
        fate = Fate(seconds=trio.current_time() - begun, ended=line.ending)
        nursery.cancel_scope.cancel()
    return None if announced and fate.ended else fate


async def _ask(line: Line, page: _Page, size: int, pace: float) -> None:
    # where the server stops reading because we do, this waits, and is cancelled with the reader
    with suppress(EndedError):
        await line.send(page.requests(size))
        while True:
            await trio.sleep(pace)
            await line.send(page.request)


async def _take(line: Line, rate: int, tick: float, until: float) -> bool:
    """Read so many bytes a second until the line ends; whether the server said that it would close."""
    allowance, tail, announced = 0.0, b"", False
    due = trio.current_time()
    while line.ending is None and due < until:
        due += tick
        allowance += rate * tick
        with trio.move_on_at(due), suppress(EndedError):
            while allowance >= 1:
                data = await line.receive_raw(int(allowance))
                allowance -= len(data)
                tail = (tail + data.lower())[-4096:]
                announced = announced or _GOODBYE in tail
        await trio.sleep_until(due)
    return announced
