"""Visitors send one request of each kind and leave; a while later the server keeps nothing of them.

The test visits every container that the server holds, to find one that keeps an entry for each visitor.
"""

import sys
from collections import Counter
from pathlib import Path

import pytest
import trio

from chatserver.settings.rooms import room_policies
from tests.attacks.reachable import containers, module_globals
from tests.support.peers import Body, connect, frame, open_websocket, publish, request, say
from tests.support.serving import Serving, serving
from tests.support.tokens import bearer, secret_file, token

PROXY = "127.0.0.2"
#: Visitors of the first and of the second crowd, and the growth that a container may have after the second.
FEW, MANY, SLACK = 10, 20, 8
#: Seconds until all entries are removed: rate limits for refusals take longest, a minute each.
FORGOTTEN = 70
#: Containers with a bound that the crowds do not reach.
BOUNDED = {"Tokens._verified", "SignedOut._kept", "SignedOut._guests"}
#: Containers in which the log in memory stores messages.
STORED = ("chatserver.log.memory", "chatserver.log.audit")
#: The expected statuses of `requests`.
EXPECTED = [
    200, 404, 421, 200, 201, 201, 204, 204, 401, 201, 200, 200, 401, 200, 200, 200, 200, 401, 204
]  # fmt: skip


def requests(number: int) -> list[bytes]:
    """One request of every kind, as a new guest from a new network."""
    who = {"X-Forwarded-For": f"2001:db8:0:{number:x}::1", "Cookie": f"chat_session={number:-<20}"}
    signed_in = {"X-Forwarded-For": who["X-Forwarded-For"], **bearer(token(sub=f"u_{number}"))}
    message = {"text": f"word{number}", "key": f"{number:->20}", "mentions": [f"u_nobody{number}"], "reply_to": 1}

    def post(path: str, body: Body, method: str = "POST") -> bytes:
        return request(method, path, body, headers=who)

    def get(path: str, headers: dict[str, str] = who, method: str = "GET") -> bytes:
        return request(method, path, headers=headers)

    return [
        get("/"), get(f"/nothing{number}"), get("/rooms", {**who, "Host": f"host{number}"}), get("/unread"),
        post("/session", {"name": f"Name {number}"}), post("/rooms/lobby/messages", message),
        post("/rooms/lobby/read", {"offset": 1}, "PUT"), get("/rooms/lobby/typing", method="POST"),
        post("/rooms/lobby/kick", {"user": f"u_{number}"}), post(f"/rooms/slow{number}/messages", {"text": "hi"}),
        get(f"/rooms/lobby/messages/{1 + number % 5}/reactions/%F0%9F%91%8D", method="PUT"),
        get(f"/rooms/new{number}/messages"), get(f"/rooms/staff-{number}/messages"), get("/poll?room=lobby:0"),
        get("/poll?" + "&".join(f"room=new{number}-{each}" for each in range(4))), get(f"/search?q=word{number}"),
        get("/session", signed_in), get("/session", bearer(token(number=1, sub=f"u_{number}"))),
        get("/session", method="DELETE"),
    ]  # fmt: skip


async def visit(server: Serving, number: int) -> None:
    """Send every kind of request, then leave in the middle of a stream, a request, and a conversation."""
    answers = []
    async with connect(server.address, source=PROXY) as peer:
        for each in requests(number):
            await peer.send(each)
            answers.append((await peer.response()).status)
        assert answers == EXPECTED
        await peer.send(request("GET", f"/rooms/stream{number}/events"))
        await peer.head()
    async with connect(server.address, source=f"127.1.0.{number}") as peer:
        await peer.send(request("POST", "/rooms/lobby/messages", b"x" * number, headers={"Content-Length": "100"}))
    async with connect(server.address, source=f"127.1.0.{number}") as peer:
        them = await open_websocket(peer)
        for room in ("lobby", f"ws{number}"):
            await them.ask("join", room=room)
        await peer.send(say(type="typing", room="lobby") + say(type="read", room="lobby", offset=1))
        await them.ask("auth", token=token(sub=f"u_ws{number}"))
        await them.ask("publish", room="lobby", text="bye")
        await peer.send(frame("half", fin=False))
        peer.reset()


def kept(server: Serving) -> Counter[str]:
    """The sizes of the containers of the server and its modules, without those of the log."""
    ours = [each for name, each in list(sys.modules.items()) if name.startswith("chatserver.")]
    found = containers({"server": server.server, **module_globals(ours)}, beyond=STORED)
    return Counter({place: size for place, size in found.items() if place.split("[")[0] not in BOUNDED})


@pytest.mark.jumping_clock
async def test_nothing_is_kept_of_visitors_that_have_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.serving.LIFE", 10 * FORGOTTEN)
    rooms = room_policies({"slow*": {"slow_mode": 5}, "staff-*": {"read": "granted"}}, "")
    async with serving(
        trusted_proxy=(PROXY,), token_key=(secret_file(tmp_path),), rooms=rooms, publish_rate=20.0, search_rate=3.0
    ) as server:
        for number in range(5):
            await publish(server.address, "lobby", f"message {number}")
        sizes = []
        for crowd in (range(1, FEW), range(FEW, FEW + MANY)):
            for number in crowd:
                await visit(server, number)
            for _ in range(FORGOTTEN):
                await trio.sleep(1.0)
            sizes.append(kept(server))
    before, after = sizes
    longer = {place: (before[place], size) for place, size in after.items() if size > before[place] + SLACK}
    assert longer == {}
    seen = {"Registry._empty", "KeyedBuckets._states", "ForwardedFor._proxy_of", "Wheel._slots"}
    assert seen <= after.keys(), "every container is visited"
