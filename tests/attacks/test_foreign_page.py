"""Pages of other sites, and names that lead here without being ours: over real sockets, as a browser would send it.

A healthy neighbour chats meanwhile. Which page is foreign is decided in tests/api/test_origins.py, browsers themselves
are asked in tests/e2e/test_foreign_page.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.support.certificates import certificate, trusting_any
from tests.support.peers import Address, Answer, ask, chatter, connect, open_websocket, publish, request, upgrade
from tests.support.serving import Serving, eventually, neighbour, serving

pytestmark = pytest.mark.jumping_clock

APP = "https://app.example"
EVIL = "https://evil.example"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
COOKIE = {"Cookie": "chat_session=6yPoxpIU0Ksgu5-dyGM36w"}
NAVIGATION = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

#: What a browser says of a page that is not ours.
FOREIGN: dict[str, Mapping[str, str]] = {
    "another site": {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
    "an old browser": {"Origin": EVIL},
    "another port": {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"},
    "a sandboxed frame": {"Origin": "null"},
    "no cors": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a sibling": {"Sec-Fetch-Site": "same-site"},
}

#: What it may not do, whatever the page.
MISDEEDS: dict[str, bytes] = {
    "text": request("POST", "/rooms/lobby/messages", b"hi", headers={"Content-Type": "text/plain"}),
    "a form": request("POST", "/rooms/lobby/messages", b"hi", headers=FORM),
    "no type": request("POST", "/rooms/lobby/messages", b"hi"),
    "json": request("POST", "/rooms/lobby/messages", b'{"text":"hi"}', headers=JSON),
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


async def said(server: Serving, room: str = "lobby") -> list[str]:
    history = (await ask(server.address, "GET", f"/rooms/{room}/messages")).json
    return [message["text"] for message in history["messages"]]


async def counted_members(server: Serving, room: str) -> int:
    count: int = (await ask(server.address, "GET", f"/rooms/{room}/members")).json["count"]
    return count


def unreadable(answer: Answer) -> bool:
    """Whether a browser keeps it from the page."""
    return not any(name.startswith("access-control-") for name in answer.headers)


async def test_it_opens_nothing_and_changes_nothing() -> None:
    async with serving(echo=True) as server, neighbour(server), connect(server.address) as peer:
        await publish(server.address, "lobby", "first")
        for page, fields in FOREIGN.items():
            for name, wire in MISDEEDS.items():
                await peer.send(of(fields, wire))
                answer = await peer.response()
                assert (answer.status, answer.error) == (403, "forbidden"), (page, name)
                assert unreadable(answer), (page, name)
                assert answer.headers["vary"] == "Origin", (page, name)
        assert (await peer.request("GET", "/healthz")).status == 200, "the connection lives"
        assert await said(server) == ["first"]
        assert await counted_members(server, "lobby") == await counted_members(server, "new") == 0


async def test_what_is_public_can_be_asked_for_as_nobody() -> None:
    async with serving() as server, connect(server.address) as peer:
        await publish(server.address, "lobby", "first")
        for page in FOREIGN.values():
            for path in ("/", "/chat.js", "/healthz", "/readyz", "/metrics", "/rooms", "/rooms/lobby/messages"):
                answer = await peer.request("GET", path, headers=page)
                assert answer.status == 200, path
                assert unreadable(answer), path


async def test_a_link_elsewhere_leads_here() -> None:
    """Following it costs nobody the name he had."""
    async with serving() as server, connect(server.address) as peer:
        for more in ({}, COOKIE):
            page = await peer.request("GET", "/", headers={**NAVIGATION, **more})
            assert page.status == 200
            assert ("set-cookie" in page.headers) is not bool(more)
            assert (await peer.request("GET", "/chat.css", headers={**NAVIGATION, **more})).status == 200


async def test_programs_and_our_own_page_pass() -> None:
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin", **COOKIE}
    for headers in ({"User-Agent": "curl/8"}, own):
        async with serving() as server, connect(server.address) as peer:
            posted = await peer.request("POST", "/rooms/lobby/messages", b"hi", headers=headers)
            assert (posted.status, unreadable(posted)) == (201, True)
            read = await peer.request("GET", "/rooms/lobby/messages?wait=1", headers=headers)
            assert (read.status, unreadable(read)) == (200, True)
            await open_websocket(peer, headers=headers)


async def test_a_page_that_came_over_http_is_not_our_own_under_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    async with serving(tls_cert=cert, tls_key=key) as server:
        address = replace(server.address, tls=trusting_any())
        for origin, status in (("https://localhost", 201), ("http://localhost", 403)):
            answer = await ask(address, "POST", "/rooms/lobby/messages", b"hi", headers={"Origin": origin})
            assert answer.status == status, origin


# -- allowed origins --------------------------------------------------------------------------------------------------

PAGE = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}


def check_readable(answer: Answer) -> None:
    """A browser gives it to the allowed page."""
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert answer.headers["vary"] == "Origin"


REQUESTS = [
    ("GET", "/", b"", 200),
    ("GET", "/rooms", b"", 200),
    ("HEAD", "/rooms", b"", 200),
    ("GET", "/rooms/lobby/messages", b"", 200),
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
            assert unreadable(own), "the next request on this connection is not that page's"


@pytest.mark.parametrize("poll", ["/rooms/lobby/messages?after=0&wait=30", "/poll?room=lobby:0&room=tea:0&wait=30"])
async def test_a_poll_of_an_allowed_page_and_one_of_our_own_share_nothing_but_the_news(poll: str) -> None:
    async with (
        serving(allow_origin=(APP,)) as server, connect(server.address) as theirs, connect(server.address) as ours,
    ):  # fmt: skip
        await theirs.send(request("GET", poll, headers=PAGE))
        await ours.send(request("GET", poll))
        await server.in_phase("held", 2)
        await publish(server.address, "lobby", "news")
        answer, own = await theirs.response(), await ours.response()
        check_readable(answer)
        assert unreadable(own)
        assert answer.json == own.json
        assert b"news" in answer.body
        assert unreadable(await theirs.request("GET", "/rooms")), "it is over with that answer"


async def test_events_of_an_allowed_page() -> None:
    async with serving(allow_origin=(APP,)) as server, connect(server.address) as peer, connect(server.address) as curl:
        await peer.send(request("GET", "/rooms/lobby/events", headers=PAGE))
        check_readable(await peer.head())
        await curl.send(request("GET", "/rooms/lobby/events"))
        assert unreadable(await curl.head())
        await publish(server.address, "lobby", "news")
        for each in (peer, curl):
            assert b"news" in await each.until(b'"news"')


async def test_the_websocket_of_an_allowed_page() -> None:
    async with serving(allow_origin=(APP,)) as server, chatter(server.address, headers=PAGE) as friend:
        assert (await friend.ask("publish", room="lobby", text="hi"))["type"] == "ack"


async def test_preflights_are_for_allowed_pages_and_paths_that_there_are() -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    paths = {"/rooms/lobby/messages": "GET HEAD POST", "/rooms": "GET HEAD", "/ws": "GET", "/": "GET HEAD"}
    async with serving(allow_origin=(APP,)) as server, connect(server.address) as peer:
        for path, methods in paths.items():
            await peer.send(request("OPTIONS", path, headers={**PAGE, **asked}))
            answer = await peer.head()
            assert answer.status == 204
            assert "content-length" not in answer.headers
            check_readable(answer)
            assert set(answer.headers["access-control-allow-methods"].split(", ")) == set(methods.split())
            assert "Content-Type" in answer.headers["access-control-allow-headers"]
            assert int(answer.headers["access-control-max-age"]) > 0
            for headers in (asked, {"Origin": EVIL, **asked}, {"Origin": "http://localhost", **asked}):
                other = await peer.request("OPTIONS", path, headers=headers)
                assert other.status in (403, 405), headers
                assert unreadable(other), headers
        nowhere = await peer.request("OPTIONS", "/nothing", headers={**PAGE, **asked})
        assert (nowhere.status, nowhere.error) == (404, "not_found")


async def test_the_list_is_for_whole_origins() -> None:
    async with serving(allow_origin=(APP, "http://localhost:3000")) as server, connect(server.address) as peer:
        for origin in ("http://app.example", f"{APP}:8443", f"{APP}.evil.example", "null", "http://localhost:3001"):
            answer = await peer.request("POST", "/rooms/lobby/messages", b"hi", headers={"Origin": origin})
            assert (answer.status, answer.error) == (403, "forbidden"), origin
            assert unreadable(answer), origin


# -- names ------------------------------------------------------------------------------------------------------------


async def test_a_name_that_was_made_to_lead_here_gets_nothing() -> None:
    """DNS rebinding: the page's own origin is that name, so that to the browser all of this is one site."""
    rebound = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000", "Sec-Fetch-Site": "same-origin"}
    async with serving(echo=True) as server, neighbour(server), connect(server.address) as peer:
        for name, wire in {**MISDEEDS, "health": request("GET", "/healthz"), "page": request("GET", "/")}.items():
            await peer.send(of({"Origin": rebound["Origin"]}, wire.replace(b"localhost", b"evil.example:8000", 1)))
            answer = await peer.response()
            assert (answer.status, answer.error) == (421, "misdirected"), name
        elsewhere = await peer.request("GET", "http://evil.example/rooms")
        assert elsewhere.status == 421, "the target's name replaces Host"
        assert (await peer.request("GET", "/healthz")).status == 200, "the connection lives"
        assert await said(server) == []


async def test_a_health_check_by_address_works_with_defaults() -> None:
    async with serving(allow_host=()) as server:
        host, port = server.address.host, server.address.port
        for name in (f"{host}:{port}", host, f"localhost:{port}", "localhost"):
            assert (await ask(server.address, "GET", "/healthz", headers={"Host": name})).status == 200, name
        assert (await ask(server.address, "GET", "/healthz", headers={"Host": "chat.example"})).status == 421


async def test_a_server_is_known_by_the_names_it_was_given() -> None:
    async with serving(allow_host=("chat.example", "www.chat.example"), allow_origin=(APP,)) as server:
        for name, status in (("chat.example", 200), ("WWW.chat.example:443", 200), ("evil.example", 421)):
            assert (await ask(server.address, "GET", "/", headers={"Host": name})).status == status, name


async def test_bound_to_all_addresses_it_takes_any_name_until_it_is_told_one() -> None:
    async with serving(host=("0.0.0.0",), allow_host=()) as server:
        for name in ("whatever.example", "192.0.2.1:80", "localhost"):
            assert (await ask(server.address, "GET", "/rooms", headers={"Host": name})).status == 200, name
    async with serving(host=("0.0.0.0",), allow_host=("chat.example",)) as server:
        for name, status in (("whatever.example", 421), ("192.0.2.1:80", 200), ("chat.example", 200)):
            assert (await ask(server.address, "GET", "/rooms", headers={"Host": name})).status == status, name


async def test_http_1_0_without_host_is_for_health_checks() -> None:
    async def old(address: Address, first: bytes, more: bytes = b"") -> Answer:
        async with connect(address) as peer:
            await peer.send(first + b" HTTP/1.0\r\n" + more)
            return await peer.response()

    async with serving() as server, neighbour(server):
        for target in (b"GET /healthz", b"GET /readyz", b"GET /rooms", b"GET /"):
            assert (await old(server.address, target, b"\r\n")).status == 200, target
        for target, more in (
            (b"POST /rooms/lobby/messages", b"Content-Length: 2\r\n\r\nhi"),
            (b"GET /rooms/lobby/events", b"\r\n"),
            (b"GET /rooms/lobby/messages?wait=9", b"\r\n"),
            (b"GET /rooms", b"Cookie: chat_session=6yPoxpIU0Ksgu5-dyGM36w\r\n\r\n"),
        ):
            answer = await old(server.address, target, more)
            assert (answer.status, answer.error) == (403, "forbidden"), target


async def test_a_foreign_crowd_costs_no_room_and_no_place() -> None:
    """Each of them asks to be held in a room of its own."""
    async with serving() as server, neighbour(server):

        async def visit(number: int) -> None:
            headers = FOREIGN["another site"]
            answer = await ask(server.address, "GET", f"/rooms/crowd{number}/messages?wait=30", headers=headers)
            assert answer.status == 403

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(visit, number)
        listed = (await ask(server.address, "GET", "/rooms")).json["rooms"]
        assert [room["room"] for room in listed] == ["neighbours"]

        async def alone() -> bool:
            return await server.metric("chatserver_connections", phase="held") == 0

        await eventually(alone)
