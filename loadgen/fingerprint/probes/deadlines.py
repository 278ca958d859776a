"""Deadlines of HTTP and TLS: a request or a ClientHello is begun in some way, and then next to nothing comes.

Owns: what is begun and how it continues. A stall finds the deadline between two reads. A byte or a line a second finds
the total deadline, which a server lacks if it restarts its clock at each byte or line. A fast client distinguishes
a total deadline from a minimum rate, which ends slow clients early and spares an attacker who sends a few hundred bytes
a second.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from loadgen.fingerprint.clients import MOMENT_SECONDS, OPEN, Script, Sign, Slow, first_sign, http, kept, script, tls
from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.practice import Probe
from loadgen.fingerprint.site import ANSWER_SECONDS, BODY_BEGIN, WAIT, Need, Site
from loadgen.net.line import EndedError, Ending, Line
from loadgen.net.tls import client_hello

#: Never complete at a byte a second, and smaller than the body limit of any message server.
_BODY_BYTES: Final = 4096

#: The same for the fast client, which is above the highest minimum rate in use (240 B/s) and needs 123 s for this.
_FAST_BODY_BYTES: Final = 48 * 1024

_FAST_BYTES: Final = 400
_FAST: Final = "400 B/s"

#: After the server's last word a byte is sent this often, until a closed socket answers one with RST.
_NUDGE_SECONDS: Final = 0.25


def _lines(site: Site) -> bytes:
    return site.plain_request().removesuffix(b"\r\n")


def _field(site: Site) -> bytes:
    """The same, within a field that never ends."""
    return _lines(site) + b"X-Slow: "


def _body(size: int) -> Callable[[Site], bytes]:
    """A request and the first byte of its body."""
    return lambda site: site.post(f"Content-Length: {size}") + BODY_BEGIN


def _chunk(size: int) -> bytes:
    return b"%x\r\n%b\r\n" % (size, b" " * size)


#: Sixteen bytes, so that no limit on chunk overhead ends the connection before the deadline.
_CHUNK: Final = _chunk(16)


def _chunks(site: Site) -> bytes:
    """A request and the first chunk of its body."""
    return site.post("Transfer-Encoding: chunked") + _CHUNK


def _expectation(site: Site) -> bytes:
    """A head that asks permission to send the body."""
    return site.post(f"Content-Length: {_BODY_BYTES}", "Expect: 100-continue")


_STALLED_HEAD: Final = {"stalled": script(_field)}
_STALLED_BODY: Final = {"stalled": script(_body(_BODY_BYTES))}


def _poll(site: Site) -> bytes:
    return site.get(site.options.poll_path.replace(WAIT, "3600"))


async def linger(site: Site) -> Finding:
    """Send bytes that are not HTTP, and keep sending after the server's last word."""
    async with http(site) as client:
        await client.line.send(b"this is not HTTP\r\n\r\n")
        sign = await first_sign(client, min(site.until, trio.current_time() + ANSWER_SECONDS))
        if sign is None or sign.how.endswith(OPEN):
            return NotApplicable(why="it does not close after bytes that are no HTTP")
        if sign.turned_away:
            return Failed(why=f"turned away: {sign.how}")
        if sign.how.endswith("RST"):
            return Found(value=0.0, uncertainty=MOMENT_SECONDS, how=sign.how)
        return await _nudge(site, client.line, sign)


async def _nudge(site: Site, line: Line, sign: Sign) -> Finding:
    """Send a byte now and then until one is answered with RST, which proves that the server has closed its socket."""
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


def _in_pieces(cut: Callable[[bytes], list[bytes]]) -> Callable[[Site], Script]:
    def script(site: Site) -> Script:
        first, *rest = cut(client_hello(site.target.host))
        return first, rest[:-1]  # never the last one, even if there is time for it

    return script


def in_bytes(hello: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in hello]


def in_records(hello: bytes) -> list[bytes]:
    """Cut it into records of one byte, each with a head of type, version and length (RFC 8446 section 5.1)."""
    return [hello[:3] + b"\0\1" + byte for byte in in_bytes(hello[5:])]


_STALLED_HELLO: Final = {"stalled": _in_pieces(lambda hello: [hello[: len(hello) // 2], hello[len(hello) // 2 :]])}
_SLOW_HELLO: Final = {
    **_STALLED_HELLO,
    "a byte a second": _in_pieces(in_bytes),
    "a record a second": _in_pieces(in_records),
}
_SLOW_HEAD: Final = {
    **_STALLED_HEAD,
    "a byte a second": script(_field, b"a"),
    "a line a second": script(_lines, b"X-Slow: a\r\n"),
    _FAST: script(_lines, b"X-Slow: %b\r\n" % (b"a" * (_FAST_BYTES - 10))),
}
_SLOW_BODY: Final = {
    **_STALLED_BODY,
    "a byte a second": script(_body(_BODY_BYTES), b" "),
    _FAST: script(_body(_FAST_BODY_BYTES), b" " * _FAST_BYTES, most=_FAST_BODY_BYTES // _FAST_BYTES),
}
_SLOW_CHUNKS: Final = {
    "stalled": script(_chunks), "a chunk a second": script(_chunks, _CHUNK), _FAST: script(_chunks, _chunk(_FAST_BYTES))
}  # fmt: skip

PROBES: Final = (
    Probe(name="TLS hello, stalled", figure="tls_stall_deadline_s",
          meaning="until half a TLS ClientHello ends the connection",
          why="ranch 5, asyncio and nginx 60; the four flights of a phone 600 ms away fit in any of them", good=(5, 60),
          need=Need.TLS, play=Slow(tls, _STALLED_HELLO)),
    Probe(name="TLS hello, slowly", figure="tls_deadline_s",
          meaning="until a ClientHello that comes by a byte or a record a second ends it",
          why="as for a stalled hello, in total: a byte a second must not extend it", good=(5, 60), need=Need.TLS,
          play=Slow(tls, _SLOW_HELLO)),
    Probe(name="connected, silent", figure="first_byte_deadline_s",
          meaning="until a connection that sends nothing is ended",
          why="cowboy 5, uWS and websockets 10, nginx 60, Apache 20 and about 30 before in the kernel"
              " (TCP_DEFER_ACCEPT); browsers open connections ahead of need",
          good=(5, 60), need=Need.NOTHING, play=Slow(http, {"silent": script(b"")}, at_once="")),
    Probe(name="head, stalled", figure="head_stall_deadline_s",
          meaning="until a request head that was begun ends the connection",
          why="cowboy 5, uWS and websockets 10, Apache 20, Kestrel 30, nginx 60", good=(5, 30),
          play=Slow(http, _STALLED_HEAD)),
    Probe(name="head, slowly", figure="head_deadline_s",
          meaning="until a request head that comes by a byte or a line a second ends it",
          why="cowboy 5, set once; uWS and websockets 10; Apache 20-40; Kestrel 30. A clock that each line restarts"
              " is no deadline",
          good=(5, 30), play=Slow(http, _SLOW_HEAD, fast=_FAST)),
    Probe(name="body, stalled", figure="body_stall_deadline_s",
          meaning="until a request body that was begun ends the connection",
          why="Kestrel 5 of grace, uWS 10, Apache 20, nginx 60", good=(5, 60), need=Need.BODY,
          play=Slow(http, _STALLED_BODY)),
    Probe(name="body, slowly", figure="body_deadline_s",
          meaning="until a request body that comes at a byte a second ends it",
          why="Apache 20 and 1 per 500 B, Kestrel 240 B/s after 5; nginx has none, hypercorn and aiohttp neither",
          good=(5, 60), need=Need.BODY, play=Slow(http, _SLOW_BODY, fast=_FAST)),
    Probe(name="body in chunks, slowly", figure="chunked_body_deadline_s",
          meaning="until a chunked body that comes at a chunk a second ends it",
          why="as for a body with a length",
          good=(5, 60), need=Need.CHUNKS, play=Slow(http, _SLOW_CHUNKS, fast=_FAST)),
    Probe(name="Expect: 100-continue, silent", figure="continue_deadline_s",
          meaning="until silence after `Expect: 100-continue` ends the connection",
          why="as for a body: the server waits for one, whether it has sent 100 or not", good=(5, 60), need=Need.BODY,
          play=Slow(http, {"silent": script(_expectation)})),
    Probe(name="keep-alive", figure="keepalive_deadline_s",
          meaning="until an idle connection that was answered before is ended",
          why="Apache, node, uvicorn and hypercorn 5, nginx and aiohttp 75, Kestrel 120; a page's next request comes"
              " within 2",
          good=(2, 90), need=Need.KEEPALIVE,
          play=Slow(kept, {"silent": script(b"")}, at_once="it closes after an answer without saying so")),
    Probe(name="after the last word", figure="linger_deadline_s",
          meaning="how long the server reads on after its last word",
          why="nginx lingers 5 between reads and 30 in all, Apache 30 and as long as the last read waits, at most 2",
          good=(None, 32), play=linger),
    Probe(name="long-poll", figure="poll_hold_s", meaning="how long a long-poll that asks for an hour is held",
          why="25-30 is usual and many proxies give up at 60; shorter makes every client ask all the time",
          good=(10, 90), need=Need.POLL, play=Slow(http, {"silent": script(_poll)})),
)  # fmt: skip
