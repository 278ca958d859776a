"""What a server serves, found out before it is probed.

Owns: the first seconds: does it answer at all, and a second client beside a silent one; where does it wait for a body;
does it speak WebSocket. What is missing is noted with the reason, and the probes that need it are not played.
"""

from dataclasses import dataclass, field
from typing import Final

import trio

from loadgen.fingerprint.exchange import Answer, Field, GarbledError, exchange
from loadgen.fingerprint.line import EndedError
from loadgen.fingerprint.member import NotServedError, join, upgrade_fields
from loadgen.fingerprint.site import ANSWER_SECONDS, PATH, Need, Site, Survey

#: What can become of a connection, apart from what one hoped for.
TROUBLE: Final = (OSError, trio.TooSlowError, trio.BrokenResourceError, EndedError, GarbledError)

#: A body that no server takes for a message of a chat, at any size: an answer, but no entry in a log.
BODY_TYPE: Final = ("Content-Type", "application/json")
BODY_BEGIN: Final = b"{"

_SMALL_BODY: Final = BODY_BEGIN + b" " * 15


@dataclass
class _Notebook:
    lacks: dict[Need, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    plain: Answer | None = None
    body_path: str = PATH
    websocket: bool = False


async def survey(site: Site) -> Survey:
    """Look around."""
    book = _Notebook()
    if not site.target.tls:
        book.lacks[Need.TLS] = "the target is plain http"
    if not site.options.connections:
        book.lacks[Need.CROWD] = "left alone, as asked for"
    await _plain(site, book)
    if Need.HTTP not in book.lacks:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_body, site, book)
            nursery.start_soon(_websocket, site, book)
    return _survey(site, book)


async def _plain(site: Site, book: _Notebook) -> None:
    """Ask for something plain, beside a connection that says nothing."""
    path = site.options.path
    trouble = await _ask_beside_a_silent_one(site, book)
    if trouble is None:
        return
    try:
        await ask(site, path)
    except TROUBLE:
        reason = f"GET {path} is not answered: {trouble}"
    else:
        reason = "it serves one connection at a time: slow probes beside each other would measure its queue"
        book.notes.append("one silent connection stops the server for everybody else")
    for need in set(Need) - {Need.NOTHING, Need.TLS}:
        book.lacks.setdefault(need, reason)


async def _ask_beside_a_silent_one(site: Site, book: _Notebook) -> str | None:
    try:
        async with site.dial():
            book.plain = await ask(site, site.options.path)
    except TROUBLE as error:
        return word(error)
    return None


async def ask(site: Site, path: str) -> Answer:
    """One plain request on a new connection."""
    with trio.fail_after(ANSWER_SECONDS):
        async with site.dial() as line:
            talk = site.exchange()
            return await exchange(line, talk, [talk.request("GET", path)])


async def _body(site: Site, book: _Notebook) -> None:
    """Find a path where a body is waited for: nothing is answered until it is there."""
    told = []
    for path in dict.fromkeys((site.options.post_path, site.options.path)):
        try:
            early = await _early_answer(site, path)
        except TROUBLE as error:
            told.append(f"POST {path}: {word(error)}")
            continue
        if early is None:
            book.body_path = path
            return
        told.append(f"POST {path} is answered {early} before the body")
    book.lacks[Need.BODY] = "; ".join(told)


async def _early_answer(site: Site, path: str) -> int | None:
    async with site.dial() as line:
        talk = site.exchange()
        head = talk.request("POST", path, [BODY_TYPE, ("Content-Length", str(len(_SMALL_BODY)))])
        await line.send(head)
        with trio.move_on_after(site.options.prompt):
            return (await talk.begin(line)).status
        with trio.fail_after(ANSWER_SECONDS):  # and it must be the body that it waited for
            await line.send(_SMALL_BODY)
            await talk.begin(line)
        return None


async def _websocket(site: Site, book: _Notebook) -> None:
    try:
        async with join(site):
            book.websocket = True
    except NotServedError as error:
        book.lacks[Need.WEBSOCKET] = str(error)
    except TROUBLE as error:
        book.lacks[Need.WEBSOCKET] = f"an upgrade at {site.options.websocket_path}: {word(error)}"


def _survey(site: Site, book: _Notebook) -> Survey:
    plain, path = book.plain, site.options.path
    status, fields = 0, tuple[Field, ...]()
    if plain is not None:
        status = plain.status
        server = plain.fields.get("server")
        book.notes.insert(0, f"GET {path} is answered {plain.status}" + (f" by {server}" if server else ""))
        if plain.closes:
            book.lacks[Need.KEEPALIVE] = f"the connection is closed after GET {path}"
    if book.websocket and plain is not None and plain.status >= 400:
        # an error cannot be told from another; the upgrade is what this server says yes to
        status, path, fields = 101, site.options.websocket_path, upgrade_fields()
        book.lacks.setdefault(Need.KEEPALIVE, f"GET {site.options.path} is answered {plain.status}")
    return Survey(
        lacks=book.lacks,
        plain_status=status,
        plain_path=path,
        plain_fields=fields,
        body_path=book.body_path,
        notes=tuple(book.notes),
    )


def word(error: BaseException) -> str:
    """What became of a connection, in words."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, trio.BrokenResourceError):
        return f"TLS failed: {error.__cause__ or error}"
    return str(error) or type(error).__name__
