"""The survey: what a server offers, found out before it is probed.

Owns: the first seconds. Does the server answer at all, and does it while another client is silent? On which path does
it wait for a body? Does it hold a long-poll? Does it speak WebSocket? Probes that need what is missing are skipped,
with the reason. If the server turns even these few connections away, the probes have failed, because nothing is known.
"""

from functools import partial
from typing import Final

import trio

from loadgen.fingerprint.clients import join
from loadgen.fingerprint.found import Failed, Finding, NotApplicable
from loadgen.fingerprint.site import (
    ANSWER_SECONDS,
    BODY_BEGIN,
    PROMPT_SECONDS,
    TROUBLE,
    WAIT,
    Need,
    NotServedError,
    Site,
    TurnedAwayError,
    tried,
)
from loadgen.net.answers import TURNED_AWAY
from loadgen.net.line import Answer, Exchange, describe
from loadgen.net.wire import UPGRADE_FIELDS

_SMALL_BODY: Final = BODY_BEGIN + b" " * 15


async def survey(site: Site) -> None:
    if not site.target.tls:
        site.lacks[Need.TLS] = NotApplicable(why="the target is plain http")
    if not site.options.connections:
        site.lacks[Need.CROWD] = NotApplicable(why="skipped, as asked for")
    plain = await _plain(site)
    if plain is None:
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_body, site)
        nursery.start_soon(_poll, site)
        nursery.start_soon(_websocket, site)
    _choose(site, plain)


async def _plain(site: Site) -> Answer | None:
    """Send a plain request while another connection is silent."""
    get = site.get(site.options.path)
    try:
        async with site.dial():
            begun = trio.current_time()
            answer = await site.ask(get)
            site.usual_seconds = trio.current_time() - begun
            return answer
    except TROUBLE as error:
        trouble: BaseException = error
    try:
        await site.ask(get)
    except TROUBLE:
        why = f"GET {site.options.path} is not answered: {describe(trouble)}"
    else:
        why = "it serves one connection at a time: slow probes beside each other would measure its queue"
        site.notes.append("one silent connection stops the server for all others")
    lack = Failed(why=why) if isinstance(trouble, TurnedAwayError) else NotApplicable(why=why)
    for need in set(Need) - {Need.NOTHING, Need.TLS}:
        site.lacks.setdefault(need, lack)
    return None


async def _body(site: Site) -> None:
    """Find a path on which the server waits for the body before it answers, and whether it does so for chunks."""
    lacks = []
    for path in dict.fromkeys((site.options.post_path, site.options.path)):
        lack = await _no_body(site, f"POST {path}", path, f"Content-Length: {len(_SMALL_BODY)}", _SMALL_BODY)
        if lack is None:
            site.body_path = path
            chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_SMALL_BODY), _SMALL_BODY)
            lack = await _no_body(site, f"POST {path} in chunks", path, "Transfer-Encoding: chunked", chunk)
            if lack is not None:
                site.lacks[Need.CHUNKS] = lack
            return
        lacks.append(lack)
    kind = Failed if any(isinstance(lack, Failed) for lack in lacks) else NotApplicable
    site.lacks[Need.BODY] = site.lacks[Need.CHUNKS] = kind(why="; ".join(lack.why for lack in lacks))


async def _no_body(site: Site, what: str, path: str, field: str, body: bytes) -> Failed | NotApplicable | None:
    """Say why the server does not wait for this body, if it does not."""
    try:
        early = await _early_answer(site, site.post(field, path=path), body)
    except TROUBLE as error:
        return NotApplicable(why=f"{what}: {describe(error)}")
    if early is None:
        return None
    return (Failed if early in TURNED_AWAY else NotApplicable)(why=f"{what} is answered {early} before the body")


async def _early_answer(site: Site, head: bytes, body: bytes) -> int | None:
    async with site.dial() as line:
        talk = Exchange(line)
        await line.send(head)
        with trio.move_on_after(PROMPT_SECONDS + site.usual_seconds):
            return (await talk.begin()).status
        with trio.fail_after(ANSWER_SECONDS):  # an answer now proves that it waited for the body
            await line.send(body)
            await talk.begin()
        return None


async def _poll(site: Site) -> None:
    """Send a long-poll that asks to be held for a second, while nothing else keeps the server busy."""
    path, begun = site.options.poll_path, trio.current_time()
    answer = await tried(partial(site.ask, site.get(path.replace(WAIT, f"{PROMPT_SECONDS:g}"))))
    if not isinstance(answer, Answer):
        site.lacks[Need.POLL] = answer
    elif answer.status >= 400 or trio.current_time() - begun < PROMPT_SECONDS / 2 + site.usual_seconds:
        site.lacks[Need.POLL] = NotApplicable(why=f"GET {path} is answered {answer.status} at once")


async def _websocket(site: Site) -> None:
    lack: Finding
    try:
        async with join(site):
            return
    except TurnedAwayError as error:
        lack = Failed(why=f"an upgrade at {site.options.ws_path} is {error}")
    except NotServedError as error:
        lack = NotApplicable(why=str(error))
    except TROUBLE as error:
        lack = NotApplicable(why=f"an upgrade at {site.options.ws_path}: {describe(error)}")
    site.lacks[Need.WEBSOCKET] = lack


def _choose(site: Site, plain: Answer) -> None:
    """Choose a request that the server takes as the plain request."""
    path = site.options.path
    server = plain.fields.get("server")
    site.notes.append(f"GET {path} is answered {plain.status}" + (f" by {server}" if server else ""))
    site.plain_status = plain.status
    if plain.closes:
        site.lacks[Need.KEEPALIVE] = NotApplicable(why=f"the connection is closed after GET {path}")
    if plain.status >= 400 and Need.WEBSOCKET not in site.lacks:
        # one error looks like another, so the upgrade, which this server accepts, becomes the plain request
        site.plain_status, site.plain_path, site.plain_fields = 101, site.options.ws_path, UPGRADE_FIELDS
        site.lacks.setdefault(Need.KEEPALIVE, NotApplicable(why=f"GET {path} is answered {plain.status}"))
