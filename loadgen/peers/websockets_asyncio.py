"""The `websockets` library on asyncio, with its own `broadcast`.

broadcast() never waits: the server buffers for a slow client without bound.
"""

import asyncio
from http import HTTPStatus

from chatroom import BACKLOG, HELLO, PAGE, Chat, arguments, decode  # type: ignore[import-not-found]
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

chat = Chat(asyncio.Event)


async def handler(connection: ServerConnection) -> None:
    try:
        await connection.send(HELLO)
        async for text in connection:
            reply = chat.attend(connection, decode(text))
            await connection.send(reply.answer)
            if reply.event:
                broadcast(reply.members, reply.event)
    finally:
        chat.leave(connection)


def page(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/ws":
        return None
    return connection.respond(HTTPStatus.OK, PAGE)


async def main() -> None:
    flags = arguments()
    async with serve(
        handler,
        "127.0.0.1",
        flags.port,
        process_request=page,
        ping_interval=flags.ping,
        compression=None,
        backlog=BACKLOG,
    ) as server:
        await server.serve_forever()


asyncio.run(main())
