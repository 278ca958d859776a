"""Rooms, members, health, metrics, methods, cookies and the page (CONTRACT section 3)."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
import trio

from chatserver.chat.room import Room
from chatserver.reasons import Reason
from tests.support.peers import WEBSOCKET_KEY, ask, chatter, connect, publish, request, upgrade
from tests.support.serving import serving

# -- rooms and members ----------------------------------------------------------------------------------------------


async def test_rooms_with_messages_and_rooms_with_people() -> None:
    async with serving() as server, chatter(server.address) as friend:
        for room in ("first", "second", "first"):
            stored = await publish(server.address, room, "hi")
            await trio.sleep(0.002)  # rooms of one millisecond are listed by name
        await friend.ask("join", room="empty")
        await friend.ask("join", room="second")
        rooms = (await ask(server.address, "GET", "/rooms")).json["rooms"]
        assert [list(room) for room in rooms] == [["room", "cursor", "messages", "members"]] * 3
        assert [(room["room"], room["messages"], room["members"]) for room in rooms] == [
            ("first", 2, 0),
            ("second", 1, 1),
            ("empty", 0, 1),
        ]
        assert rooms[0]["cursor"] == stored["cursor"]
        assert (await ask(server.address, "GET", "/rooms/second")).json == rooms[1]
        assert len((await ask(server.address, "GET", "/rooms?limit=1")).json["rooms"]) == 1
        nobody = (await ask(server.address, "GET", "/rooms/nobody")).json
        assert (nobody["messages"], nobody["members"]) == (0, 0)


class Counting(dict[Room, None]):
    """Rooms, and how many of them were looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[Room]:
        for room in super().__iter__():
            self.looked_at += 1
            yield room


async def test_no_more_rooms_are_looked_at_than_are_told() -> None:
    """Anybody may ask, and 100,000 rooms that nobody wrote in are a hold-up of 10 ms for everybody else."""
    async with serving(max_empty_rooms=20) as server, chatter(server.address) as friend:
        for number in range(20):
            await friend.ask("join", room=f"room-{number}")
        registry = server.server.parts.hub.registry
        registry._unwritten = rooms = Counting(registry._unwritten)
        assert len((await ask(server.address, "GET", "/rooms?limit=3")).json["rooms"]) == 3
        assert rooms.looked_at == 3


async def test_members_are_people_not_connections() -> None:
    async with serving() as server, chatter(server.address) as friend:
        cookie = {"Cookie": f"chat_session={friend.hello['session']}"}
        async with chatter(server.address, headers=cookie) as window, chatter(server.address) as other:
            for each in (friend, window, other):
                await each.ask("join", room="lobby")
            members = (await ask(server.address, "GET", "/rooms/lobby/members")).json
            assert members["room"] == "lobby"
            assert members["count"] == 2
            assert members["members"] == [friend.hello["user"], other.hello["user"]]
        await server.held(1)
        assert (await ask(server.address, "GET", "/rooms/lobby/members")).json["count"] == 1


# -- the service itself ---------------------------------------------------------------------------------------------


async def test_health_and_readiness() -> None:
    async with serving() as server:
        assert (await ask(server.address, "GET", "/healthz")).json == {"status": "ok"}
        assert (await ask(server.address, "GET", "/readyz")).json == {"status": "ready"}


async def test_metrics_name_every_reason_and_phase() -> None:
    async with serving() as server, chatter(server.address):
        answer = await ask(server.address, "GET", "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        text = answer.body.decode()
        assert set(re.findall(r'chatserver_closes_total{reason="([^"]+)"}', text)) == {each.label for each in Reason}
        assert 'chatserver_connections{phase="open",transport="websocket"} 1.0' in text
        for line in text.splitlines():
            assert line.startswith("# ") or re.fullmatch(r"\w+(\{[^}]*\})? [0-9.e+-]+", line), line


async def test_messages_are_counted() -> None:
    async with serving() as server, chatter(server.address) as friend:
        await friend.ask("join", room="lobby")
        for _ in range(3):
            await publish(server.address, "lobby", "hi")
            await friend.next("message")
        assert await server.metric("chatserver_messages_total") == 3
        assert await server.metric("chatserver_deliveries_total") == 3
        assert await server.metric("chatserver_members") == 1


# -- methods and paths ----------------------------------------------------------------------------------------------


async def test_head_is_get_without_a_body() -> None:
    async with serving() as server, connect(server.address) as peer:
        await publish(server.address, "lobby", "hi")
        in_room = ("/rooms/lobby", "/rooms/lobby/messages", "/rooms/lobby/members")
        for path in ("/", "/chat.js", "/healthz", "/metrics", "/rooms", *in_room):
            head = await peer.request("HEAD", path)
            got = await peer.request("GET", path)  # a body too many would be read as this answer
            assert (head.status, got.status) == (200, 200)
            assert head.headers["content-type"] == got.headers["content-type"]
            if path != "/metrics":
                assert head.headers["content-length"] == str(len(got.body))


async def test_head_of_what_never_ends_ends() -> None:
    async with serving() as server:
        for path in ("/rooms/lobby/messages?wait=60", "/poll?room=lobby&wait=60"):
            async with connect(server.address) as peer:
                assert (await peer.request("HEAD", path)).status == 200
        async with connect(server.address) as peer:
            await peer.send(request("HEAD", "/rooms/lobby/events"))
            assert (await peer.head()).headers["content-type"].startswith("text/event-stream")
            assert await peer.rest() == b""


async def test_the_wrong_method_is_told_the_right_ones() -> None:
    async with serving() as server, connect(server.address) as peer:
        for method, path, allow in [
            ("POST", "/", "GET, HEAD"),
            ("DELETE", "/rooms/lobby/messages", "GET, HEAD, POST"),
            ("PUT", "/rooms/lobby", "GET, HEAD"),
            ("OPTIONS", "/poll", "GET, HEAD"),
            ("POST", "/ws", "GET"),
            ("BREW", "/healthz", "GET, HEAD"),
        ]:
            answer = await peer.request(method, path)
            assert answer.status == 405
            assert answer.headers["allow"] == allow
            assert answer.error == "method_not_allowed"
            assert (await peer.request("GET", "/healthz")).status == 200


async def test_there_is_nothing_elsewhere() -> None:
    async with serving() as server, connect(server.address) as peer:
        paths = "/nothing /rooms/ /rooms/lobby/ /rooms/lobby/secrets /rooms//messages /../etc/passwd /chat.js/"
        more = "/%2e%2e/chatserver/config.py /index.html /echo // /rooms/lobby/messages/1/2"
        for path in f"{paths} {more}".split():
            answer = await peer.request("GET", path)
            assert (answer.status, answer.error) == (404, "not_found")
            assert (await peer.request("GET", "/healthz")).status == 200


async def test_an_absolute_target_and_an_escaped_path_are_the_same_place() -> None:
    async with serving() as server, connect(server.address) as peer:
        await publish(server.address, "lobby", "hi")
        plain = (await peer.request("GET", "/rooms/lobby")).body
        assert (await peer.request("GET", "http://localhost/rooms/lobby")).body == plain
        assert (await peer.request("GET", "/rooms/l%6fbby")).body == plain


async def test_an_old_client_is_answered_and_closed() -> None:
    async with serving() as server, connect(server.address) as peer:
        await peer.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await peer.response()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await peer.rest() == b""


# -- whose request it is --------------------------------------------------------------------------------------------


async def test_a_cookie_makes_one_person_of_every_transport() -> None:
    async with serving() as server:
        page = await ask(server.address, "GET", "/")
        cookie = page.headers["set-cookie"]
        match = re.fullmatch(r"(chat_session=[\w-]+); Path=/; Max-Age=\d+; HttpOnly; SameSite=Lax", cookie)
        assert match
        headers = {"Cookie": f"theme=dark; {match[1]}"}
        async with chatter(server.address, headers=headers) as friend:
            assert "set-cookie" not in friend.handshake.headers
            assert friend.hello["session"] == match[1].partition("=")[2]
            await ask(server.address, "POST", "/rooms/lobby/messages", b"hi", headers=headers)
            (message,) = (await friend.ask("history", room="lobby"))["messages"]
            assert message["user"] == friend.hello["user"]
        assert "set-cookie" not in (await ask(server.address, "GET", "/", headers=headers)).headers


async def test_a_websocket_without_a_cookie_is_somebody_new_and_gets_one() -> None:
    async with serving() as server, chatter(server.address) as one, chatter(server.address) as two:
        assert one.hello["user"] != two.hello["user"]
        assert one.handshake.headers["set-cookie"].startswith(f"chat_session={one.hello['session']}; ")


@pytest.mark.parametrize(
    "origin",
    ["http://localhost", "https://localhost"],  # the other: behind a proxy that ends TLS
)
async def test_a_cookie_counts_from_our_own_page(origin: str) -> None:
    async with serving() as server, chatter(server.address) as friend:
        headers = {"Cookie": f"chat_session={friend.hello['session']}", "Origin": origin}
        await ask(server.address, "POST", "/rooms/lobby/messages", b"hi", headers=headers)
        (message,) = (await friend.ask("history", room="lobby"))["messages"]
        assert message["user"] == friend.hello["user"]
        async with chatter(server.address, headers=headers) as again:
            assert again.hello["user"] == friend.hello["user"]


async def test_what_is_no_token_is_nobody() -> None:
    async with serving() as server:
        for token in ["short", "x" * 65, "a b" * 8, "../" * 8, '"' * 20]:
            headers = {"Cookie": f"chat_session={token}"}
            async with chatter(server.address, headers=headers) as friend:
                assert friend.hello["session"] != token
                assert "set-cookie" in friend.handshake.headers


# -- the page -------------------------------------------------------------------------------------------------------


class References(HTMLParser):
    """Every address in a page, and everything that a strict policy would not run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href") and value:
                self.found.append(value)
            if name.startswith("on") or name == "style":
                self.inline.append(f"<{tag} {name}>")
        if tag == "script" and "src" not in dict(attrs):
            self.inline.append("<script>")


async def test_the_page_and_all_that_it_names_is_here() -> None:
    async with serving() as server, connect(server.address) as peer:
        page = await peer.request("GET", "/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        references = References()
        references.feed(page.body.decode())
        assert references.inline == []
        for path in [each for each in references.found if not each.startswith(("data:", "#"))]:
            answer = await peer.request("GET", f"/{path.lstrip('./')}")
            assert answer.status == 200, path
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_answer_forbids_to_guess_and_json_ends_its_line() -> None:
    async with serving() as server, connect(server.address) as peer:
        paths = (
            *("/rooms", "/rooms/lobby", "/rooms/lobby/messages", "/rooms/lobby/members", "/poll?room=lobby"),
            *("/rooms/lobby/messages?wait=0.1", "/healthz", "/readyz", "/metrics", "/nothing", "/rooms/LOBBY", "/ws"),
        )
        answers = [
            await peer.request("POST", "/rooms/lobby/messages", b"hello"),
            *[await peer.request("GET", path) for path in paths],
            await peer.request("GET", "/", headers={"X": "\x01"}),
        ]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff", answer
            if answer.headers["content-type"] == "application/json":
                assert answer.body.endswith(b"}\n"), answer
    async with serving() as server, connect(server.address) as peer:
        await peer.send(b"GET /rooms/lobby/events HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await peer.head()).headers["x-content-type-options"] == "nosniff"


async def test_headers_that_keep_a_page_to_itself() -> None:
    async with serving() as server:
        for path in ["/", "/chat.js", "/chat.css"]:
            headers = (await ask(server.address, "GET", path)).headers
            policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-cache"


async def test_a_browser_that_has_it_is_told_so() -> None:
    async with serving() as server, connect(server.address) as peer:
        first = await peer.request("GET", "/chat.js")
        etag = first.headers["etag"]
        for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = await peer.request("GET", "/chat.js", headers={"If-None-Match": value})
            assert again.status == 304, value
            assert again.headers["etag"] == etag
            assert again.body == b""
        changed = await peer.request("GET", "/chat.js", headers={"If-None-Match": '"other"'})
        assert (changed.status, changed.body) == (200, first.body)


# -- the handshake --------------------------------------------------------------------------------------------------


async def test_a_bad_upgrade_is_a_clear_answer_and_the_connection_lives() -> None:
    async with serving() as server, connect(server.address) as peer:
        for wire, status, code in [
            (request("GET", "/ws"), 426, "upgrade_required"),
            (upgrade(headers={"Upgrade": "h2c"}), 426, "upgrade_required"),
            (upgrade(headers={"Sec-WebSocket-Version": "8"}), 426, "upgrade_required"),
            (upgrade(without=["Sec-WebSocket-Version"]), 426, "upgrade_required"),
            (upgrade(headers={"Connection": "keep-alive"}), 400, "bad_request"),
            (upgrade(headers={"Sec-WebSocket-Key": "short"}), 400, "bad_request"),
            (upgrade(headers={"Sec-WebSocket-Key": "!" + WEBSOCKET_KEY[1:]}), 400, "bad_request"),
            (upgrade(without=["Sec-WebSocket-Key"]), 400, "bad_request"),
            (upgrade().replace(b"GET", b"POST"), 405, "method_not_allowed"),
            (upgrade().replace(b"GET", b"HEAD"), 405, "method_not_allowed"),
            (upgrade("/echo"), 404, "not_found"),
        ]:
            await peer.send(wire)
            head_only = wire.startswith(b"HEAD")
            answer = await peer.response(head_only=head_only)
            assert answer.status == status
            if status == 426:
                assert answer.headers["sec-websocket-version"] == "13"
            if not head_only:
                assert answer.error == code
            assert (await peer.request("GET", "/healthz")).status == 200


async def test_the_subprotocol_is_ours_or_none() -> None:
    async with serving() as server:
        async with chatter(server.address, headers={"Sec-WebSocket-Protocol": "x, chat.v1"}) as friend:
            assert friend.handshake.headers["sec-websocket-protocol"] == "chat.v1"
        async with chatter(server.address, headers={"Sec-WebSocket-Protocol": "x, chat.v2"}) as friend:
            assert "sec-websocket-protocol" not in friend.handshake.headers
        extension = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
        async with chatter(server.address, headers=extension) as friend:
            assert "sec-websocket-extensions" not in friend.handshake.headers
