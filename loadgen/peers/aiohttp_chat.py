"""aiohttp: its WebSocketResponse with a heartbeat, and a broadcast as in its own example, one `await` after the other.

A member that does not read holds up all members behind it.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress

import chatroom  # type: ignore[import-not-found]
from aiohttp import WSMsgType, web  # type: ignore[import-not-found]

chat = chatroom.Chat(asyncio.Event)
flags = chatroom.arguments()


async def page(_: web.Request) -> web.Response:
    return web.Response(text=chatroom.PAGE, content_type="text/html")


async def websocket(request: web.Request) -> web.WebSocketResponse:
    client = web.WebSocketResponse(heartbeat=flags.ping, compress=False)
    await client.prepare(request)
    try:
        await client.send_str(chatroom.HELLO)
        async for message in client:
            if message.type is WSMsgType.TEXT:
                reply = chat.attend(client, chatroom.decode(message.data))
                await client.send_str(reply.answer)
                await tell(reply.members, reply.event)
    finally:
        chat.leave(client)
    return client


async def tell(members: Collection[web.WebSocketResponse], event: str) -> None:
    for member in members:
        with suppress(ConnectionError):  # gone meanwhile
            await member.send_str(event)


async def publish(request: web.Request) -> web.Response:
    text = chatroom.text_of(await request.read(), request.content_type)
    receipt, event, members = chat.say(request.match_info["room"], text)
    await tell(members, event)
    return web.Response(text=chatroom.encode(receipt), status=201, content_type="application/json")


async def messages(request: web.Request) -> web.Response:
    room = chat.room(request.match_info["room"])
    after, wait = chatroom.asked(request.query)
    if after == room.offset and wait:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await room.news.wait()
    return web.Response(text=room.page(after), content_type="application/json")


app = web.Application()
app.add_routes(
    [
        web.get("/", page),
        web.get("/healthz", page),
        web.get("/ws", websocket),
        web.post("/rooms/{room}/messages", publish),
        web.get("/rooms/{room}/messages", messages),
    ]
)
web.run_app(app, host="127.0.0.1", port=flags.port, backlog=chatroom.BACKLOG, access_log=None, print=None)
