"""Slow readers: clients that ask for much and read the answers at a fixed rate, or not at all.

Owns: the pace of reading. The answers to pipelined requests exceed what is read and what both sockets buffer; nothing
more is sent, since a sign of life would restart the timer that is measured. A client that does not read never sees a
FIN behind unread data, so the kernel is asked for the state of the server's socket. A server that stops reading may
have read half of a request, whose deadline then ends the connection (node, haproxy), so an end counts only if the
requests are so few that they are read at once.
"""

import math
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Final, NamedTuple

import trio

from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable, Unit
from loadgen.fingerprint.practice import Mark, Probe
from loadgen.fingerprint.site import ANSWER_SECONDS, TROUBLE, NotServedError, Site, side_by_side, while_sending
from loadgen.net.line import EndedError, Line
from loadgen.net.sockets import SockDiag

#: Bytes requested beyond those that are read: more than both sockets buffer, with the segments and windows below.
_BEYOND_BYTES: Final = 512 * 1024

#: The smallest receive buffer that Linux grants (it makes it 2,304). The window reopens when a whole buffer has been
#: read, so a larger buffer turns the rate into bursts: at 300 B/s, 4,096 gives 6 KB every 20 s, and this 576 B every
#: 2 s. The segment size is Ethernet's, because the loopback's is 64 KiB.
_SIPS: Final = ((socket.SOL_SOCKET, socket.SO_RCVBUF, 1024), (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460))

#: Every server reads so many bytes at once.
_AT_ONCE_BYTES: Final = 4096

_ANSWER: Final = b"HTTP/1."

#: In the second of these looks the kernel makes the server's socket: on a busy machine not at once, and for some
#: (Apache sets TCP_DEFER_ACCEPT) only when a request has come. A stall of our own costs one look.
_LOOKS: Final = 20
_LOOK_SECONDS: Final = 0.05


async def never(site: Site) -> Finding:
    return await _read_at(site, 0, await _page(site))


async def floor(site: Site) -> Finding:
    """Read at several rates side by side, and see which connections are kept."""
    page = await _page(site)
    return lowest(await side_by_side({rate: partial(_read_at, site, rate, page) for rate in site.options.read_rates}))


def lowest(fates: Mapping[int, Finding]) -> Finding:
    """Find the slowest rate that was kept, among those above every rate that was not."""
    dead = {rate: fate for rate, fate in fates.items() if isinstance(fate, Found)}
    alive = {rate: fate for rate, fate in fates.items() if isinstance(fate, NoneSeen)}
    failed = [fate for fate in fates.values() if isinstance(fate, Failed)]
    left_out = [fate for fate in fates.values() if isinstance(fate, NotApplicable)]
    if failed:
        return failed[0]
    if not dead and min(fates) in alive:
        return NoneSeen(looked=min(fate.looked for fate in alive.values()), how=f"{min(alive)} B/s was kept")
    if left_out:
        return left_out[0]
    fastest = max(dead)
    how = f"{fastest:,} B/s: {dead[fastest].how} after {dead[fastest].value:.1f} s"
    lived = [rate for rate in alive if rate > fastest]
    if lived:
        return Found(value=min(lived), uncertainty=min(lived) - fastest, how=how)
    return Found(value=fastest, others=(math.inf,), how=f"even {how}")  # the floor is above all that were tried


class _Page(NamedTuple):
    request: bytes
    size: int


async def _page(site: Site) -> _Page:
    path = site.options.read_path or site.options.path
    enough = _enough(site, max(site.options.read_rates))
    answer = await site.ask(site.get(path), enough=enough)  # more need not be read, and may be gigabytes
    if answer.status >= 400:
        raise NotServedError(f"GET {path} is answered {answer.status}: nothing to read")
    if answer.closes and answer.size < enough:
        raise NotServedError(f"it closes after one answer of {answer.size:,} B: too little to be read slowly")
    request = site.get(path)
    if answer.size < enough and not await _answers_both(site, request):
        raise NotServedError("it does not answer two requests that come at once; give --read-path of a large page")
    return _Page(request=request, size=answer.size)


async def _answers_both(site: Site, request: bytes) -> bool:
    """Whether the second of two requests is answered too: some servers end the connection instead."""
    heard = b""
    with suppress(*TROUBLE), trio.fail_after(ANSWER_SECONDS):
        async with site.dial() as line:
            await line.send(2 * request)
            while heard.count(_ANSWER) < 2:
                heard += await line.receive()
            return True
    return False


def _enough(site: Site, rate: int) -> int:
    return int(rate * site.options.within) + _BEYOND_BYTES


async def _read_at(site: Site, rate: int, page: _Page) -> Found | NoneSeen:
    tick = site.options.pace / 5  # between two checks of the connection
    requests = page.request * -(-_enough(site, rate) // page.size)
    with closing(SockDiag()) as sock_diag:
        async with site.dial(options=_SIPS) as line:
            begun = trio.current_time()
            # if the server stops reading because we do not read, the sending is cancelled with the reader
            read = partial(_take, site, line, rate, tick, sock_diag)
            kernel, announced = await while_sending(line, [requests], read)
            ended, seconds, doubt = _ended(line, kernel), trio.current_time() - begun, tick + site.doubt(line)
    if not ended and kernel is None:
        raise NotServedError("only the kernel shows it, and the server's end is not on this machine")
    if ended and (announced or len(requests) > _AT_ONCE_BYTES):
        raise NotServedError(
            f"{rate:,} B/s: {ended} after {seconds:.0f} s, perhaps because of so many requests;"
            " give --read-path of a large page"
        )
    return Found(value=seconds, uncertainty=doubt, how=ended) if ended else NoneSeen(looked=seconds)


def _ended(line: Line, kernel: SockDiag | None) -> str:
    return line.ending or ("closed" if kernel is not None and kernel.closed(line.fileno) else "")


async def _knowing(diag: SockDiag, line: Line) -> SockDiag | None:
    """The kernel, as soon as it knows the server's socket; `None` if it does not."""
    for _ in range(_LOOKS):
        if diag.closed(line.fileno) is False:
            return diag
        await trio.sleep(_LOOK_SECONDS)
    return None


async def _take(site: Site, line: Line, rate: int, tick: float, diag: SockDiag) -> tuple[SockDiag | None, bool]:
    """Read `rate` bytes a second until the connection ends.

    Return the kernel, if that knows the server's socket (not on another machine, or behind address translation), and
    whether the server announced a close.
    """
    kernel = await _knowing(diag, line) if site.target.on_loopback else None
    allowance, tail, announced = 0.0, b"", False
    due = trio.current_time()
    while due < site.until and not _ended(line, kernel):
        due += tick
        allowance += rate * tick
        with trio.move_on_at(due), suppress(EndedError):
            while allowance >= 1:
                data = await line.receive_raw(int(allowance))
                allowance -= len(data)
                tail = (tail + data.lower())[-4096:]
                announced = announced or b"connection: close" in tail
        await trio.sleep_until(due)
    return kernel, announced


PROBES: Final = (
    Probe(name="slow readers", figure="slow_read_floor_bps", meaning="slowest reader of answers that is not ended",
          why="Kestrel 240 B/s after 5 s; a phone on 2G reads 3 KB/s, and less while it shares the line",
          unit=Unit.RATE, good=(None, 1024), above=Mark.HARSH, enough=60, nothing=0, play=floor),
    Probe(name="never reads", figure="never_read_deadline_s",
          meaning="until a client that asks for much and reads nothing is ended",
          why="Kestrel 5, uWS 10, nginx 60; in a tunnel or a lift an honest client is offline for 5 to 25",
          good=(5, 90), play=never),
)  # fmt: skip
