"""Rooms, members, health, metrics, methods, cookies and the page."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args
from unittest import mock

import msgspec
import pytest
import trio

from chatserver import __version__, fair
from chatserver.api import monitoring
from chatserver.api.rooms import LISTED_PER_STEP
from chatserver.chat.presence import Presence
from chatserver.chat.room import Room
from chatserver.edge.websocket import WebSocketHandler
from chatserver.net.states import State
from chatserver.protocol.client_messages import ClientMessage
from chatserver.reasons import Reason
from tests.api.asking import TIME
from tests.support.moderating import MODERATOR, moderated
from tests.support.peers import Chatter, Peer, ask, chatter, connect, publish, request, upgrade
from tests.support.serving import Serving, eventually, serving
from tests.support.steps import StepCounts
from tests.support.tokens import bearer

PROTOCOL = Path(__file__).parent.parent.parent / "docs" / "protocol.md"


async def test_each_path_is_in_the_protocol() -> None:
    async with serving(echo=True) as server:
        routes = server.server.parts.exchanges._routes
    in_room = [f"/rooms/{{room}}/{kind}" for kind in routes._in_room if kind is not None]
    of_room = [rf"/rooms/{{room}}/{kind}/{{\w+}}" for kind in routes._of_room]
    described = PROTOCOL.read_text(encoding="utf-8")
    missing = [path for path in [*routes._exact, *in_room, *of_room] if not re.search(rf"{path}[`? ]", described)]
    assert not missing


async def test_each_command_has_a_handler_and_is_in_the_protocol_with_its_fields() -> None:
    """A new one without a handler passed all tests, and ended the connection of a client that sent it (1011)."""
    async with serving() as server:
        handler = server.server.parts.connections.handlers[State.OPEN]
    assert isinstance(handler, WebSocketHandler)
    assert set(get_args(ClientMessage)) <= handler._conversation._handlers.keys()
    rows = re.findall(r"^\| `(\w+)`((?: `\w+`\??)*) \| ", PROTOCOL.read_text(encoding="utf-8"), re.MULTILINE)
    described = {name: sorted(fields.split()) for name, fields in rows}
    for kind in get_args(ClientMessage):
        fields = [field for field in msgspec.structs.fields(kind) if field.name != "id"]
        told = sorted(f"`{field.name}`{'' if field.required else '?'}" for field in fields)
        assert described.get(kind.__struct_config__.tag) == told


# -- rooms and members ----------------------------------------------------------------------------------------------


async def test_rooms_with_messages_and_rooms_with_people(server: Serving, friend: Chatter) -> None:
    for room in ("first", "second", "first"):
        stored = await publish(server.address, room, "hi")
        await trio.sleep(0.002)  # rooms with equal times in ms are listed by name
    await friend.ask("join", room="empty")
    await friend.ask("join", room="second")
    rooms = (await ask(server.address, "GET", "/rooms")).json["rooms"]
    assert [list(room) for room in rooms] == [["room", "cursor", "messages", "members"]] * 3
    assert [list(room.values()) for room in rooms] == [
        ["first", stored["cursor"], 2, 0],
        ["second", rooms[1]["cursor"], 1, 1],
        ["empty", rooms[2]["cursor"], 0, 1],
    ]
    assert (await ask(server.address, "GET", "/rooms/second")).json == {**rooms[1], "may_write": True}
    assert len((await ask(server.address, "GET", "/rooms?limit=1")).json["rooms"]) == 1
    nobody = (await ask(server.address, "GET", "/rooms/nobody")).json
    assert (nobody["messages"], nobody["members"]) == (0, 0)


class LookedAt:
    """A room of the registry that counts how often it is visited."""

    def __init__(self, room: Room, steps: StepCounts) -> None:
        self.name = room.name
        self._presence, self._steps = room.presence, steps

    @property
    def presence(self) -> Presence:
        self._steps.count()
        return self._presence


async def test_a_list_visits_only_its_rooms_and_few_in_a_step(
    server: Serving, friend: Chatter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one step, 10,000 empty rooms would take 2.4 ms, at any client's request."""
    for number in range(4):
        await friend.ask("join", room=f"room-{number}")
    hub = server.server.parts.hub
    rooms = list(hub.rooms.values())
    async with hub.registry.using("nobody", "192.0.2.1") as room:
        deserted = [room] * 1000
    for given, limit, looks in ((rooms, 3, 3), (deserted, 3, 1000), (deserted + rooms, 3, 1003)):
        with StepCounts() as steps:
            looked_at = [LookedAt(room, steps) for room in given]
            monkeypatch.setattr(hub.registry, "unwritten", mock.Mock(return_value=looked_at))
            answer = await ask(server.address, "GET", f"/rooms?limit={limit}")
        assert len(answer.json["rooms"]) == min(limit, len(set(given) & set(rooms)))
        assert (sum(steps.counts), max(steps.counts) <= LISTED_PER_STEP) == (looks, True)


async def test_members_are_people_not_connections(server: Serving, friend: Chatter) -> None:
    cookie = {"Cookie": f"chat_session={friend.hello['session']}"}
    async with chatter(server.address, headers=cookie) as window, chatter(server.address) as other:
        for each in (friend, window, other):
            await each.ask("join", room="lobby")
        members = (await ask(server.address, "GET", "/rooms/lobby/members")).json
        assert members == {"room": "lobby", "members": [friend.hello["user"], other.hello["user"]], "count": 2}
        server.server.parts.hub.rooms["lobby"].presence.listing = None
        told = await friend.ask("members", room="lobby")
        assert (told["type"], told["members"], told["count"]) == ("members", members["members"], 2)
        await other.ask("leave", room="lobby")
    await server.held(1)
    assert (await ask(server.address, "GET", "/rooms/lobby/members")).json["count"] == 1


async def test_unread_lists_of_members_share_their_bytes(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers that asked for those of a large room and read nothing took 100 KB each."""
    parts, users = server.server.parts, b"[%b]" % (b" " * 1_000_000)
    monkeypatch.setattr(parts.services.encoder, "listing", lambda presence: users)
    async with (
        connect(server.address, receive_buffer=4096) as slow,
        chatter(server.address, receive_buffer=4096) as friend,
    ):
        await slow.send(request("GET", "/rooms/lobby/members"))
        await friend.say(type="members", id=1, room="lobby")

        def kept() -> list[bytes]:
            backlogs = [each.backlog for each in parts.connections.table if each is not None and each.backlog]
            return [chunk for backlog in backlogs for chunk in backlog.chunks if len(chunk) > 1000]

        await eventually(lambda: len(kept()) == 2)
        assert all(chunk is users for chunk in kept())


# -- the service itself ---------------------------------------------------------------------------------------------


async def test_metrics_name_every_reason_and_phase_and_count_messages(server: Serving, friend: Chatter) -> None:
    ready = (await ask(server.address, "GET", "/readyz")).json
    assert (ready["status"], ready["version"], ready["log"]) == ("ready", __version__, "memory")
    assert TIME.fullmatch(ready["time"])
    await friend.ask("join", room="lobby")
    for _ in range(3):
        await publish(server.address, "lobby", "hi")
        await friend.next("message")
    answer = await ask(server.address, "GET", "/metrics", headers=bearer("of a proxy"))
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.body.decode().splitlines()
    reasons = re.findall(r'^chatserver_closes_total{reason="([^"]+)"}', answer.body.decode(), re.MULTILINE)
    assert set(reasons) == {each.label for each in Reason}
    for line in lines:
        assert line.startswith("# ") or re.fullmatch(r"\w+(\{[^}]*\})? [0-9.e+-]+", line), line
    assert {
        'chatserver_connections{phase="open",transport="websocket"} 1.0',
        "chatserver_messages_total 3.0",
        "chatserver_deliveries_total 3.0",
        "chatserver_members 1.0",
    } <= set(lines)


async def test_metrics_are_written_in_many_steps(server: Serving) -> None:
    """One step of 0.8 ms, and of 3 ms beside 20,000 connections."""
    with (
        mock.patch.object(fair, "STEP", 0.0),
        mock.patch.object(monitoring, "do_step", side_effect=fair.do_step) as steps,
    ):
        text = (await ask(server.address, "GET", "/metrics")).body
    assert steps.call_count >= text.count(b"# TYPE") > 30


async def test_a_poll_of_an_allowed_page_is_counted_as_a_poll() -> None:
    """The waiter of such a poll has another type, but must not count as a connection of plain HTTP."""
    origin = "https://app.example"
    async with serving(allow_origin=(origin,)) as server, connect(server.address) as peer:
        await peer.send(request("GET", "/rooms/lobby/messages?wait=60", headers={"Origin": origin}))
        await server.reaches(1, "chatserver_connections", phase="held", transport="poll")


# -- methods and paths ----------------------------------------------------------------------------------------------


async def test_head_is_get_without_a_body(server: Serving, peer: Peer) -> None:
    await publish(server.address, "lobby", "hi")
    in_room = ("/rooms/lobby", "/rooms/lobby/messages", "/rooms/lobby/members")
    for path in ("/", "/chat.js", "/healthz", "/metrics", "/rooms", *in_room):
        head = await peer.request("HEAD", path)
        got = await peer.request("GET", path)  # a superfluous body would be read as this answer
        assert (head.status, got.status) == (200, 200)
        assert head.headers["content-type"] == got.headers["content-type"]
        if path != "/metrics":
            assert head.headers["content-length"] == str(len(got.body))


async def test_head_of_a_stream_or_a_poll_ends(peer: Peer) -> None:
    for path in ("/rooms/lobby/messages?wait=60", "/poll?room=lobby&wait=60"):
        assert (await peer.request("HEAD", path)).status == 200
    await peer.send(request("HEAD", "/rooms/lobby/events"))
    assert (await peer.head()).headers["content-type"].startswith("text/event-stream")
    assert await peer.rest() == b""


async def test_the_wrong_method_is_told_the_right_ones(peer: Peer) -> None:
    for method, path, allow in [
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/rooms/lobby/messages", "GET, HEAD, POST"),
        ("PUT", "/rooms/lobby", "GET, HEAD"),
        ("OPTIONS", "/poll", "GET, HEAD"),
        ("POST", "/ws", "GET"),
        ("BREW", "/healthz", "GET, HEAD"),
    ]:
        answer = await peer.request(method, path)
        assert (answer.status, answer.headers["allow"], answer.error) == (405, allow, "method_not_allowed")


async def test_other_paths_are_404(peer: Peer) -> None:
    paths = "/nothing /rooms/ /rooms/lobby/ /rooms/lobby/secrets /rooms//messages /../etc/passwd /chat.js/"
    more = "/%2e%2e/chatserver/config.py /index.html /echo // /rooms/lobby/messages/ /rooms/lobby/secrets/1"
    deep = "/rooms//messages/1 /rooms/lobby/messages/1/2"
    for path in f"{paths} {more} {deep}".split():
        answer = await peer.request("GET", path)
        assert (answer.status, answer.error) == (404, "not_found")
    assert (await peer.request("GET", "/healthz")).json == {"status": "ok"}


@pytest.mark.parametrize(
    "line", ["GET /healthz HTTP/1.0", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close"]
)
async def test_a_client_that_wants_no_second_answer_gets_none(peer: Peer, line: str) -> None:
    await peer.send(f"{line}\r\n\r\n".encode() * 2)
    assert (await peer.response()).headers["connection"] == "close"
    assert await peer.rest() == b""


async def test_an_unknown_parameter_is_refused(tmp_path: Path) -> None:
    """A typing error must not pass silently."""
    requests = (
        ("GET", "/healthz /readyz /metrics /rooms /poll /search /unread /session /audit"),
        ("GET", "/rooms/a /rooms/a/messages /rooms/a/events /rooms/a/members /rooms/a/sanctions"),
        ("POST", "/session /rooms/a/messages /rooms/a/typing /rooms/a/sanctions /rooms/a/kick"),
        ("PUT", "/rooms/a/read /rooms/a/messages/1/reactions/x"),
        ("PATCH", "/rooms/a/messages/1"),
        ("DELETE", "/session /rooms/a/messages/1 /rooms/a/messages/1/reactions/x /rooms/a/sanctions/1"),
    )
    async with moderated(tmp_path) as server, connect(server.address) as peer:
        for method, path in [(method, path) for method, paths in requests for path in paths.split()]:
            answer = await peer.request(method, f"{path}?colour=red", headers=MODERATOR)
            assert (answer.status, "unknown parameter 'colour'" in answer.json["error"]["message"]) == (400, True), path


# -- the user of a request ------------------------------------------------------------------------------------------


async def test_the_page_sets_a_guests_cookie_once(server: Serving) -> None:
    page = await ask(server.address, "GET", "/")
    cookie = page.headers["set-cookie"]
    match = re.fullmatch(r"(chat_session=([\w-]+)); Path=/; Max-Age=\d+; HttpOnly; SameSite=Lax", cookie)
    assert match
    headers = {"Cookie": f"theme=dark; {match[1]}", "Origin": "https://localhost"}  # behind a proxy that ends TLS
    async with chatter(server.address, headers=headers) as friend:
        assert "set-cookie" not in friend.handshake.headers
        assert friend.hello["session"] == match[2]
    assert "set-cookie" not in (await ask(server.address, "GET", "/", headers=headers)).headers


async def test_a_websocket_without_a_token_is_a_new_guest_and_gets_a_token(server: Serving, friend: Chatter) -> None:
    users = [friend.hello["user"]["id"]]
    for token in [None, "short", "x" * 65, "a b" * 8, "../" * 8, '"' * 20]:
        headers = {} if token is None else {"Cookie": f"chat_session={token}"}
        async with chatter(server.address, headers=headers) as other:
            assert other.hello["session"] != token
            assert other.handshake.headers["set-cookie"].startswith(f"chat_session={other.hello['session']}; ")
            users.append(other.hello["user"]["id"])
    assert len(set(users)) == 7


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


async def test_the_page_and_its_files_are_served_with_a_strict_policy(peer: Peer) -> None:
    page = await peer.request("GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    references = References()
    references.feed(page.body.decode())
    assert references.inline == ["<script>"]
    digest = sha256(page.body.split(b"<script>")[1].split(b"</script>")[0]).digest()
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == f"'self' 'sha256-{b64encode(digest).decode()}'"
    assert policy["style-src"] == policy["connect-src"] == "'self'"
    assert page.headers["referrer-policy"] == "no-referrer"
    for path in ["", *(each for each in references.found if not each.startswith(("data:", "#")))]:
        answer = await peer.request("GET", f"/{path.lstrip('./')}")
        assert answer.status == 200, path
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        own = "private, " if "set-cookie" in headers else ""  # a cache must not give a guest's token to others
        kept = "public, max-age=31536000, immutable" if path.startswith("/page/") else f"{own}no-cache"
        assert headers["cache-control"] == kept, path


async def test_answers_have_nosniff_and_are_not_stored_and_json_ends_its_line(peer: Peer) -> None:
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
        assert answer.headers["cache-control"] == "no-store", "it may be for this user only, and is soon out of date"


# -- the handshake --------------------------------------------------------------------------------------------------


async def test_a_malformed_upgrade_is_an_error_and_the_connection_goes_on(peer: Peer) -> None:
    """More cases: tests/protocol."""
    for wire, status, code in [
        (request("GET", "/ws"), 426, "upgrade_required"),
        (upgrade(without=["Sec-WebSocket-Key"]), 400, "bad_request"),
        (upgrade().replace(b"GET", b"POST"), 405, "method_not_allowed"),
        (upgrade("/echo"), 404, "not_found"),
    ]:
        await peer.send(wire)
        answer = await peer.response()
        assert (answer.status, answer.error) == (status, code)
