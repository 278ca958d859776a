"""Deadlines of a WebSocket: silence, no pong, a frame or a message without end, a close without answer.

Owns: what is sent and whether the server's own pings are answered meanwhile. Where they cannot be (a pong may not stand
inside a frame) an unanswered ping may be what ends the connection; the remark then says that one had come.
"""

from itertools import chain, cycle, repeat

import trio
from wsproto.events import CloseConnection, Ping
from wsproto.frame_protocol import Opcode

from loadgen.fingerprint.findings import Finding, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.line import EndedError
from loadgen.fingerprint.member import RESERVED_OPCODE, Member, frame, frame_head, join, word_close
from loadgen.fingerprint.probes.deadlines import closes_in
from loadgen.fingerprint.site import ANSWER_SECONDS, Site
from loadgen.fingerprint.watch import OPEN, Sign, dripping

#: The frame that is begun: below what any server takes, so that no size limit ends it.
_FRAME_BYTES = 4000

#: Pings between two fragments of the message that never ends: few fragments, so that no limit on them ends it.
_PINGS_A_FRAGMENT = 4


async def silence(site: Site) -> Finding:
    """Say nothing but pong, and wait for a ping after a silence; one that greets is none."""
    async with join(site) as member:
        silent_since = member.opened
        with trio.move_on_at(site.until):
            try:
                while True:
                    event = await member.hear()
                    if isinstance(event, CloseConnection):
                        return _ended_before_a_ping(member, word_close(event))
                    if not isinstance(event, Ping):
                        continue
                    silence = member.pinged[-1] - silent_since
                    if silence > site.options.prompt:
                        return Found(value=silence, uncertainty=site.doubt(member.line), how="ping")
                    silent_since = member.pinged[-1]
                    await member.answer(event)
            except EndedError as error:
                return _ended_before_a_ping(member, error.ending)
        return NoneSeen(looked=site.until - silent_since)


def _ended_before_a_ping(member: Member, how: str) -> Finding:
    return NotApplicable(why=f"it ended the silent connection after {trio.current_time() - member.opened:.1f} s: {how}")


async def no_pong(site: Site) -> Finding:
    """Answer no ping."""
    async with join(site) as member:
        sign = await member.end(site.until, answering=False)
        if not member.pinged:
            if sign is None:
                return NotApplicable(why=f"no ping came within {site.until - member.opened:.0f} s")
            return _ended_before_a_ping(member, sign.how)
        since = member.pinged[0]
        if sign is None:
            return NoneSeen(looked=site.until - since, how=f"{len(member.pinged)} pings unanswered")
        whole = sign.at - member.opened
        return Found(
            value=sign.at - since,
            uncertainty=site.doubt(member.line),
            how=f"{sign.how}; {whole:.1f} s after the upgrade",
        )


async def only_pongs(site: Site) -> Finding:
    """Say nothing but pong."""
    async with join(site) as member:
        sign = await member.end(site.until, answering=True)
        pings = f"{len(member.pinged)} pings answered"
        if sign is None:
            return NoneSeen(looked=site.until - member.opened, how=pings)
        return Found(value=sign.at - member.opened, uncertainty=site.doubt(member.line), how=f"{sign.how}; {pings}")


async def frame_stalled(site: Site) -> Finding:
    """Begin a frame, and wait."""
    async with join(site) as member:
        await member.line.send(frame_head(Opcode.TEXT, _FRAME_BYTES) + b" ")
        return _after(site, member, await member.end(site.until, answering=False))


async def frame_dripped(site: Site) -> Finding:
    """Begin a frame, and go on with a byte a second."""
    async with join(site) as member:
        await member.line.send(frame_head(Opcode.TEXT, _FRAME_BYTES) + b" ")
        async with dripping(member.line, repeat(b" "), site.options.pace):
            sign = await member.end(site.until, answering=False)
        return _after(site, member, sign)


async def message_without_end(site: Site) -> Finding:
    """Send a fragment now and then, and pings in between."""
    fragment, ping = frame(Opcode.CONTINUATION, b" ", final=False), frame(Opcode.PING, b"")
    async with join(site) as member:
        await member.line.send(frame(Opcode.TEXT, b" ", final=False))
        pieces = cycle(chain(repeat(ping, _PINGS_A_FRAGMENT - 1), [fragment]))
        async with dripping(member.line, pieces, site.options.pace):
            sign = await member.end(site.until, answering=True)
        return _after(site, member, sign)


def _after(site: Site, member: Member, sign: Sign | None) -> Finding:
    pinged = f", after a ping at {member.pinged[0] - member.opened:.1f} s" if member.pinged else ""
    if sign is None:
        return NoneSeen(looked=site.until - member.opened, how=pinged.removeprefix(", "))
    return Found(value=sign.at - member.opened, uncertainty=site.doubt(member.line), how=sign.how + pinged)


async def close_unanswered(site: Site) -> Finding:
    """Break the protocol, and leave the server's close frame without an answer."""
    async with join(site) as member:
        await member.line.send(frame(RESERVED_OPCODE, b""))
        try:
            with trio.fail_after(ANSWER_SECONDS):
                close = await _close_of(member)
        except EndedError as error:
            return NotApplicable(why=f"it ends a broken connection without a close frame: {error.ending}")
        except trio.TooSlowError:
            return NotApplicable(why="a reserved opcode did not make it close")
        finding = await closes_in(site, member.line, trio.current_time())
        return _led_by(finding, word_close(close))


async def goodbye(site: Site) -> Finding:
    """Send a close frame, and leave the rest to the server."""
    async with join(site) as member:
        begun = trio.current_time()
        await member.line.send(frame(Opcode.CLOSE, (1000).to_bytes(2)))
        sign = await member.end(site.until, answering=False)
        if sign is None:
            return NoneSeen(looked=site.until - begun, how="no close frame came back")
        if not sign.how.endswith(OPEN):
            return Found(value=sign.at - begun, uncertainty=site.doubt(member.line), how=sign.how)
        return _led_by(await closes_in(site, member.line, begun), sign.how)


async def _close_of(member: Member) -> CloseConnection:
    while not isinstance(event := await member.hear(), CloseConnection):
        if isinstance(event, Ping):
            await member.answer(event)
    return event


def _led_by(finding: Finding, first: str) -> Finding:
    match finding:
        case Found(value=value, uncertainty=doubt, how=how):
            return Found(value=value, uncertainty=doubt, how=f"{first}, {how}")
        case NoneSeen(looked=looked, how=how):
            return NoneSeen(looked=looked, how=f"{first}, {how}")
    return finding
