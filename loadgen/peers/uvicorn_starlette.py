"""Starlette on uvicorn, with uvloop and httptools, as `uvicorn[standard]` runs it."""

import uvicorn  # type: ignore[import-not-found]
from chatroom import BACKLOG, arguments  # type: ignore[import-not-found]
from starlette_app import app  # type: ignore[import-not-found]

flags = arguments()
uvicorn.run(
    app,
    host="127.0.0.1",
    port=flags.port,
    backlog=BACKLOG,
    ws_ping_interval=flags.ping,
    ws_per_message_deflate=False,
    log_level="warning",
)
