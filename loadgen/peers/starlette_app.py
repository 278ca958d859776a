"""The Starlette application that uvicorn and hypercorn serve. Not a peer itself.

Events and locks come from anyio, so that it runs on asyncio and on trio. Who speaks in a room waits until the last
message there is with all members, or on trio they would get the two in any order.
"""

from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from functools import partial

import anyio  # type: ignore[import-not-found, unused-ignore]  # only where a dependency of a tool has it
from chatroom import HELLO, PAGE, Chat, asked, decode, encode, text_of  # type: ignore[import-not-found]
from starlette.applications import Starlette  # type: ignore[import-not-found]
from starlette.requests import Request  # type: ignore[import-not-found]
from starlette.responses import HTMLResponse, Response  # type: ignore[import-not-found]
from starlette.routing import Route, WebSocketRoute  # type: ignore[import-not-found]
from starlette.websockets import WebSocket, WebSocketDisconnect  # type: ignore[import-not-found]

chat = Chat(anyio.Event)
turns = defaultdict[str, anyio.Lock](partial(anyio.Lock, fast_acquire=True))  # of those who speak in a room


async def page(_: Request) -> Response:
    return HTMLResponse(PAGE)


async def websocket(client: WebSocket) -> None:
    await client.accept()
    try:
        await client.send_text(HELLO)
        async for text in client.iter_text():
            said = decode(text)
            async with turns[said.get("room", "")]:
                reply = chat.attend(client, said)
                await client.send_text(reply.answer)
                await tell(reply.members, reply.event)
    except WebSocketDisconnect:
        return
    finally:
        chat.leave(client)


async def tell(members: Collection[WebSocket], event: str) -> None:
    """Send to one member after the other, as is usual with Starlette."""
    for member in members:
        with suppress(WebSocketDisconnect, RuntimeError):  # gone meanwhile; Starlette raises either
            await member.send_text(event)


async def publish(request: Request) -> Response:
    text = text_of(await request.body(), request.headers.get("content-type", ""))
    name = request.path_params["room"]
    async with turns[name]:
        receipt, event, members = chat.say(name, text)
        await tell(members, event)
    return Response(encode(receipt), status_code=201, media_type="application/json")


async def messages(request: Request) -> Response:
    room = chat.room(request.path_params["room"])
    after, wait = asked(request.query_params)
    if after == room.offset and wait:
        with anyio.move_on_after(wait):
            await room.news.wait()
    return Response(room.page(after), media_type="application/json")


app = Starlette(
    routes=[
        Route("/", page),
        Route("/healthz", page),
        WebSocketRoute("/ws", websocket),
        Route("/rooms/{room}/messages", publish, methods=["POST"]),
        Route("/rooms/{room}/messages", messages),
    ]
)
