"""`websockets.broadcast` (asyncio, no compression) to everybody connected, as fast as they take it.

`flood SECONDS TEXT` answers `done BROADCASTS`. broadcast() does not wait for anybody, so what a slow client has not
taken would pile up here: it waits while anyone has more than `BEHIND` bytes to go, looking every `LOOK` broadcasts.
"""

import asyncio
import sys
import time

from websockets.asyncio.server import ServerConnection, broadcast, serve

BEHIND = 1 << 20
LOOK = 50


async def main() -> None:
    members: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        members.add(connection)
        try:
            await connection.wait_closed()
        finally:
            members.discard(connection)

    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096) as server:
        host, port = next(iter(server.sockets)).getsockname()
        print(f"listening on http://{host}:{port}", flush=True)
        while line := (await lines.readline()).decode().split():
            print("done", await flood(members, float(line[1]), line[2]), flush=True)


async def flood(members: set[ServerConnection], seconds: float, text: str) -> int:
    end = time.perf_counter() + seconds
    count = 0
    while time.perf_counter() < end:
        broadcast(members, text)
        count += 1
        await asyncio.sleep(0)
        if count % LOOK == 0:
            await taken(members, BEHIND)
    await taken(members, 0)
    return count


async def taken(members: set[ServerConnection], most: int) -> None:
    """Wait until no member has more unsent bytes; transports have no event for that."""
    while max(member.transport.get_write_buffer_size() for member in members) > most:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


asyncio.run(main())
