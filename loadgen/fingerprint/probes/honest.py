"""Honest slow users, one of each kind: they must be served, however tight the deadlines are for attackers.

Owns: what they send and how slowly. A slow request is served if it gets the same answer as the same bytes sent at once.
"""

from collections.abc import Sequence
from typing import Final

import trio

from loadgen.fingerprint.findings import Finding, Found, NotApplicable, Unit
from loadgen.fingerprint.practice import Probe
from loadgen.fingerprint.site import BODY_BEGIN, Need, Site
from loadgen.line import EndedError

#: How many paces a typist takes for a head, and a phone for a body.
TYPING_PACES: Final = 8
POSTING_PACES: Final = 8

#: What a phone on 2G sends in one pace.
_PHONE_BYTES: Final = 3072

_TOO_LARGE: Final = 413


async def typist(site: Site) -> Finding:
    head = site.plain_request()
    step = len(head) / TYPING_PACES
    pieces = [head[round(at * step) : round((at + 1) * step)] for at in range(TYPING_PACES)]
    # the line end that completes the head comes last, a whole pace after the rest
    return await _served(site, [*pieces[:-1], pieces[-1][:-2], pieces[-1][-2:]])


async def poster(site: Site) -> Finding:
    head = site.post(f"Content-Length: {_PHONE_BYTES * POSTING_PACES}")
    block = b" " * _PHONE_BYTES
    return await _served(site, [head + BODY_BEGIN + block[1:], *[block] * (POSTING_PACES - 1)])


async def _served(site: Site, pieces: Sequence[bytes]) -> Finding:
    """Send the pieces at once, then again one each pace: is the answer the same?"""
    wanted = await site.ask(*pieces)
    if wanted.status == _TOO_LARGE:
        return NotApplicable(why=f"so much is not taken at all: {wanted.status}")
    begun = trio.current_time()
    try:
        how = str((await site.ask(*pieces, pause=site.options.pace)).status)
    except EndedError as error:
        how = error.ending
    told = f"{how} after {trio.current_time() - begun:.1f} s"
    if how == str(wanted.status):
        return Found(value=1, how=told)
    return Found(value=0, how=f"{told}, and {wanted.status} to the same sent at once")


PROBES: Final = (
    Probe(name="head, typed in 8 s", figure="slow_typist_served",
          meaning="whether a request head that is typed in 8 s is answered",
          why="people with telnet, networks that drop out for seconds", unit=Unit.YES_NO, good=(1, None), play=typist),
    Probe(name="body at 3 KB/s", figure="slow_poster_served", meaning="whether a body of 24 KiB at 3 KB/s is taken",
          why="a phone on 2G sends no faster", unit=Unit.YES_NO, good=(1, None), need=Need.BODY, play=poster),
)  # fmt: skip
