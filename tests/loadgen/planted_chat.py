"""A small chat.v1 server with planted behaviours: what loadgen is tested against.

It reads with h11 and wsproto, so that loadgen's own reading of the protocols is checked by other people's code. One
thread, one selector.
"""

import heapq
import json
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from urllib.parse import parse_qs, urlsplit

import h11
import wsproto
from wsproto import events
from wsproto.utilities import generate_accept_token

from tests.loadgen.plants import Peer, Plant, is_crowd, json_frame, text_frame

#: A message this long after the first attacker belongs to the attack: the crowd comes a moment before the phase begins.
_WELL_INTO_THE_ATTACK = 0.4


@dataclass(eq=False)
class Server:
    plant: Plant
    host: str = "127.0.0.1"
    peers: set[Peer] = field(default_factory=set)
    rooms: dict[str, list[str]] = field(default_factory=dict)
    held: list[tuple[Peer, str, int]] = field(default_factory=list)
    streams: list[tuple[Peer, str]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    attacked_at: float | None = None  # since when an attack has come
    attackers: int = 0  # connected now
    published: int = 0
    _unlucky: Peer | None = None
    _untold: list[Callable[[], None]] = field(default_factory=list)
    _by_address: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    accepted_from: set[str] = field(default_factory=set)
    unfinished: list[bytes] = field(default_factory=list)  # requests that ran into the deadline
    idle: threading.Event = field(default_factory=threading.Event)  # nobody is connected

    def __post_init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._hoard: list[bytearray] = []
        self._hoard_of_files: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, 0), family=family, backlog=self.plant.backlog)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"
        self._stop_read, self._stop_write = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._stop_read, selectors.EVENT_READ, None)
        if self.plant.stalls_every is not None:
            self._later(self.plant.stalls_every, self._stall)

    def _stall(self) -> None:
        assert self.plant.stalls_every is not None
        time.sleep(self.plant.stall)
        self._later(self.plant.stalls_every, self._stall)

    def stop(self) -> None:
        self._stop_write.send(b"x")

    def serve(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            for peer in list(self.peers):
                self._close(peer)
            for hoarded in self._hoard_of_files:
                hoarded.close()
            self._listener.close()
            self._selector.close()

    def close(self) -> None:
        self._stop_read.close()
        self._stop_write.close()

    def _turn(self) -> bool:
        timeout = max(self._timers[0][0] - time.monotonic(), 0) if self._timers else None
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                return False
            key.data()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()
        return True

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), action))

    def _accept(self) -> None:
        for _ in range(64):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.plant.send_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.plant.send_buffer)
            peer = Peer(sock, address=address[0])
            self._count(peer, 1)
            is_attacker = is_crowd(peer.address)
            is_known = peer.address in self.accepted_from
            if is_attacker and self.plant.accepts_every:
                time.sleep(self.plant.accepts_every)
            if 0 < self.plant.per_address < self._by_address[peer.address]:
                self._forget(peer)
                continue
            self.idle.clear()
            self.accepted += 1
            if is_attacker and self.attacked_at is None:
                self._attack_begins()
            closed_to_all = self.attacked_at is not None and self.plant.locks_out
            closed_to_newcomers = self.attackers and self.plant.no_newcomers and not is_attacker
            closed_to_strangers = self.attacked_at is not None and self.plant.knows_its_own
            if closed_to_all or closed_to_newcomers or (closed_to_strangers and not is_attacker and not is_known):
                self._forget(peer)
                continue
            self.accepted_from.add(peer.address)
            if is_attacker and self.plant.leaks_descriptors:
                self._hoard_of_files.append(sock.dup())
            if is_attacker and self.plant.keeps_descriptors:
                self._later(self.plant.keeps_descriptors, sock.dup().close)
            if is_attacker and self.plant.leak_bytes:
                self._hoard.append(bytearray(b"x" * self.plant.leak_bytes))
            self._selector.register(sock, selectors.EVENT_READ, partial(self._read, peer))
            if self.plant.head_deadline is not None:
                self._later(self.plant.head_deadline, partial(self._head_late, peer))

    def _forget(self, peer: Peer) -> None:
        """Close a connection of which nothing is known yet."""
        self._count(peer, -1)
        peer.sock.close()

    def _count(self, peer: Peer, change: int) -> None:
        """Add a connection to those that there are, or take it away."""
        (self.peers.add if change > 0 else self.peers.remove)(peer)
        self._by_address[peer.address] += change
        self.attackers += change * is_crowd(peer.address)

    def _attack_begins(self) -> None:
        self.attacked_at = time.monotonic()
        if self.plant.locks_out:
            for peer in [each for each in self.peers if each.sock.fileno() in self._selector.get_map()]:
                self._close(peer)

    def _head_late(self, peer: Peer) -> None:
        if peer in self.peers and not peer.has_asked:
            self.unfinished.append(peer.data)
            if self.plant.says_408:
                self._write(peer, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._close(peer)

    def _close(self, peer: Peer, code: int = 0) -> None:
        if peer in self.peers and peer.ws and code:
            self._write(peer, peer.ws.send(events.CloseConnection(code)))
        if peer in self.peers:
            self._count(peer, -1)
            self._selector.unregister(peer.sock)
            if self.plant.keeps_closed:
                self._later(self.plant.keeps_closed, peer.sock.dup().close)
            peer.sock.close()
            if not self.peers:
                self.idle.set()

    def _write(self, peer: Peer, data: bytes) -> None:
        try:
            sent = peer.sock.send(data)
        except OSError:
            sent = 0
        if sent < len(data):  # gone, or too slow for us: this server keeps nothing for a client
            # a reset, so that the peer learns of it now, and not when it has read everything that came before
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._close(peer)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._close(peer)
        elif peer.ws is not None:
            self._frames(peer, data)
        else:
            peer.data += data
            if self.plant.dies_of and self.plant.dies_of.encode() in peer.data:
                raise SystemExit("planted: it dies")
            while peer in self.peers and b"\r\n\r\n" in peer.data and self._request(peer):
                if self.plant.refuses_pipelined and peer.data and peer in self.peers:
                    self._answer(peer, 400, {})
                    self._close(peer)

    def _request(self, peer: Peer) -> bool:
        """Answer a request; whether it was complete."""
        try:
            asked = peer.take_request()
        except h11.RemoteProtocolError:
            self._answer(peer, 200 if self.plant.takes_anything else 400, {})
            self._close(peer)
            return True
        if asked is None:
            return False  # the body is not complete
        request, body = asked
        target = urlsplit(request.target.decode())
        self.requests.append(request.target.decode())
        query = parse_qs(target.query)
        if self.plant.refuse:
            self._answer(peer, 503, {})
        elif self.plant.only_websockets and self.attackers and not peer.has_asked and "/rooms/" in target.path:
            self._close(peer)
        elif target.path == "/.well-known/loadgen-consent" and self.plant.consent is not None:
            length = len(self.plant.consent)
            self._write(peer, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, self.plant.consent))
        elif target.path in {"/ws", "/echo"} and b"sec-websocket-key" not in dict(request.headers):
            self._answer(peer, 200 if self.plant.takes_anything else 400, {})
        elif target.path in {"/ws", "/echo"}:
            peer.echoes = target.path == "/echo"
            self._upgrade(peer, dict(request.headers))
        elif target.path == "/":
            peer.has_asked = True
            self._answer(peer, self.plant.page, {"page": "here"})
        elif request.method == b"POST":
            self._post(peer, target.path.split("/")[2], body.decode())
        elif target.path.endswith("/messages"):
            self._messages(peer, target.path.split("/")[2], query)
        elif target.path.endswith("/events"):
            peer.has_asked = True
            self.streams.append((peer, target.path.split("/")[2]))
            self._write(peer, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n\n")
        else:
            self._answer(peer, 404, {})
        return True

    def _post(self, peer: Peer, room: str, text: str) -> None:
        peer.has_asked = True
        self._answer(peer, 201, {"room": room, "offset": len(self.rooms.setdefault(room, [])) + 1})
        self._publish(room, text)

    def _answer(self, peer: Peer, status: int, body: object, *, chunked: bool = False) -> None:
        closing = b"Connection: close\r\n" if self.plant.close_after_poll else b""
        payload = json.dumps(body).encode()
        head = b"HTTP/1.1 %d X\r\n%s" % (status, closing)
        if chunked:
            half = len(payload) // 2
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (payload[:half], payload[half:]))
            self._write(peer, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        else:
            self._write(peer, head + b"Content-Length: %d\r\n\r\n%s" % (len(payload), payload))
        if closing:
            self._close(peer)

    def _page(self, room: str, after: int, *, is_history: bool = False) -> dict[str, object]:
        messages = self.rooms.setdefault(room, [])
        if is_history and self.attacked_at is not None and self.plant.forgets and self.plant.forgets in room:
            messages = messages[: len(messages) // 2] + ["" for _ in messages[len(messages) // 2 :]]
        forgotten = is_history and self.attacked_at is not None and self.plant.starts_anew
        messages = [] if forgotten else messages
        found = [{"room": room, "offset": n + 1, "text": text} for n, text in enumerate(messages)][after:]
        return {"room": room, "cursor": f"e-{len(messages)}", "recovered": not forgotten, "messages": found}

    def _messages(self, peer: Peer, room: str, query: dict[str, list[str]]) -> None:
        after = int(query.get("after", ["e-0"])[0].rpartition("-")[2])
        page = self._page(room, after, is_history="wait" not in query)
        peer.has_asked = True
        is_read_again = "wait" not in query and "limit" in query and self.attacked_at is not None
        if is_read_again and self.plant.cannot_read:
            self._answer(peer, self.plant.cannot_read, {})
        elif is_read_again and self.plant.reads_late:
            self._later(self.plant.reads_late, partial(self._answer, peer, 200, page))
        elif "wait" in query and not page["messages"]:
            held = (peer, room, after)
            self.held.append(held)
            self._later(float(query["wait"][0]), lambda: self._release(held))
        else:
            self._answer(peer, 200, page, chunked="wait" in query)

    def _release(self, held: tuple[Peer, str, int]) -> None:
        if held in self.held:
            self.held.remove(held)
            peer, room, after = held
            if peer in self.peers:
                self._answer(peer, 200, self._page(room, after), chunked=True)

    def _upgrade(self, peer: Peer, headers: dict[bytes, bytes]) -> None:
        accept = generate_accept_token(headers[b"sec-websocket-key"])
        peer.ws = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
        peer.has_asked = True
        self._write(
            peer,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept,
        )
        if not peer.echoes:
            self._write(peer, json_frame({"type": "hello", "session": "s"}))

    def _frames(self, peer: Peer, data: bytes) -> None:
        assert peer.ws is not None
        peer.ws.receive_data(data)
        for event in peer.ws.events():
            if isinstance(event, events.TextMessage):
                peer.text += event.data  # a read may end in the middle of a message
                if event.message_finished:
                    self._said(peer, peer.text)
                    peer.text = ""
            elif isinstance(event, events.CloseConnection):
                self._write(peer, peer.ws.send(event.response()))
                self._close(peer)
                return

    def _said(self, peer: Peer, text: str) -> None:
        if peer.echoes:
            self._write(peer, text_frame(text))
        else:
            self._message(peer, json.loads(text))

    def _message(self, peer: Peer, message: dict[str, object]) -> None:
        if message["type"] == "join":
            if message["room"] != self.plant.unanswered_room:
                late = self.plant.resumes_late if "after" in message else 0.0
                self._later(late, partial(self._join, peer, str(message["room"]), str(message.get("after", ""))))
        elif message["type"] in self.plant.knows:
            self._publication(peer, message)
        else:
            self._write(peer, json_frame({"type": "error", "id": message.get("id"), "code": "unknown_type"}))

    def _join(self, peer: Peer, room: str, after: str) -> None:
        if peer in self.peers:
            peer.room = room
            cursor = int(after.rpartition("-")[2] or len(self.rooms.get(room, []))) + self.plant.skips
            self._write(peer, json_frame({"type": "joined", "id": -1, **self._page(room, cursor)}))
            if self.plant.close_members_after is not None and not after:
                self._later(self.plant.close_members_after, partial(self._close, peer, self.plant.closes_with))

    def _publication(self, peer: Peer, message: dict[str, object]) -> None:
        self.published += 1
        peer.published += 1
        if self.plant.stall_on_text is not None and self.plant.stall_on_text in str(message["text"]):
            self.plant.stall_on_text = None
            time.sleep(self.plant.stall)
        if self.plant.fails_one and peer.is_established and self._is_well_attacked():
            self.plant.fails_one = False
            self._write(peer, json_frame({"type": "error", "id": message["id"], "code": "oops"}))
            return
        silent = bool(self.plant.drop_every) and self.published % self.plant.drop_every == 0
        silent = silent or (message["type"] == "edit" and self.plant.loses_edits)
        peer.told_at = max(time.monotonic() + self._delay(peer), peer.told_at)  # no message overtakes another
        tell: Callable[[], None] = partial(self._tell, peer, message, silent=silent)
        heapq.heappush(self._timers, (peer.told_at, next(self._order), tell))

    def _delay(self, peer: Peer) -> float:
        """How late its message is acknowledged."""
        if self.attacked_at is None:
            return self.plant.delay
        if self.plant.one_waits and peer.is_established:
            self._unlucky = self._unlucky or peer  # for ever
        delay = self.plant.one_waits if peer is self._unlucky else self.plant.delay
        return delay if self.attackers else delay + self.plant.slow_afterwards

    def _is_well_attacked(self) -> bool:
        return self.attacked_at is not None and time.monotonic() - self.attacked_at > _WELL_INTO_THE_ATTACK

    def _tell(self, author: Peer, message: dict[str, object], *, silent: bool) -> None:
        if author in self.peers and not (self.attackers and self.plant.acknowledges_nothing):
            offset = self.plant.one_offset or len(self.rooms.get(author.room, [])) + 1
            receipt = json_frame({"type": "ack", "id": message["id"], "room": author.room, "offset": offset})
            self._write(author, receipt * (1 + self.plant.acknowledges_twice))
        if not silent:
            if message["type"] == "edit":
                self.rooms[author.room][int(str(message["offset"])) - 1] = str(message["text"])
            alone = author if self.plant.deaf_every and self.published % self.plant.deaf_every == 0 else None
            publish = partial(self._publish, author.room, str(message["text"]), alone, author)
            if self.plant.reverses:
                self._untold.append(publish)
                self._later(self.plant.reverses, lambda: self._untold.pop()())  # noqa: PLW0108  the last one then
            else:
                self._later(self.plant.echo_delay, publish) if self.plant.echo_delay else publish()

    def _publish(self, where: str, text: str, alone: Peer | None = None, author: Peer | None = None) -> None:
        self.rooms.setdefault(where, []).append(text)
        told: dict[str, object] = {"type": "message", "text": text, "cursor": f"e-{len(self.rooms[where])}"}
        told["room"] = "" if self.plant.tells_everybody else where
        told |= {"offset": self.plant.one_offset} if self.plant.one_offset else {}
        its_own = json_frame(told)
        if self.plant.mislabels:
            told["room"] = "another"
        repeats = self.plant.repeats_every and len(self.rooms[where]) % self.plant.repeats_every == 0
        again = json_frame({**told, "text": self.rooms[where][-2]} if repeats else told)
        for peer in list(self.peers):
            is_told = peer.room == where or (self.attackers and self.plant.tells_everybody)
            if peer.ws is not None and not peer.echoes and is_told and alone in {None, peer}:
                write = partial(self._write, peer, its_own if peer is author else again)
                self._later(
                    self.plant.others_later, write
                ) if self.plant.others_later and peer is not author else write()
        for held in [held for held in self.held if held[1] == where]:
            self._release(held)
        for peer, room in self.streams:
            if room == where and peer in self.peers:
                self._write(peer, b"event: message\ndata: %s\n\n" % json.dumps(told).encode())
