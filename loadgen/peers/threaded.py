"""A thread for each connection, from the standard library alone: `http.server`, and WebSockets by hand.

There are no timeouts, because `http.server` has none. With `--workers` the threads are a pool of that size, as in
Apache (256), Tomcat (200) or gunicorn. Who speaks in a room waits until the last message there is with all members, or
they would get the two in any order.
"""

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chatroom  # type: ignore[import-not-found]
from bare_frames import CLOSE, PING, PONG, TEXT, accept_upgrade, frame, unmask  # type: ignore[import-not-found]

flags = chatroom.arguments()
chat = chatroom.Chat(threading.Event)
speaking = threading.Lock()  # the rooms are shared by all threads
turns = defaultdict[str, threading.Lock](threading.Lock)  # of those who speak in a room


class Member:
    """A WebSocket that several threads write to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._writing = threading.Lock()

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame, and wait until the kernel has taken it."""
        with self._writing:
            self._connection.sendall(frame(opcode, payload))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    members: set[Member] = set()  # noqa: RUF012  shared by all handlers on purpose

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  the name is http.server's
        """Log nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/ws":
            self._talk()
        elif url.path.startswith("/rooms/"):
            self._poll(url.path.split("/")[2], dict(parse_qsl(url.query)))
        else:
            self._answer(200, chatroom.PAGE)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        text = chatroom.text_of(body, self.headers.get("Content-Type", ""))
        name = self.path.split("/")[2]
        with turns[name]:
            with speaking:
                receipt, event, members = chat.say(name, text)
            tell(members, event)
        self._answer(201, chatroom.encode(receipt))

    def _answer(self, status: int, text: str) -> None:
        payload = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _poll(self, name: str, query: dict[str, str]) -> None:
        after, wait = chatroom.asked(query)
        with speaking:
            room = chat.room(name)
            news, waits = room.news, after == room.offset
        if waits and wait:
            news.wait(wait)
        with speaking:
            page = room.page(after)
        self._answer(200, page)

    def _talk(self) -> None:
        self.close_connection = True
        self.wfile.write(accept_upgrade(self.headers["Sec-WebSocket-Key"]))
        member = Member(self.connection)
        self.members.add(member)
        try:
            member.send(TEXT, chatroom.HELLO.encode())
            self._converse(member)
        except OSError:
            return
        finally:
            self.members.discard(member)
            with speaking:
                chat.leave(member)

    def _converse(self, member: Member) -> None:
        while head := self.rfile.read(2):
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(self.rfile.read(2 if size == 126 else 8))
            payload = unmask(self.rfile.read(4), self.rfile.read(size))
            opcode = head[0] & 0x0F
            if opcode == CLOSE:
                member.send(CLOSE, payload)
                return
            if opcode == PING:
                member.send(PONG, payload)
            elif opcode == TEXT:
                said = chatroom.decode(payload)
                with turns[said.get("room", "")]:
                    with speaking:
                        reply = chat.attend(member, said)
                    member.send(TEXT, reply.answer.encode())
                    tell(reply.members, reply.event)


def tell(members: Collection[Member], event: str) -> None:
    for member in members:
        with suppress(OSError):  # gone meanwhile
            member.send(TEXT, event.encode())


def heartbeat() -> None:
    while True:
        time.sleep(flags.ping)
        for member in list(Handler.members):
            with suppress(OSError):
                member.send(PING, b"")


class Server(ThreadingHTTPServer):
    """A new thread for each connection; with `--workers`, the next free one of a pool."""

    request_queue_size = chatroom.BACKLOG
    pool = ThreadPoolExecutor(flags.workers) if flags.workers else None

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.pool is None:
            super().process_request(request, client_address)
        else:
            self.pool.submit(self.process_request_thread, request, client_address)


threading.Thread(target=heartbeat, daemon=True).start()
Server(("127.0.0.1", flags.port), Handler).serve_forever()
