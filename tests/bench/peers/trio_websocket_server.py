"""trio-websocket's `serve_websocket`, as its documentation shows it."""

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket


async def handler(request: WebSocketRequest) -> None:
    websocket = await request.accept()
    try:
        while True:
            await websocket.get_message()
    except ConnectionClosed:
        return


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handler, "127.0.0.1", 0, None)
        print(f"listening on http://127.0.0.1:{server.port}", flush=True)


trio.run(main)
