"""Requests that several test modules make, and a log that delays its answers."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from tests.support.peers import Peer, request

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
JSON = {"Content-Type": "application/json"}


def cookie(token: str) -> dict[str, str]:
    """The header field of a browser with this token."""
    return {"Cookie": f"theme=dark; chat_session={token}"}


def texts(page: Any) -> list[str]:
    """The texts of the messages on a page."""
    return [message["text"] for message in page["messages"]]


def hold_back(monkeypatch: pytest.MonkeyPatch, place: object, *names: str) -> trio.Event:
    """Make these methods wait until the event that is returned is set."""
    event = trio.Event()

    def held(method: Any) -> Any:
        async def call(*arguments: Any, **options: Any) -> Any:
            await event.wait()
            return await method(*arguments, **options)

        return call

    for name in names:
        monkeypatch.setattr(place, name, held(getattr(place, name)))
    return event


async def open_stream(
    peer: Peer, query: str = "", *, last_id: str | None = None, headers: Mapping[str, str] | None = None
) -> None:
    fields = {**(headers or {}), **({} if last_id is None else {"Last-Event-ID": last_id})}
    await peer.send(request("GET", f"/rooms/lobby/events{query}", headers=fields))
    head = await peer.head()
    assert head.status == 200
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert head.headers["cache-control"] == "no-store, no-transform"
    assert head.headers["x-content-type-options"] == "nosniff"
    assert await peer.until(b"\n") == b"retry: 2000\n"


async def event(peer: Peer, *kinds: str) -> dict[str, str]:
    """The next event of these kinds; without kinds, the next of any kind but presence, which comes at any time."""
    while True:
        lines = (await peer.until(b"\n\n")).decode().strip().split("\n")
        found = dict(line.split(": ", 1) for line in lines)
        if found["event"] in kinds if kinds else found["event"] != "presence":
            return found
