"""trio-websocket, as its documentation shows it: a task for each client and one for its heartbeat.

A broadcast starts a task for each member, so that no member waits behind a slow one; the publisher waits for all, and
the room's next message for the publisher, or members would get the two in any order.
"""

from collections import defaultdict

import trio
from chatroom import HELLO, Chat, arguments, decode  # type: ignore[import-not-found]
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

#: Seconds for a pong, as in `websockets`.
PONG_SECONDS = 20.0

chat = Chat(trio.Event)
turns = defaultdict[str, trio.Lock](trio.Lock)  # of those who speak in a room
flags = arguments()


async def handler(request: WebSocketRequest) -> None:
    connection = await request.accept()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heartbeat, connection)
            await converse(connection)
    except* (ConnectionClosed, trio.TooSlowError):
        pass
    finally:
        chat.leave(connection)


async def heartbeat(connection: WebSocketConnection) -> None:
    """Ping for ever; raise if there is no pong."""
    while True:
        await trio.sleep(flags.ping)
        with trio.fail_after(PONG_SECONDS):
            await connection.ping()


async def converse(connection: WebSocketConnection) -> None:
    await connection.send_message(HELLO)
    while True:
        said = decode(await connection.get_message())
        async with turns[said.get("room", "")]:
            reply = chat.attend(connection, said)
            await connection.send_message(reply.answer)
            if reply.event:
                async with trio.open_nursery() as nursery:
                    for member in reply.members:
                        nursery.start_soon(tell, member, reply.event)


async def tell(member: WebSocketConnection, event: str) -> None:
    try:
        await member.send_message(event)
    except ConnectionClosed:
        return


async def main() -> None:
    await serve_websocket(handler, "127.0.0.1", flags.port, ssl_context=None)


trio.run(main)
