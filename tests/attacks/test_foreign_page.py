"""Pages of other sites, and host names that are not the server's: requests over real sockets as browsers send them.

A healthy neighbour chats meanwhile. Which pages are foreign: tests/api/test_origins.py. The same with browsers:
tests/e2e/test_foreign_page.py.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from tests.support.certificates import certificate
from tests.support.peers import Answer, connect, open_websocket, publish, request, upgrade
from tests.support.serving import eventually, neighbour, serving

pytestmark = pytest.mark.jumping_clock

APP = "https://app.example"
EVIL = "https://evil.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
COOKIE = {"Cookie": "chat_session=6yPoxpIU0Ksgu5-dyGM36w"}
NAVIGATION = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

#: Headers that a browser sends for a page of another site.
FOREIGN: dict[str, Mapping[str, str]] = {
    "another site": {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
    "an old browser": {"Origin": EVIL},
    "another port": {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"},
    "a sandboxed frame": {"Origin": "null"},
    "no cors": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a sibling": {"Sec-Fetch-Site": "same-site"},
}

#: Requests that no page of another site may make.
MISDEEDS: dict[str, bytes] = {
    "text": request("POST", "/rooms/lobby/messages", b"hi", headers={"Content-Type": "text/plain"}),
    "a form": request("POST", "/rooms/lobby/messages", b"hi", headers=FORM),
    "no type": request("POST", "/rooms/lobby/messages", b"hi"),
    "json": request("POST", "/rooms/lobby/messages", {"text": "hi"}),
    "put": request("PUT", "/rooms/lobby/read", b"{}"),
    "patch": request("PATCH", "/rooms/lobby/messages/1", b"{}"),
    "delete": request("DELETE", "/rooms/lobby/messages/1"),
    "preflight": request("OPTIONS", "/rooms/lobby/messages", headers={"Access-Control-Request-Method": "POST"}),
    "socket": upgrade("/ws"),
    "echo": upgrade("/echo"),
    "events": request("GET", "/rooms/lobby/events"),
    "events of a room nobody was in": request("GET", "/rooms/new/events"),
    "held poll": request("GET", "/rooms/lobby/messages?wait=30"),
    "held poll of a room nobody was in": request("GET", "/rooms/new/messages?wait=30"),
    "poll of many": request("GET", "/poll?room=lobby&room=new&wait=30"),
    "history with a cookie": request("GET", "/rooms/lobby/messages", headers=COOKIE),
    "history with a password": request("GET", "/rooms/lobby/messages", headers={"Authorization": "Basic eDp4"}),
    "rooms with a cookie": request("GET", "/rooms", headers=COOKIE),
}  # fmt: skip


def of(page: Mapping[str, str], wire: bytes) -> bytes:
    """The same request, sent by a page."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in page.items())
    return wire.replace(b"\r\n", f"\r\n{fields}".encode(), 1)


def unreadable(answer: Answer) -> bool:
    """Whether a browser hides the answer from the page."""
    return not any(name.startswith("access-control-") for name in answer.headers)


async def test_a_foreign_page_opens_and_changes_nothing() -> None:
    async with (
        serving(echo=True, allow_origin=(APP,)) as server, neighbour(server), connect(server.address) as peer,
    ):  # fmt: skip
        await publish(server.address, "lobby", "first")
        for page, fields in FOREIGN.items():
            for name, wire in MISDEEDS.items():
                await peer.send(of(fields, wire))
                answer = await peer.response()
                assert (answer.status, answer.error) == (403, "forbidden"), (page, name)
                assert unreadable(answer), (page, name)
                assert answer.headers["vary"] == "Origin", (page, name)
                assert answer.headers["cache-control"] == "no-store", "a cache gives it to no other page"
        assert (await peer.request("GET", "/healthz")).status == 200, "the connection goes on"
        [message] = (await peer.request("GET", "/rooms/lobby/messages")).json["messages"]
        assert message["text"] == "first"
        listed = (await peer.request("GET", "/rooms")).json["rooms"]
        assert {room["room"]: room["members"] for room in listed} == {"lobby": 0, "neighbours": 1}, "no room, no member"


async def test_a_foreign_page_reads_public_answers_without_the_user() -> None:
    """A link from another site does not replace a guest's session."""
    async with serving() as server, connect(server.address) as peer:
        await publish(server.address, "lobby", "first")
        for page in FOREIGN.values():
            for path in ("/", "/chat.js", "/healthz", "/readyz", "/metrics", "/rooms", "/rooms/lobby/messages"):
                answer = await peer.request("GET", path, headers=page)
                assert (answer.status, unreadable(answer)) == (200, True), path
        for more in ({}, COOKIE):
            answer = await peer.request("GET", "/", headers={**NAVIGATION, **more})
            assert (answer.status, "set-cookie" in answer.headers) == (200, not more)


async def test_our_page_is_ours_and_its_http_origin_is_foreign_under_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    own = {"Origin": "https://localhost", "Sec-Fetch-Site": "same-origin", **COOKIE}
    async with serving(tls_cert=cert, tls_key=key) as server, connect(server.address) as peer:
        posted = await peer.request("POST", "/rooms/lobby/messages", b"hi", headers=own)
        assert (posted.status, unreadable(posted)) == (201, True)
        assert (await peer.request("GET", "/rooms/lobby/messages?wait=1", headers=own)).status == 200
        over_http = {**own, "Origin": "http://localhost"}
        assert (await peer.request("POST", "/rooms/lobby/messages", b"hi", headers=over_http)).status == 403
        await open_websocket(peer, headers=own)


# -- allowed origins --------------------------------------------------------------------------------------------------

PAGE = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}


def check_readable(answer: Answer) -> None:
    """The answer allows the page to read it."""
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert answer.headers["vary"] == "Origin"


REQUESTS = [
    ("GET", "/", b"", 200),
    ("HEAD", "/rooms", b"", 200),
    ("GET", "/rooms/tea/messages?wait=0.2&after=0", b"", 200),
    ("GET", "/rooms/lobby/messages?limit=none", b"", 400),
    ("POST", "/rooms/lobby/messages", b"hi", 201),
    ("POST", "/rooms/lobby/messages", b"\0", 400),
    ("POST", "/rooms", b"hi", 405),
    ("GET", "/nothing", b"", 404),
]


async def test_an_allowed_page_reads_every_answer() -> None:
    async with serving(allow_origin=(APP,)) as server, connect(server.address) as peer:
        for method, path, body, status in REQUESTS:
            answer = await peer.request(method, path, body, headers=PAGE)
            assert answer.status == status, (method, path)
            check_readable(answer)
            own = await peer.request(method, path, body)
            assert unreadable(own), "the next request on this connection is of another page"
        friend = await open_websocket(peer, headers=PAGE)
        assert (await friend.ask("publish", room="lobby", text="hi"))["type"] == "ack"


@pytest.mark.parametrize(
    ("path", "phase"),
    [
        ("/rooms/lobby/messages?after=0&wait=30", "held"),
        ("/poll?room=lobby:0&room=tea:0&wait=30", "held"),
        ("/rooms/lobby/events", "stream"),
    ],
)
async def test_an_allowed_page_and_ours_share_only_the_news(path: str, phase: str) -> None:
    async with (
        serving(allow_origin=(APP,)) as server, connect(server.address) as theirs, connect(server.address) as ours,
    ):  # fmt: skip
        await theirs.send(request("GET", path, headers=PAGE))
        await ours.send(request("GET", path))
        await server.in_phase(phase, 2)
        await publish(server.address, "lobby", "news")
        check_readable(await theirs.head())
        assert unreadable(await ours.head())
        for each in (theirs, ours):
            await each.until(b'"news"')


@pytest.mark.parametrize("place", ["a request", "behind a wait", "a held poll"])
async def test_an_allowed_page_reads_an_error_of_the_servers_own(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail_later(*_: object) -> None:
        raise ZeroDivisionError("planted")

    def fail(*_: object) -> None:
        raise ZeroDivisionError("planted")

    async with serving(allow_origin=(APP,), faults=1) as server, connect(server.address) as peer:
        parts = server.server.parts
        if place == "a request":
            monkeypatch.setattr(parts.exchanges._routes, "handle", fail)
        elif place == "behind a wait":
            monkeypatch.setattr(parts.log, "head", fail_later)
        else:
            monkeypatch.setattr(parts.exchanges._routes.polls, "answer_held", fail)
        path = "/rooms/lobby/messages?after=0&wait=1" if place == "a held poll" else "/rooms/lobby"
        answer = await peer.request("GET", path, headers=PAGE)
        assert answer.status == 500
        check_readable(answer)


@pytest.mark.parametrize("sent", ["", "Content-Length: 100\r\n\r\nhi"], ids=["head", "body"])
async def test_an_allowed_page_reads_that_its_request_was_evicted(sent: str) -> None:
    options = {"total": 1, "evict_after": 1.0, "head_deadline": 30.0, "body_deadline": 30.0}
    async with serving(allow_origin=(APP,), **options) as server, connect(server.address) as slow:  # type: ignore[arg-type]
        await slow.send(START + sent.encode())
        await trio.sleep(5.0)
        async with connect(server.address, source="127.0.0.3"):
            answer = await slow.response()
        assert (answer.status, answer.error) == (503, "full")
        check_readable(answer)


START = f"POST /rooms/lobby/messages HTTP/1.1\r\nHost: localhost\r\nOrigin: {APP}\r\n".encode()
LONG = b"long" * 1024


async def test_an_allowed_page_reads_why_its_head_or_body_is_refused() -> None:
    async with serving(allow_origin=(APP,), head_deadline=0.5, body_deadline=0.5) as server:
        for wire, status in (
            (b"Expect: something\r\n\r\n", 417),
            (b"Transfer-Encoding: gzip\r\n\r\n", 501),
            (b"Host: twice\r\n\r\n", 400),
            (b"X: " + LONG * 4, 431),
            (b"X: slow", 408),
            (b"Content-Length: 99999\r\n\r\n", 413),
            (b"Transfer-Encoding: chunked\r\n\r\n99999\r\n", 413),
            (b"Transfer-Encoding: chunked\r\n\r\n2\r\nno chunk", 400),
            (b"Content-Length: 9\r\n\r\nslow", 408),
        ):
            async with connect(server.address) as peer:
                await peer.send(START + wire)
                answer = await peer.response()
                assert answer.status == status, wire[:60]
                check_readable(answer)


@pytest.mark.parametrize("wire", [b"X: " + LONG, b"Content-Length: 9999\r\n\r\n" + LONG], ids=["head", "body"])
async def test_an_allowed_page_reads_when_to_send_again_what_a_drain_cut_short(wire: bytes) -> None:
    async with serving(allow_origin=(APP,)) as server, connect(server.address) as peer:
        await peer.send(START + wire)
        connections, farewell = server.server.parts.connections, server.server.parts.farewell
        await eventually(lambda: connections.input_budget.used > 0)
        for connection in filter(None, connections.table):
            connections.step(connection, farewell.cut_short)
        answer = await peer.response()
        assert (answer.status, answer.error) == (503, "draining")
        check_readable(answer)


async def test_preflights_are_for_allowed_pages_and_existing_paths() -> None:
    """One that was refused for the room's name kept the name of the error from the page, which tried for ever."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with serving(allow_origin=(APP,)) as server, connect(server.address) as peer:
        for path, methods in {
            "/rooms/lobby/messages": "GET, HEAD, POST",
            "/rooms/No%20Room/messages": "GET, HEAD, POST",
            "/ws": "GET",
        }.items():
            await peer.send(request("OPTIONS", path, headers={**PAGE, **asked}))
            answer = await peer.head()
            assert (answer.status, "content-length" in answer.headers) == (204, False)
            check_readable(answer)
            assert sorted(answer.headers["access-control-allow-methods"].split(", ")) == methods.split(", ")
            assert "Content-Type" in answer.headers["access-control-allow-headers"]
            assert int(answer.headers["access-control-max-age"]) > 0
        for path, origin, status in (
            ("/nothing", APP, 404),
            ("/rooms", EVIL, 403),
            ("/rooms", "http://localhost", 405),
        ):
            other = await peer.request("OPTIONS", path, headers={"Origin": origin, **asked})
            assert (other.status, unreadable(other)) == (status, origin != APP), origin


# -- names ------------------------------------------------------------------------------------------------------------


async def test_a_rebound_name_is_refused() -> None:
    """DNS rebinding: for the browser the page and the server are one site."""
    origin = {"Origin": "http://evil.example:8000"}
    async with serving(echo=True) as server, neighbour(server), connect(server.address) as peer:
        for name, wire in {**MISDEEDS, "health": request("GET", "/healthz"), "page": request("GET", "/")}.items():
            await peer.send(of(origin, wire.replace(b"localhost", b"evil.example:8000", 1)))
            answer = await peer.response()
            assert (answer.status, answer.error) == (421, "misdirected"), name
        elsewhere = await peer.request("GET", "http://evil.example/rooms")
        assert elsewhere.status == 421, "the target's name replaces Host"
        assert (await peer.request("GET", "/rooms/lobby/messages")).json["messages"] == [], "the connection goes on"
