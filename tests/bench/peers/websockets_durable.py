"""`websockets` on asyncio (no compression) with rooms in chat.v1, and with a log that is as durable as ours.

A message is acknowledged and delivered once SQLite has it on disk (`synchronous=FULL`, in a thread). Messages that
arrive meanwhile share the next commit, which begins INTERVAL after the last one or later, as ours does. It has no
limits, no idempotency keys, no history and no search index. With the argument `nothing` it stores nothing.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from websockets.asyncio.server import ServerConnection, broadcast, serve

#: Seconds between the beginnings of two commits, as in chatserver/log/database.py.
INTERVAL = 0.001


class Room:
    def __init__(self) -> None:
        self.offset = 0
        self.members: set[ServerConnection] = set()


class Durable:
    """The log: a file, and the messages that wait for the next commit."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE messages (room, offset, text, PRIMARY KEY (room, offset)) WITHOUT ROWID")
        self._waiting: list[tuple[tuple[str, int, str], asyncio.Future[None]]] = []
        self._came = asyncio.Event()

    async def store(self, room: str, offset: int, text: str) -> None:
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append(((room, offset, text), stored))
        self._came.set()
        await stored

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await self._came.wait()
            await asyncio.sleep(max(began + INTERVAL - loop.time(), 0.0))
            began = loop.time()
            self._came.clear()
            group, self._waiting = self._waiting, []
            await loop.run_in_executor(None, self._commit, [message for message, _ in group])
            for _, stored in group:
                stored.set_result(None)

    def _commit(self, messages: list[tuple[str, int, str]]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO messages VALUES (?, ?, ?)", messages)
        self._database.execute("COMMIT")


async def main(folder: Path, *, durable: bool) -> None:
    rooms: defaultdict[str, Room] = defaultdict(Room)
    log = Durable(folder / "log.db") if durable else None

    async def handler(connection: ServerConnection) -> None:
        await connection.send('{"type":"hello","protocol":"chat.v1"}')
        async for text in connection:
            said = json.loads(text)
            name = said["room"]
            room = rooms[name]
            if said["type"] == "join":
                room.members.add(connection)
                await connection.send(json.dumps({"type": "joined", "id": said["id"], "room": name}))
                continue
            room.offset += 1
            place = {"room": name, "offset": room.offset}
            if log is not None:
                await log.store(name, room.offset, said["text"])
            await connection.send(json.dumps({"type": "ack", "id": said["id"], **place}))
            broadcast(room.members, json.dumps({"type": "message", **place, "text": said["text"]}))

    async with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096) as server:
        host, port = next(iter(server.sockets)).getsockname()
        print(f"listening on http://{host}:{port}", flush=True)
        if log is not None:
            await log.run()
        await server.serve_forever()


with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as folder:
    asyncio.run(main(Path(folder), durable=sys.argv[1:] != ["nothing"]))
