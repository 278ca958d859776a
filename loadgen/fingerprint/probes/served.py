"""Honest users: slow users of each kind must be served, however tight the deadlines are, and many behind one address.

Owns: what slow users send and how slowly; a slow request is served if it gets the same answer as the same bytes sent at
once. And opening many connections gently, before all other probes, which would be turned away too. A connection counts
as turned away if it ends as soon as it is open; a later end is a deadline or an eviction. A cap needs several of them,
since one RST may be an accident.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import trio

from loadgen.fingerprint.clients import OPEN, Client, TlsClient, first_sign
from loadgen.fingerprint.found import Finding, Found, NoneSeen, NotApplicable, Unit
from loadgen.fingerprint.practice import Limit, Mark, Probe
from loadgen.fingerprint.site import ANSWER_SECONDS, BODY_BEGIN, SOURCES, TROUBLE, Need, Options, Site
from loadgen.net.line import EndedError, Line, describe

#: How many paces a typist takes for a head, and a phone for a body.
_PACES: Final = 8

#: What a phone on 2G sends in one pace.
_PHONE_BYTES: Final = 3072


async def typist(site: Site) -> Finding:
    head = site.plain_request()
    step = len(head) / _PACES
    pieces = [head[round(at * step) : round((at + 1) * step)] for at in range(_PACES)]
    # the line end that completes the head comes last, a whole pace after the rest
    return await _served(site, [*pieces[:-1], pieces[-1][:-2], pieces[-1][-2:]])


async def poster(site: Site) -> Finding:
    head = site.post(f"Content-Length: {_PHONE_BYTES * _PACES}")
    block = b" " * _PHONE_BYTES
    return await _served(site, [head + BODY_BEGIN + block[1:], *[block] * (_PACES - 1)])


async def _served(site: Site, pieces: Sequence[bytes]) -> Finding:
    """Send the pieces at once, then again one each pace: is the answer the same?"""
    wanted = await site.ask(*pieces)
    if wanted.status == 413:
        return NotApplicable(why=f"a request of this size is refused: {wanted.status}")
    begun = trio.current_time()
    try:
        how = str((await site.ask(*pieces, pause=site.options.pace)).status)
    except EndedError as error:
        how = error.ending
    outcome = f"{how} after {trio.current_time() - begun:.1f} s"
    if how == str(wanted.status):
        return Found(value=1, how=outcome)
    return Found(value=0, how=f"{outcome}, and {wanted.status} to the same sent at once")


PROBES: Final = (
    Probe(name="head, typed in 8 s", figure="slow_typist_served",
          meaning="whether a request head that is typed in 8 s is answered",
          why="people with telnet, networks that drop out for seconds", unit=Unit.YES_NO, good=(1, None), play=typist),
    Probe(name="body at 3 KB/s", figure="slow_poster_served", meaning="whether a body of 24 KiB at 3 KB/s is taken",
          why="a phone on 2G sends no faster", unit=Unit.YES_NO, good=(1, None), need=Need.BODY, play=poster),
)  # fmt: skip


#: The smallest listen backlog (http.server's): one more connection would wait a second for its SYN to be sent again.
_AT_ONCE: Final = 5

#: Connections turned away from which on there is a cap.
_CAPPED: Final = 3

#: A server that turns a connection away does it within this time.
_NOTICE_SECONDS: Final = 0.5
_BETWEEN_SECONDS: Final = 0.01

#: No more are opened after that, because the whole run has two minutes. At a round trip of 300 ms it is time for a
#: hundred, however fast the server accepts.
_LIMIT_SECONDS: Final = 6.0


async def per_address(site: Site) -> Finding:
    """Connect again and again from one address, until some are turned away."""
    async with AsyncExitStack() as stack:
        finding = await _Crowd(site, stack).find()
    await trio.sleep(_NOTICE_SECONDS)  # let the server notice the closes before the next connection from that address
    return finding


class _Crowd:
    def __init__(self, site: Site, stack: AsyncExitStack) -> None:
        self._site = site
        self._stack = stack
        self._standing: dict[Line, float] = {}  # open connections, with the time when each connected
        self._most = 0  # open at once
        self._ended_later = 0
        self._turned_away: list[Line | str] = []  # the connection, or why it could not connect

    async def find(self) -> Finding:
        remarks = []
        try:
            with trio.fail_after(_LIMIT_SECONDS):
                await self._open()
        except* trio.TooSlowError:
            remarks.append(f"no more in {_LIMIT_SECONDS:g} s")
        with trio.move_on_after(_NOTICE_SECONDS):
            while True:
                await trio.sleep(_BETWEEN_SECONDS)
                self._look()
        is_capped = len(self._turned_away) >= _CAPPED
        how = await self._last_words(self._turned_away[0]) if is_capped else ""
        self._site.beside_crowd = await self._others(is_capped=is_capped)
        if is_capped:
            return Found(value=len(self._standing), how=how)
        if self._turned_away:
            remarks.append(f"{len(self._turned_away)} turned away")
        if self._ended_later:
            remarks.append(f"{self._ended_later} ended later")
        return NoneSeen(looked=self._most, how="; ".join(remarks))

    async def _open(self) -> None:
        asked = self._site.options.connections
        for begun in range(0, asked, _AT_ONCE):
            if len(self._turned_away) >= _CAPPED:
                return
            async with trio.open_nursery() as nursery:
                for _ in range(min(_AT_ONCE, asked - begun)):
                    nursery.start_soon(self._connect)
            await trio.sleep(_BETWEEN_SECONDS)
            self._look()

    async def _connect(self) -> None:
        try:
            # without TLS, even on a TLS port: the cap counts connections, and a handshake costs more
            dialling = self._site.dial(source=self._site.target.source(SOURCES), plaintext=True)
            line = await self._stack.enter_async_context(dialling)
        except OSError as error:
            self._turned_away.append(describe(error))
        else:
            self._standing[line] = trio.current_time()

    def _look(self) -> None:
        late = trio.current_time() - _NOTICE_SECONDS
        for line in [line for line in self._standing if line.ending is not None]:
            if self._standing.pop(line) > late:
                self._turned_away.append(line)
            else:
                self._ended_later += 1
        self._most = max(self._most, len(self._standing))

    async def _last_words(self, line: Line | str) -> str:
        if isinstance(line, str):
            return line
        client = TlsClient(line) if self._site.target.tls else Client(line)
        sign = await first_sign(client, trio.current_time() + ANSWER_SECONDS)
        return sign.how if sign else OPEN

    async def _others(self, *, is_capped: bool) -> Finding:
        """Ask from another address: a cap on all connections, or as many threads, lets one address stop the server."""
        if is_capped and not self._site.target.spreads_sources:
            return NotApplicable(why="no other source address is available")
        try:
            how = str((await self._site.ask(self._site.plain_request())).status)
        except TROUBLE as error:  # the kernel may take more connections than the server holds
            return Found(value=0, how=describe(error))
        return Found(value=1, how=how)


CROWD: Final = (
    Probe(name="connections from one address", figure="connections_per_address",
          meaning="connections that one address may hold",
          why="an office of 300 sits behind one address; without a cap one machine can take all places",
          unit=Unit.CONNECTIONS, good=(300, None), absent=Mark.LENIENT, enough=Options.connections, need=Need.CROWD,
          play=per_address),
)  # fmt: skip

#: Not a probe of its own: the crowd asks while it is there.
BESIDE_CROWD: Final = Limit(
    name="others beside a silent crowd",
    figure="others_beside_crowd",
    meaning="whether others are answered while one address holds hundreds of silent connections",
    why="one machine must not take all places: a cap on each address keeps some for others, and so does eviction",
    unit=Unit.YES_NO,
    good=(1, None),
    below=Mark.MISSING,
)
