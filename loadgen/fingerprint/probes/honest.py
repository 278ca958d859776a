"""The honest slow, one of each: they must be served, however tight the deadlines are for others."""

from collections.abc import Sequence
from typing import Final

import trio

from loadgen.fingerprint.exchange import Exchange, exchange
from loadgen.fingerprint.findings import Finding, Found, NotApplicable
from loadgen.fingerprint.line import EndedError
from loadgen.fingerprint.site import ANSWER_SECONDS, Site
from loadgen.fingerprint.survey import BODY_BEGIN, BODY_TYPE

#: How many paces a typist takes for a head, and a phone for a body.
TYPING_PACES: Final = 8
POSTING_PACES: Final = 8

#: What a phone on 2G sends in one pace.
_PHONE_BYTES: Final = 3072

_TOO_SLOW: Final = frozenset({408})
_TOO_LARGE: Final = frozenset({413})


async def typist(site: Site) -> Finding:
    """Type a head by hand."""
    talk = site.exchange()
    head = site.plain_request(talk)
    step = len(head) / TYPING_PACES
    pieces = [head[round(at * step) : round((at + 1) * step)] for at in range(TYPING_PACES)]
    # the line end that completes the head is typed last, a whole pace after the rest
    pieces = [*pieces[:-1], pieces[-1][:-2], pieces[-1][-2:]]
    return await _served(site, talk, pieces)


async def poster(site: Site) -> Finding:
    """Send a body as a phone on 2G does."""
    talk = site.exchange()
    size = _PHONE_BYTES * POSTING_PACES
    head = talk.request("POST", site.survey.body_path, [BODY_TYPE, ("Content-Length", str(size))])
    block = b" " * _PHONE_BYTES
    pieces = [head + BODY_BEGIN + block[1:], *[block] * (POSTING_PACES - 1)]
    return await _served(site, talk, pieces)


async def _served(site: Site, talk: Exchange, pieces: Sequence[bytes]) -> Finding:
    """Send a piece in each pace: is it answered at the end, and not cut off before?"""
    begun = trio.current_time()
    try:
        with trio.fail_after(site.options.pace * len(pieces) + ANSWER_SECONDS):
            async with site.dial() as line:
                answer = await exchange(line, talk, pieces, pause=site.options.pace)
    except EndedError as error:
        return Found(value=0, how=f"{error.ending} after {trio.current_time() - begun:.1f} s")
    how = f"{answer.status} after {trio.current_time() - begun:.1f} s"
    if answer.status in _TOO_LARGE:
        return NotApplicable(why=f"{how}: so much is not taken at all")
    return Found(value=int(answer.status not in _TOO_SLOW), how=how)
