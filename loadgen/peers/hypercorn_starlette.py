"""Starlette on hypercorn, on trio."""

import trio
from chatroom import BACKLOG, arguments  # type: ignore[import-not-found]
from hypercorn.config import Config  # type: ignore[import-not-found]
from hypercorn.trio import serve  # type: ignore[import-not-found]
from starlette_app import app  # type: ignore[import-not-found]

flags = arguments()
config = Config()
config.bind = [f"127.0.0.1:{flags.port}"]
config.backlog = BACKLOG
config.websocket_ping_interval = flags.ping
config.loglevel = "warning"
trio.run(serve, app, config)
