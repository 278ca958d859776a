"""Deadlines of a WebSocket: silence, no pong, a frame or a message without end, a close without answer.

Owns: what is sent, and whether the server's pings are answered meanwhile. Inside a frame they cannot be, so an
unanswered ping may be what ends the connection; the remark then says that there was one.
"""

from dataclasses import replace
from functools import partial
from typing import Final

import trio
from wsproto.frame_protocol import Opcode

from loadgen.fingerprint.clients import (
    OPEN,
    RESERVED_OPCODE,
    Member,
    Sign,
    Slow,
    elapsed,
    ending_of,
    first_sign,
    join,
    script,
)
from loadgen.fingerprint.found import Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.practice import Mark, Probe
from loadgen.fingerprint.site import ANSWER_SECONDS, PROMPT_SECONDS, Need, Site
from loadgen.net.line import EndedError
from loadgen.net.websocket import close_words
from loadgen.net.wire import FIN, frame

#: Size of the frame that is begun: below the limit of any server, so that no size limit ends it.
_FRAME_BYTES: Final = 4000

#: The fastest rate at which such a frame is still incomplete when patience ends.
_FAST_BYTES: Final = 36
_FAST: Final = f"{_FAST_BYTES} B/s"

_FRAME: Final = frame(FIN | Opcode.TEXT, b" ", announced=_FRAME_BYTES)


async def silence(site: Site) -> Finding:
    """Send nothing but pongs, and wait for a ping that follows a silence; one at the start does not."""
    async with join(site) as member:
        silent_since = member.opened
        with trio.move_on_at(site.until):
            try:
                while True:
                    heard = await member.hear()
                    if heard.opcode is Opcode.CLOSE:
                        return _ended_before_a_ping(member, trio.current_time(), close_words(heard))
                    if heard.opcode is not Opcode.PING:
                        continue
                    silence = member.pinged[-1] - silent_since
                    if silence > PROMPT_SECONDS:
                        return Found(value=silence, uncertainty=site.doubt(member.line), how="ping")
                    silent_since = member.pinged[-1]
                    await member.socket.pong(heard)
            except EndedError as error:
                return _ended_before_a_ping(member, trio.current_time(), error.ending)
        return NoneSeen(looked=site.until - silent_since)


def _ended_before_a_ping(member: Member, at: float, how: str) -> Finding:
    return NotApplicable(why=f"it ended the silent connection after {at - member.opened:.1f} s: {how}")


async def no_pong(site: Site) -> Finding:
    async with join(site) as member:
        sign = await first_sign(member, site.until)
        if not member.pinged:
            if sign is None:
                return NotApplicable(why=f"no ping came within {site.options.within:.0f} s")
            return _ended_before_a_ping(member, sign.at, sign.how)
        return elapsed(site, member.line, member.pinged[0], sign)


async def only_pongs(site: Site) -> Finding:
    async with join(site, answering=True) as member:
        sign = await first_sign(member, site.until)
        finding = elapsed(site, member.line, member.opened, sign)
        return _led_by(finding, f"{len(member.pinged)} pings answered")


async def close_unanswered(site: Site) -> Finding:
    """Break the protocol, and leave the server's close frame without an answer."""
    async with join(site, answering=True) as member:
        await member.line.send(frame(FIN | RESERVED_OPCODE))
        try:
            with trio.fail_after(ANSWER_SECONDS):
                close = await member.listen()
        except EndedError as error:
            return NotApplicable(why=f"it ends a broken connection without a close frame: {error.ending}")
        except trio.TooSlowError:
            return NotApplicable(why="a reserved opcode did not make it close")
        return _led_by(await _closes(site, member, trio.current_time()), close)


async def goodbye(site: Site) -> Finding:
    """Send a close frame, and wait for the server to end the connection."""
    async with join(site) as member:
        begun = trio.current_time()
        await member.line.send(frame(FIN | Opcode.CLOSE, (1000).to_bytes(2)))
        sign = await first_sign(member, site.until)
        if sign is None or not sign.how.endswith(OPEN):
            return elapsed(site, member.line, begun, sign)
        return _led_by(await _closes(site, member, begun), sign.how)


async def _closes(site: Site, member: Member, since: float) -> Found | NoneSeen:
    """Measure how long the server takes to end the connection after its last word."""
    how = await ending_of(member.line, max(site.until - trio.current_time(), 0))
    return elapsed(site, member.line, since, None if how == OPEN else Sign(at=trio.current_time(), how=how))


def _led_by(finding: Found | NoneSeen, first: str) -> Finding:
    return replace(finding, how=", ".join(filter(None, (first, finding.how))))


_STALLED_FRAME: Final = {"stalled": script(_FRAME)}

#: A fragment every four paces, so that no limit on fragments ends it, and pings in between.
_FRAGMENTS: Final = script(
    frame(Opcode.TEXT, b" "),
    *[frame(FIN | Opcode.PING)] * 3,
    frame(Opcode.CONTINUATION, b" "),
)


_SLOW_FRAME: Final = {
    **_STALLED_FRAME,
    "a byte a second": script(_FRAME, b" "),
    _FAST: script(_FRAME, b" " * _FAST_BYTES, most=_FRAME_BYTES // _FAST_BYTES),
}

PROBES: Final = (
    Probe(name="WebSocket, silent", figure="ws_ping_s", meaning="silence on a WebSocket until the server sends a ping",
          why="websockets 20, Centrifugo and Engine.IO 25; proxies and carriers forget a silent connection after 30-60",
          good=(5, 60), need=Need.WEBSOCKET, play=silence),
    Probe(name="WebSocket, no pong", figure="ws_pong_deadline_s",
          meaning="from an unanswered ping until the WebSocket is ended",
          why="Centrifugo 8, Engine.IO and websockets 20", good=(5, 30), need=Need.WEBSOCKET, play=no_pong),
    Probe(name="WebSocket, only pongs", figure="ws_idle_deadline_s",
          meaning="until a silent WebSocket that answers every ping is ended all the same",
          why="a background tab sends nothing for hours and is no attacker", good=(3600, None), absent=Mark.GOOD,
          enough=60, need=Need.WEBSOCKET, play=only_pongs),
    Probe(name="frame, stalled", figure="ws_frame_stall_deadline_s",
          meaning="until a WebSocket frame that was begun ends the connection",
          why="few servers have such a deadline; on the others an unanswered ping ends the connection after 40",
          good=(5, 60), need=Need.WEBSOCKET, play=Slow(join, _STALLED_FRAME)),
    Probe(name="frame, slowly", figure="ws_frame_deadline_s",
          meaning="until a WebSocket frame that comes at a byte a second ends it",
          why="an honest 16 KiB at 1 KB/s take 16; a frame that never ends must be ended", good=(5, 60),
          need=Need.WEBSOCKET, play=Slow(join, _SLOW_FRAME, fast=_FAST)),
    Probe(name="fragments without end", figure="ws_message_deadline_s",
          meaning="until a message of endless fragments ends the connection",
          why="as for a frame; a ping is no progress", good=(5, 60), need=Need.WEBSOCKET,
          play=Slow(partial(join, answering=True), {"a fragment each 4 s": _FRAGMENTS})),
    Probe(name="server's close unanswered", figure="ws_close_deadline_s",
          meaning="from the server's unanswered close frame until it ends the connection",
          why="websockets, aiohttp and trio-websocket 10; no client waits for anything after its close frame",
          good=(None, 15), need=Need.WEBSOCKET, play=close_unanswered),
    Probe(name="our close", figure="ws_goodbye_deadline_s",
          meaning="from our close frame until the server ends the connection",
          why="RFC 6455 section 7.1.1: the server closes first, and at once", good=(None, 15), need=Need.WEBSOCKET,
          play=goodbye),
)  # fmt: skip
