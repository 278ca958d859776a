"""Slow readers: much is asked for, and the answers are taken at a fixed rate, or not at all.

Owns: the pace of reading. Requests are sent one behind the other until far more is asked for than the sockets of both
sides hold, so that any path will do. Receive buffer and segments are small: on the loopback 64 KiB segments would hide
the rate. Whether a connection has been ended is asked of the kernel: a reader that does not read would never see it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from loadgen.fingerprint.findings import Failed, Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.line import EndedError, Ending, Line
from loadgen.fingerprint.site import Site
from loadgen.fingerprint.survey import ask

#: What is asked for: more than the largest send buffer that kernels give by themselves.
LARGE_BYTES: Final = 8 * 1024 * 1024
_MAX_REQUESTS: Final = 20_000

#: The kernel doubles it, and takes about 2 KB at least.
_RECEIVE_BUFFER_BYTES: Final = 4096

#: The least that any host must take (RFC 9293): a window opens by a segment, so by small steps.
_SEGMENT_BYTES: Final = 536

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
    much = await _much(site)
    if not isinstance(much, bytes):
        return much
    fate = await _read_at(site, 0, much)
    if fate is None:
        return _ALL_ANSWERED
    if fate.ended is None:
        return NoneSeen(looked=fate.seconds)
    return Found(value=fate.seconds, uncertainty=site.options.pace / _LOOKS, how=fate.ended)


async def floor(site: Site) -> Finding:
    """Read at several rates side by side: which live?"""
    much = await _much(site)
    if not isinstance(much, bytes):
        return much
    fates: dict[int, Fate] = {}

    async def read(rate: int) -> None:
        fate = await _read_at(site, rate, much)
        if fate is not None:
            fates[rate] = fate

    async with trio.open_nursery() as nursery:
        for rate in site.options.read_rates:
            nursery.start_soon(read, rate)
    return lowest(fates)


_ALL_ANSWERED: Final = Failed(why="it closed after all its answers: they were not more than sockets hold")


def lowest(fates: Mapping[int, Fate]) -> Finding:
    """The slowest rate that lived, of those above all that did not."""
    if not fates:
        return _ALL_ANSWERED
    dead = {rate: fate for rate, fate in sorted(fates.items()) if fate.ended}
    if not dead:
        return NoneSeen(looked=min(fate.seconds for fate in fates.values()), how=f"{min(fates)} B/s was kept")
    fastest = max(dead)
    last = dead[fastest]
    how = f"{fastest:,} B/s: {last.ended} after {last.seconds:.1f} s"
    lived = [rate for rate in fates if rate > fastest]
    if not lived:
        return Found(value=fastest, how=f"even {how}")
    return Found(value=min(lived), uncertainty=min(lived) - fastest, how=how)


async def _much(site: Site) -> bytes | Finding:
    """Requests whose answers are more than sockets hold."""
    path = site.options.read_path or site.options.path
    answer = await ask(site, path)
    if answer.closes and answer.size < LARGE_BYTES:
        return NotApplicable(why=f"it closes after one answer of {answer.size:,} B: nothing to read slowly")
    number = 1 if answer.closes else min(-(-LARGE_BYTES // answer.size), _MAX_REQUESTS)
    return site.exchange().request("GET", path) * number


async def _read_at(site: Site, rate: int, requests: bytes) -> Fate | None:
    """Read at a rate for as long as patience lasts; `None` if the server said by itself that it would close."""
    async with (
        site.dial(receive_buffer_bytes=_RECEIVE_BUFFER_BYTES, segment_bytes=_SEGMENT_BYTES) as line,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_ask, line, requests)
        begun = trio.current_time()
        announced = await _take(line, rate, site.options.pace / _LOOKS, site.until)
        fate = Fate(seconds=trio.current_time() - begun, ended=line.ending)
        nursery.cancel_scope.cancel()
    return None if announced and fate.ended else fate


async def _ask(line: Line, requests: bytes) -> None:
    # where the server stops reading because we do, this waits, and is cancelled with the reader
    with suppress(EndedError):
        await line.send(requests)


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
