"""The floor: one epoll loop in Python that does the least that makes a chat.

No validation, no deadlines, no log, and no limit but one on a client's incomplete input. A slower server does
more than this one; a faster server is not written in Python.
"""

import heapq
import json
import select
import socket
import time
from itertools import count
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import chatroom  # type: ignore[import-not-found]
from bare_frames import CLOSE, PING, PONG, TEXT, accept_upgrade, frame, split  # type: ignore[import-not-found]

READ_BYTES: Final = 64 * 1024

#: Incomplete input that a client may have here: a gigabyte from each of 300 would take all memory of the machine.
MOST_BYTES: Final = 128 * 1024

STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1000\n\n"
_GONE: Final = select.EPOLLHUP | select.EPOLLERR


class Client:
    __slots__ = ("inbox", "outbox", "socket", "talks")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.inbox = b""
        self.outbox = b""
        self.talks = False  # whether it is a WebSocket


class Waiting(list["Poll"]):
    """The polls that wait for a room's next message."""

    def set(self) -> None:
        for poll in self:
            poll.answer()


class Poll:
    __slots__ = ("after", "client", "room")

    def __init__(self, client: Client, room: chatroom.Room, after: int) -> None:
        self.client: Client | None = client
        self.room = room
        self.after = after

    def answer(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            respond(client, 200, self.room.page(self.after))


flags = chatroom.arguments()
chat = chatroom.Chat(Waiting)
epoll = select.epoll()
clients: dict[int, Client] = {}
late: list[tuple[float, int, Poll]] = []  # heap: when a held poll is answered empty
order = count()


def serve() -> None:
    listener = socket.create_server(("127.0.0.1", flags.port), backlog=chatroom.BACKLOG)
    listener.setblocking(False)
    epoll.register(listener, select.EPOLLIN)
    next_ping = time.monotonic() + flags.ping
    while True:
        due = min(next_ping, late[0][0]) if late else next_ping
        for fd, mask in epoll.poll(max(due - time.monotonic(), 0)):
            if fd == listener.fileno():
                accept(listener)
            elif fd in clients:  # it may have been closed earlier in this batch
                attend(clients[fd], mask)
        while late and late[0][0] <= time.monotonic():
            heapq.heappop(late)[2].answer()
        if next_ping <= time.monotonic():
            next_ping += flags.ping
            ping_all()


def accept(listener: socket.socket) -> None:
    while True:
        try:
            connected, _ = listener.accept()
        except BlockingIOError:
            return
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clients[connected.fileno()] = Client(connected)
        epoll.register(connected, select.EPOLLIN)


def ping_all() -> None:
    ping = frame(PING, b"")
    for client in list(clients.values()):
        if client.talks:
            send(client, ping)


def attend(client: Client, mask: int) -> None:
    if mask & select.EPOLLOUT:
        rest, client.outbox = client.outbox, b""
        epoll.modify(client.socket, select.EPOLLIN)
        send(client, rest)
    if mask & (select.EPOLLIN | _GONE) and client.socket.fileno() >= 0:
        try:
            data = client.socket.recv(READ_BYTES)
        except OSError:
            data = b""
        if data:
            client.inbox += data
            listen(client)
        else:
            close(client)


def listen(client: Client) -> None:
    """Handle a client's input, and discard it if it makes no sense."""
    try:
        converse(client) if client.talks else serve_request(client)
    except (LookupError, TypeError, ValueError):
        client.inbox = b""
    if len(client.inbox) > MOST_BYTES:
        close(client)


def converse(client: Client) -> None:
    frames, client.inbox = split(client.inbox)
    for opcode, payload in frames:
        if opcode == TEXT and not payload.startswith(b"{"):  # no chat.v1: a victim of a server that echoes
            send(client, frame(TEXT, payload))
        elif opcode == TEXT:
            reply = chat.attend(client, chatroom.decode(payload))
            send(client, frame(TEXT, reply.answer.encode()))
            tell(reply.members, reply.event)
        elif opcode == PING:
            send(client, frame(PONG, payload))
        elif opcode == CLOSE:
            send(client, frame(CLOSE, payload))
            close(client)
            return


def serve_request(client: Client) -> None:
    head, found, body = client.inbox.partition(b"\r\n\r\n")
    if not found:
        return
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(fields.get("content-length", "0"))
    if len(body) < length:
        return
    client.inbox = body[length:]
    method, target, _ = first.split(" ")
    url = urlsplit(target)
    parts = url.path.split("/")
    if url.path == "/ws":
        client.talks = True
        send(client, accept_upgrade(fields["sec-websocket-key"]) + frame(TEXT, chatroom.HELLO.encode()))
    elif parts[1] != "rooms":
        respond(client, 200, chatroom.PAGE)
    elif method == "POST":
        receipt, event, members = chat.say(parts[2], chatroom.text_of(body[:length], fields.get("content-type", "")))
        tell(members, event)
        respond(client, 201, chatroom.encode(receipt))
    elif parts[3:] == ["events"]:
        chat.room(parts[2]).members.add(client)
        send(client, STREAM)
    else:
        hold(client, chat.room(parts[2]), dict(parse_qsl(url.query)))


def hold(client: Client, room: chatroom.Room, query: dict[str, str]) -> None:
    after, wait = chatroom.asked(query)
    if after is None or after != room.offset or not wait:
        respond(client, 200, room.page(after))
        return
    poll = Poll(client, room, after)
    room.news.append(poll)
    heapq.heappush(late, (time.monotonic() + wait, next(order), poll))


def tell(members: "tuple[Client, ...]", event: str) -> None:
    """Send the same bytes to all WebSockets, and the same to all event streams."""
    if members:
        framed, streamed = frame(TEXT, event.encode()), b""
        for member in members:
            if not member.talks:
                streamed = streamed or as_event(event)
            send(member, framed if member.talks else streamed)


def as_event(event: str) -> bytes:
    return f"id: {json.loads(event)['cursor']}\nevent: message\ndata: {event}\n\n".encode()


def respond(client: Client, status: int, body: str) -> None:
    payload = body.encode()
    send(client, b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%s" % (status, len(payload), payload))


def send(client: Client, data: bytes) -> None:
    """Write what the kernel takes now, and keep the rest."""
    if client.socket.fileno() < 0:
        return
    if client.outbox:
        client.outbox += data
        return
    try:
        sent = client.socket.send(data)
    except BlockingIOError:
        sent = 0
    except OSError:
        close(client)
        return
    if sent < len(data):
        client.outbox = data[sent:]
        epoll.modify(client.socket, select.EPOLLIN | select.EPOLLOUT)


def close(client: Client) -> None:
    if client.socket.fileno() >= 0:
        del clients[client.socket.fileno()]
        chat.leave(client)
        client.socket.close()


serve()
