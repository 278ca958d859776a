"""What all unfinished bodies keep: counted as it comes, given back however an upload ends."""

import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from chatserver.api.request import Request
from chatserver.api.session import Session
from chatserver.edge import intake as intake_module
from chatserver.edge.exchange import Upload
from chatserver.edge.uploads import SMALL, Uploads
from chatserver.protocol.errors import HttpError
from chatserver.protocol.http import LengthBody
from chatserver.reasons import ErrorCode, Reason
from tests.support.peers import Peer, connect, request
from tests.support.serving import Serving, eventually, serving

HEAD = b"head"
OPENING = request("POST", "/rooms/lobby/messages", headers={"Content-Length": "30000"})


def upload(uploads: Uploads, size: int) -> Upload:
    one = Upload(HEAD, LengthBody(60_000), 0)
    more(uploads, one, size)
    return one


def more(uploads: Uploads, one: Upload, size: int) -> None:
    one.body.receive(b"x" * size)
    uploads.grown(one)


def test_what_is_kept_is_counted_once_and_given_back_once() -> None:
    uploads = Uploads(100_000)
    one, other = upload(uploads, 100), upload(uploads, 0)
    more(uploads, one, 50)
    assert uploads.used == 150 + 2 * len(HEAD)
    uploads.gone(one)
    uploads.gone(one)
    assert uploads.used == len(HEAD)
    uploads.gone(other)
    assert uploads.used == 0


def test_over_the_bound_whoever_sends_more_is_refused_until_somebody_is_gone() -> None:
    uploads = Uploads(10_000)
    one, other = upload(uploads, 5000), upload(uploads, 4000)
    with pytest.raises(HttpError) as caught:
        more(uploads, other, 3000)
    assert (caught.value.code, caught.value.reason) == (ErrorCode.UNAVAILABLE, Reason.BODIES_FULL)
    assert dict(caught.value.headers)["Retry-After"].isdecimal()
    uploads.gone(other)
    more(uploads, one, 4000)


def test_a_small_one_may_come_whole_whatever_the_others_keep() -> None:
    uploads = Uploads(10_000)
    upload(uploads, 9990)
    small = upload(uploads, SMALL - len(HEAD))
    with pytest.raises(HttpError):
        more(uploads, small, 1)


# -- every way in which one ends ------------------------------------------------------------------------------------


async def whole(server: Serving, peer: Peer) -> None:
    await peer.send(b"x" * 29_000)
    assert (await peer.response()).status == 400  # longer than a message may be


async def refused(server: Serving, peer: Peer) -> None:
    server.server.parts.http.intake.uploads._most = 0
    await peer.send(b"x" * SMALL)
    answer = await peer.response()
    assert (answer.status, answer.error) == (503, "unavailable")
    await server.counted("bodies-full")


async def fin(server: Serving, peer: Peer) -> None:
    await peer.end()
    await server.counted("peer-closed")


async def reset(server: Serving, peer: Peer) -> None:
    peer.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.stream.aclose()
    await server.counted("peer-reset")


async def late(server: Serving, peer: Peer) -> None:
    assert (await peer.response()).status == 408


async def evicted(server: Serving, peer: Peer) -> None:
    parts = server.server.parts
    for connection in filter(None, list(parts.connections.table)):
        parts.connections.close(connection, Reason.EVICTED)
    assert not await peer.rest()


async def cut_short(server: Serving, peer: Peer) -> None:
    parts = server.server.parts
    for connection in filter(None, list(parts.connections.table)):
        parts.http.cut_short(connection)
    assert (await peer.response()).error == "draining"


@pytest.mark.parametrize("end", [whole, refused, fin, reset, late, evicted, cut_short])
async def test_its_count_ends_with_it(end: Callable[[Serving, Peer], Awaitable[None]]) -> None:
    limits: dict[str, Any] = {"body_deadline": 1.0, "body_deadline_max": 1.0} if end is late else {}
    async with serving(**limits) as server, connect(server.address) as peer:
        uploads = server.server.parts.http.intake.uploads

        async def counted() -> bool:
            return uploads.used == len(OPENING) + 1000

        await peer.send(OPENING + b"x" * 1000)
        await eventually(counted)
        await end(server, peer)
        assert uploads.used == 0


async def test_its_count_ends_with_it_in_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(faults=1) as server, connect(server.address) as peer:
        intake = server.server.parts.http.intake

        async def counted() -> bool:
            return intake.uploads.used > 0

        def fail(head: bytes, limits: object) -> None:
            raise RuntimeError("planted")

        await peer.send(OPENING)
        await eventually(counted)
        monkeypatch.setattr(intake_module, "parse_head", fail)
        await peer.send(b"x" * 30_000)
        assert (await peer.response()).status == 500
        assert intake.uploads.used == 0


async def test_nothing_of_a_body_is_kept_while_its_request_waits_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GET may have one. Whole, it is not counted any more, so it must be gone: a silent disk answers after 5 s."""
    async with serving() as server, connect(server.address) as peer:
        parts = server.server.parts
        handled: list[Request] = []
        handle = parts.http._routes.handle

        def remembering(request: Request) -> Any:
            handled.append(request)
            return handle(request)

        async def never(room: str) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(parts.http._routes, "handle", remembering)
        monkeypatch.setattr(parts.log, "head", never)
        await peer.send(request("GET", "/rooms/lobby", b"x" * 60_000))
        await server.in_phase("serving")
        assert [each.body for each in handled if each.head.path == "/rooms/lobby"] == [b""]


def test_a_message_counts_beside_the_bodies() -> None:
    uploads = Uploads(10_000)
    one, session = upload(uploads, 5000), Session(object(), 1)
    assert uploads.fits(session, 4000)
    assert not uploads.fits(session, 6000)
    assert uploads.fits(session, SMALL), "a small one may stay, whatever the others keep"
    with pytest.raises(HttpError):
        more(uploads, one, 5000)
    uploads.gone(session)
    uploads.gone(one)
    assert uploads.used == 0
