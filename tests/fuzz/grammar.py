"""The input of peers: whole valid and invalid exchanges, to be cut, mixed and damaged.

Owns: the samples by name, so that a failure says what was sent, and `spoil`. May not: choose; hypothesis does for the
machines, a seeded `random` for the sockets. A damaged sample gets deeper into the parsers than noise does.
"""

import json
from collections.abc import Callable, Iterable

from chatserver.net.closing import LINGER_BYTES
from tests.support.peers import frame, request, say, upgrade

#: The rooms that are talked in. The healthy neighbour is in the first.
LOBBY, OPS, DEN = ROOMS = ("lobby", "ops", "den")

Edit = tuple[int, int, bytes]
"""Where, modulo the length; how many bytes go; which bytes come."""

#: Bytes that have a meaning in one of the server's parsers.
BYTES_OF_NOTE = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"%ff", b"HTTP/1.1", b"chunked", b"\xff", b"?", b'"', b"{",
    b"\x88\x80\1\2\3\4", b"\x89\x80\1\2\3\4", b"\x01\x80\1\2\3\4", b"\x81\xfe\x40\x00",
)  # fmt: skip

_JSON = {"Content-Type": "application/json"}
_CHUNKED = {"Transfer-Encoding": "chunked"}
_QUESTION = {"Expect": "100-continue"}

#: The origin whose pages may do what the server's own may.
APP = "https://app.example"


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _post(body: bytes, headers: dict[str, str] | None = None, *, room: str = LOBBY) -> bytes:
    return request("POST", f"/rooms/{room}/messages", body, headers=headers)


def _chunked(body: bytes) -> bytes:
    return request("POST", f"/rooms/{DEN}/messages", headers=_CHUNKED) + body


def _get(target: str, **headers: str) -> bytes:
    return request("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})


def _poll(*rooms: str, wait: int = 2, **headers: str) -> bytes:
    """A poll from the end of each room, since one from any other place is not held; see `with_cursors`."""
    return _get(f"/poll?{'&'.join(f'room={room}:END-OF-{room}' for room in rooms)}&wait={wait}", **headers)


#: Requests that are answered, and leave the connection open or begin a stream.
RIGHT_REQUESTS: dict[str, bytes] = {
    "health": _get("/healthz"),
    "health, five times": _get("/healthz") * 5,
    "health, forty times": _get("/healthz") * 40,
    "metrics": _get("/metrics"),
    "the page": _get("/"),
    "rooms": _get("/rooms"),
    "room": _get("/rooms/ops"),
    "members": _get("/rooms/lobby/members"),
    "history": _get("/rooms/lobby/messages?limit=3"),
    "history from the beginning": _get("/rooms/ops/messages?after=0&limit=200"),
    "history before": _get("/rooms/lobby/messages?before=4"),
    "poll": _poll(LOBBY, wait=3),
    "poll from the beginning": _get("/rooms/ops/messages?after=0&wait=2"),
    "poll from the future": _get("/rooms/lobby/messages?after=999999&wait=2"),
    "poll of another life": _get("/rooms/den/messages?after=zzzz-3&wait=2"),
    "poll, then health": _poll(LOBBY, wait=1) + _get("/healthz"),
    "poll of three": _poll(*ROOMS, wait=3),
    "poll of three from the beginning": _get("/poll?room=lobby:0&room=ops:0&room=den&wait=3"),
    "poll of nothing": _get("/poll?wait=3"),
    "poll with a body": request("GET", f"/rooms/{DEN}/messages?wait=2", b"why"),
    "events with a body": request("GET", f"/rooms/{DEN}/events", b"why"),
    "poll of one twice": _get("/poll?room=lobby:0&room=lobby:1&wait=3"),
    "unread": _get("/unread"),
    "say that one types": request("POST", "/rooms/lobby/typing"),
    "mark as read": request("PUT", "/rooms/ops/read", {"offset": 2}),
    "publish": _post(b"hello"),
    "publish, thrice": _post(b"a") + _post(b"b") + _post(b"c"),
    "publish, then poll": _post(b"hello", room=OPS) + _poll(OPS),
    "publish long": _post(b"x" * 7000),
    "publish with a key": _post(_json(text="once", key="k1"), _JSON, room=OPS),
    "publish chunked": _chunked(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"),
    "publish after a question": _post(b"hi", _QUESTION),
    "a question alone": _post(b"", {**_QUESTION, "Content-Length": "4"}),
    "edit": request("PATCH", "/rooms/lobby/messages/1", b"otherwise"),
    "delete": request("DELETE", "/rooms/den/messages/1"),
    "react, and not": request("PUT", "/rooms/lobby/messages/1/reactions/%F0%9F%91%8D")
    + request("DELETE", "/rooms/lobby/messages/1/reactions/%F0%9F%91%8D"),
    "react to nothing": request("PUT", "/rooms/lobby/messages/0/reactions/x"),
    "messages alone": _get("/rooms/lobby/messages?kinds=message&wait=2"),
    "events": _get("/rooms/lobby/events"),
    "events from the beginning": _get("/rooms/ops/events?after=0"),
    "events after": _get("/rooms/lobby/events", Last_Event_ID="2"),
    "events of another life": _get("/rooms/lobby/events?after=zzzz-3"),
    "events, and then more": _get("/rooms/den/events") + _get("/healthz"),
    "health, and the beginning of much": _get("/healthz") + _get("/healthz", X_Long="y" * 9_000)[:-2],
    "publish, and the beginning of much": _post(b"x" * 3000) + _get("/healthz", X_Long="y" * 9_000)[:-2],
    "poll, and the beginning of much": _poll(LOBBY) + _get("/", X_Long="y" * 9_000)[:-2],
    "page, and the beginning of much": _get("/rooms/ops/messages?after=0") + _get("/", X_Long="y" * 9_000)[:-2],
    "poll, and then much": _poll(DEN) + bytes(9_000),
    "events, and then much": _get("/rooms/den/events") + bytes(9_000),
    "health, then a poll": _get("/healthz") + _poll(LOBBY),
    "health, then events": _get("/healthz") + _get("/rooms/lobby/events"),
    "health, then a short body": _get("/healthz") + _post(b"hi"),
    "nothing there": _get("/nothing"),
    "wrong method": request("DELETE", "/rooms/lobby/messages"),
    "bad room": _get("/rooms/Lobby!/messages?wait=2"),
    "bad parameter": _get("/rooms/lobby/messages?wait=soon"),
    "bad json": _post(b'{"text":', _JSON),
    "bad bytes": _post(b"\xff\xfe"),
    "head of health": request("HEAD", "/healthz"),
    "an allowed page": _get("/rooms/lobby/messages", Origin=APP),
    "an allowed page's poll": _poll(LOBBY, Origin=APP),
    "an allowed page's poll of three": _poll(*ROOMS, wait=3, Origin=APP),
    "an allowed page's events": _get("/rooms/ops/events?after=0", Origin=APP),
    "an allowed page's message": _post(b"hi", {"Origin": APP}),
    "an allowed page's question": request("OPTIONS", "/rooms/den/messages", headers={"Origin": APP}),
    "a foreign page": _get("/rooms/lobby/messages", Origin="null"),
    "a foreign page's poll": _get("/rooms/new/messages?wait=2", Origin="https://evil.example"),
    "a foreign page's events": _get("/rooms/lobby/events", Sec_Fetch_Site="cross-site"),
    "a foreign page's message": _post(b"hi", {"Origin": "https://evil.example"}),
    "a foreign page's socket": upgrade(headers={"Origin": "https://evil.example"}),
    "for a client": _get("/rooms", X_Forwarded_For="127.0.2.8, 127.0.4.2"),
    "a poll for a client": _poll(LOBBY, X_Forwarded_For="2001:db8::8"),
    "for one of a crowd, by its balancer": _get("/rooms/ops", X_Forwarded_For="127.0.1.1"),
    "another host": request("GET", "/rooms", headers={"Host": "evil.example"}),
}  # fmt: skip

#: PROXY headers: for a client, for the balancer itself, and invalid ones.
HEADERS: dict[str, bytes] = {
    "for somebody": b"PROXY TCP4 127.0.2.7 127.0.0.1 5000 80\r\n",
    "for one of a crowd": b"PROXY TCP4 127.0.1.1 127.0.0.1 5000 80\r\n",
    "for IPv6": b"PROXY TCP6 2001:db8::7 ::1 5000 80\r\n",
    "for itself": b"PROXY UNKNOWN\r\n",
    "for itself, in version 2": b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    "half of it": b"PROXY TCP4 127.0.2.7",
    "none": b"",
    "nonsense": b"PROXY nobody\r\n",
}

#: Requests that are not finished, or end the connection.
WRONG_REQUESTS: dict[str, bytes] = {
    "half a body": _post(b"half", {"Content-Length": "50000"}),
    "half a body for a client": _post(b"half", {"Content-Length": "50000", "X-Forwarded-For": "127.0.2.8"}),
    "a refused upgrade for a client": upgrade("/rooms", headers={"X-Forwarded-For": "127.0.2.8"}),
    "most of a body": _post(b"x" * 30_000, {"Content-Length": "50000"}),
    "health, then close": _get("/healthz", Connection="close"),
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n",
    "half a chunked body": _chunked(b"400\r\n" + b"x" * 90),
    "fat chunks": _chunked(b"1;" + b"e" * 2000 + b"\r\nx\r\n"),
    "endless chunks": _chunked(b"1;eeeeeeeeee\r\nx\r\n" * 400),
    "huge chunk": _chunked(b"7fffffffffffffff\r\n"),
    "huge length": _post(b"x", {"Content-Length": "9223372036854775807"}),
    "head of events": request("HEAD", "/rooms/lobby/events"),
    "upgrade of the wrong version": upgrade(headers={"Sec-WebSocket-Version": "7"}),
    "upgrade without a key": upgrade(without=["Sec-WebSocket-Key"]),
    "two lengths": _post(b"hi", {"Content-Length": "2\r\nContent-Length: 3"}, room=DEN),
    "length and chunks": _post(b"0\r\n\r\n", _CHUNKED),
    "half a head": b"GET /rooms HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "most of a long head": _get("/healthz", X_Long="y" * 12_000)[:-2],
    "big head": _get("/healthz", X_Big="y" * 20_000),
    "many fields": _get("/healthz", **{f"X-{number}": "y" for number in range(120)}),
    "bare LF": b"GET / HTTP/1.1\nHost: t\n\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(80),
    "frames": frame("hello") * 3,
    "an empty line": b"\r\n",
    "zeros": bytes(64),
    "more zeros than are read after a close": bytes(LINGER_BYTES + 4096),
}  # fmt: skip

REQUESTS = RIGHT_REQUESTS | WRONG_REQUESTS
#: Requests whose answers can only be read by a client that knows that it sent HEAD.
UNREADABLE = frozenset(("head of health", "head of events"))


#: Frames that leave a WebSocket open.
RIGHT_FRAMES: dict[str, bytes] = {
    "join lobby": say(type="join", id=1, room=LOBBY),
    "join ops": say(type="join", id=2, room=OPS),
    "join den from the beginning": say(type="join", id=3, room=DEN, after=0),
    "join lobby from the beginning": say(type="join", id=4, room=LOBBY, after=0),
    "join lobby from the future": say(type="join", id=5, room=LOBBY, after=999_999),
    "join ops of another life": say(type="join", id=6, room=OPS, after="zzzz-3"),
    "join a fourth": say(type="join", id=7, room="attic"),
    "join all": b"".join(say(type="join", id=8, room=room) for room in ROOMS),
    "leave lobby": say(type="leave", id=9, room=LOBBY),
    "join and leave ops": (say(type="join", id=10, room=OPS) + say(type="leave", id=11, room=OPS)) * 3,
    "say hello": say(type="publish", id=12, room=LOBBY, text="hello"),
    "say hello in ops": say(type="publish", id=13, room=OPS, text="hello", key="k2"),
    "say a dozen things": b"".join(say(type="publish", id=number, room=OPS, text="more") for number in range(20, 32)),
    "say something long": say(type="publish", id=14, room=DEN, text="y" * 7000),
    "ask for history": say(type="history", id=16, room=LOBBY, limit=200),
    "ask for history before": say(type="history", id=17, room=OPS, before=5),
    "ask for history of nothing": say(type="history", id=18, room="nowhere"),
    "ask for members": say(type="members", id=19, room=LOBBY),
    "typing": say(type="typing", room=LOBBY) + say(type="typing", room=OPS),
    "how far it has read": say(type="read", id=38, room=LOBBY, offset=3) + say(type="read", room=OPS, offset=99),
    "reply": say(type="publish", id=39, room=LOBBY, text="you", reply_to=1, mentions=["g_1"]),
    "say it otherwise": b"".join(
        say(type="publish", id=40, room=OPS, text="helo") + say(type="edit", id=41, room=OPS, offset=at, text="hello")
        for at in (1, 2, 3)
    ),
    "take it back": b"".join(say(type="delete", id=42, room=OPS, offset=offset) for offset in (1, 2, 4, 999)),
    "react": b"".join(say(type="react", id=43, room=LOBBY, offset=1, emoji="👍", on=on) for on in (True, False, True)),
    "react with a word": say(type="react", id=44, room=LOBBY, offset=1, emoji="no", on=True),
    "are you there": say(type="ping", id=33),
    "in two pieces": frame('{"type":"ping",', fin=False) + frame('"id":34}', opcode=0),
    "ping": frame(b"x", opcode=9),
    "pong": frame(b"", opcode=10),
    "pings": frame(b"p" * 20, opcode=9) * 12,
    "not JSON": frame("hello"),
    "not an object": frame("[1, 2]"),
    "deep": frame("[" * 2000 + "]" * 2000),
    "unknown type": say(type="dance", id=35),
    "doubled field": frame('{"type":"ping","id":1,"id":2}'),
    "join a bad room": say(type="join", id=36, room="../etc"),
}  # fmt: skip

#: Frames that leave a message unfinished, or end the connection.
WRONG_FRAMES: dict[str, bytes] = {
    "say bye and go": say(type="publish", id=15, room=LOBBY, text="bye") + frame(b"\x03\xe8", opcode=8),
    "a flood of pings": frame(b"", opcode=9) * 60,
    "a flood of questions": say(type="ping", id=37) * 30,
    "close": frame(b"\x03\xe8", opcode=8),
    "close, and then more": frame(b"\x03\xe8late", opcode=8) + frame("more") * 3,
    "close with one byte": frame(b"\x03", opcode=8),
    "close with a bad code": frame(b"\x03\xed", opcode=8),
    "half a message": frame("never", fin=False),
    "half a message and a ping": frame("never", fin=False) + frame(b"", opcode=9),
    "empty pieces": frame("", fin=False) + frame("", opcode=0, fin=False) * 9,
    "nothing to continue": frame("more", opcode=0),
    "half a frame": frame("x" * 9000)[:40],
    "most of a frame": frame("x" * 9000)[:-2],
    "too long": frame("x" * 20_000)[:60],
    "far too long": b"\x81\xff\x7f" + b"\xff" * 7,
    "binary": frame(b"\0\1\2", opcode=2),
    "not masked": frame("hello", masked=False),
    "reserved bit": frame("hello", rsv=4),
    "bad opcode": frame(b"", opcode=5),
    "not UTF-8": frame(b"\xff\xfe"),
    "a request": REQUESTS["health"],
}  # fmt: skip

FRAMES = RIGHT_FRAMES | WRONG_FRAMES
#: All samples; no name is used twice.
SAMPLES = REQUESTS | FRAMES
assert len(SAMPLES) == len(REQUESTS) + len(FRAMES)
#: Requests that a balancer forwards for a client.
FORWARDED = (
    "for a client", "a poll for a client", "for one of a crowd, by its balancer", "half a body for a client",
    "a refused upgrade for a client",
)  # fmt: skip
#: Requests after which a peer waits for news or for the server.
BUSY_REQUESTS = (
    "most of a body", "most of a long head",
    "health, forty times",
    "poll", "poll of three", "poll, then health", "events", "health, five times", "publish, thrice",
    "publish, then poll", "history from the beginning", "publish long", "publish chunked",
)  # fmt: skip
BUSY_FRAMES = ("join all", "say hello", "say a dozen things", "say something long", "ask for history")


#: A guest who has a token, and may sign out.
GUEST = "YW5uLWFubi1hbm4tYW5uLQ"
_AS_GUEST = {"Authorization": f"Bearer {GUEST}"}
#: The requests of a WebSocket's client, up to here.
UPGRADE = upgrade(headers=_AS_GUEST)
#: A few bytes of a request or of a ClientHello, and of the header that a balancer sends before.
BARELY_BEGUN, HALF_A_HEADER = "the first bytes", "half of a header"
#: Requests whose last byte comes later, if it comes.
LAST_BYTE_LATE = ("publish", "poll with a body", "events with a body")
#: What a peer has sent, by what it is then in the middle of: so that a few examples see most states.
UNDER_WAY: dict[str, bytes] = {
    "nothing": b"",
    **{name: REQUESTS[name] for name in (
        "half a head", "most of a body", "half a chunked body", "health", "health, forty times", "poll of three",
        "history from the beginning", "events from the beginning", "publish, thrice", "publish, then poll",
        "health, then close", "rooms", "more zeros than are read after a close",
    )},
    BARELY_BEGUN: REQUESTS["health"],
    HALF_A_HEADER: b"",
    **{name: REQUESTS[name] for name in LAST_BYTE_LATE},
    "a guest's poll": _poll(LOBBY, wait=3, **_AS_GUEST),
    "a guest's events": request("GET", "/rooms/ops/events", headers=_AS_GUEST),
    **{f"a guest: {name}": UPGRADE + FRAMES[name] for name in ("half a message", "most of a frame", "pings")},
    **{f"in all rooms: {name}": UPGRADE + FRAMES["join all"] + FRAMES[name] for name in (
        "typing", "ask for history", "say a dozen things", "say bye and go", "join den from the beginning",
    )},
}  # fmt: skip


def publish(room: str, *, frames: bool) -> bytes:
    """One message, as frames or over HTTP."""
    return say(type="publish", id=0, room=room, text="all at once") if frames else _post(b"all at once", room=room)


def with_cursors(wire: bytes, last: Callable[[str], int]) -> bytes:
    """The sample with the last offset of each room in place of its mark."""
    for room in ROOMS:
        wire = wire.replace(f"END-OF-{room}".encode(), b"%d" % last(room))
    return wire


def spoil(wire: bytes, edits: Iterable[Edit]) -> bytes:
    """Replace, remove or add a few bytes."""
    for at, removed, added in edits:
        start = at % (len(wire) + 1)
        wire = wire[:start] + added + wire[start + removed :]
    return wire
