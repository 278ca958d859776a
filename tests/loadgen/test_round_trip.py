"""The distance to a target, by which the bar for its answers is put further."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
import trio

from loadgen import target
from tests.loadgen.stage import PATIENCE, Server, listening


async def test_a_get_that_is_never_answered_is_no_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of WebSockets alone seemed five seconds away, and so an echo after two seconds was on time."""
    monkeypatch.setattr(target, "PROBE_SECONDS", 1.0)
    async with listening() as server:
        page = await trio.to_thread.run_sync(target.fetch, target.find(server.url), "/")
    assert page.status is None
    assert 0 < page.seconds < 1.0


async def test_a_page_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers everything with an event stream held up the reading of its /metrics for ever."""
    monkeypatch.setattr(target, "PROBE_SECONDS", 0.3)

    async def drip(server: Server) -> None:
        stream = await server.accept()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b": ping\n\n")
                await trio.sleep(0.05)

    async with listening() as server, trio.open_nursery() as nursery:
        nursery.start_soon(drip, server)
        fetch = partial(target.fetch, target.find(server.url), "/metrics", most_bytes=1_000_000)
        with trio.fail_after(PATIENCE):
            page = await trio.to_thread.run_sync(fetch, abandon_on_cancel=True)
    assert page.status is None
    assert page.error == "the page has no end"


async def test_the_fields_of_requests_are_sent() -> None:
    async with listening() as server, trio.open_nursery() as nursery:
        fetch = partial(target.fetch, target.find(server.url), "/x", ("Cookie: a=1",))
        nursery.start_soon(trio.to_thread.run_sync, fetch)
        stream = await server.accept()
        head = bytes(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert head.startswith(b"GET /x HTTP/1.1\r\n")
    assert b"\r\nCookie: a=1\r\n" in head
