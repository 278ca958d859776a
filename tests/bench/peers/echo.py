"""WebSockets that send back each message, on several loops: `python -m tests.bench.peers.echo LOOP`.

`epoll` parses frames by hand and checks nothing; `trio` is trio-websocket; `asyncio` and `uvloop` are the library
`websockets`, the same code on either loop. Each imports only its own library, since imported objects cost time at each
garbage collection.
"""

import gc
import importlib
import select
import socket
import sys
from contextlib import suppress
from pathlib import Path

from tests.bench.peers.sockets import listen

BARE_FRAMES = Path(__file__).resolve().parents[3] / "loadgen" / "peers"
READ = 65_536


def on_epoll() -> None:
    """The floor: one read and one write for each event."""
    sys.path.insert(0, str(BARE_FRAMES))
    bare = importlib.import_module("bare_frames")
    gc.disable()
    listening, epoll = listen(blocking=False), select.epoll()
    epoll.register(listening, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    rest: dict[int, bytes] = {}
    while True:
        for number, _ in epoll.poll():
            if number == listening.fileno():
                accepted, _ = listening.accept()
                accepted.setblocking(False)
                clients[accepted.fileno()], rest[accepted.fileno()] = accepted, b""
                epoll.register(accepted, select.EPOLLIN)
                continue
            client = clients[number]
            data = client.recv(READ)
            if not data:
                del clients[number], rest[number]
                client.close()
            elif data.startswith(b"GET "):
                [key] = [line[19:] for line in data.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: ")]
                client.send(bare.accept_upgrade(key))
            else:
                frames, rest[number] = bare.split(rest[number] + data)
                client.sendall(b"".join([bare.frame(each.opcode, each.payload) for each in frames]))


def on_trio() -> None:
    """As the documentation of trio-websocket shows it."""
    import trio
    from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

    async def echo(request: WebSocketRequest) -> None:
        connection = await request.accept()
        with suppress(ConnectionClosed):
            while True:
                await connection.send_message(await connection.get_message())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, echo, "127.0.0.1", 0, None)
            print(f"listening on http://127.0.0.1:{server.port}", flush=True)

    trio.run(main)


def on_asyncio(loop: str) -> None:
    """As the documentation of websockets shows it; without compression and pings."""
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosedError

    async def echo(connection: ServerConnection) -> None:
        with suppress(ConnectionClosedError):  # the clients of a bench send no close frame
            async for message in connection:
                await connection.send(message)

    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096) as server:
            [listening] = server.sockets
            print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
            await server.serve_forever()

    importlib.import_module(loop).run(main())


if __name__ == "__main__":
    match sys.argv[1]:
        case "epoll":
            on_epoll()
        case "trio":
            on_trio()
        case loop:
            on_asyncio(loop)
