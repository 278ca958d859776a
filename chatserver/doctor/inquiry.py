"""One node's answers about itself: readiness, version, clock, and the log that it serves.

Owns: these requests, and the trouble that each answer means. May not: write anything.
"""

import time
from contextlib import aclosing
from datetime import datetime

import msgspec
import trio

from chatserver.client.credentials import Credentials
from chatserver.client.http1 import HttpClient, Response
from chatserver.client.stream import EndedError, ForeignError, Target
from chatserver.client.wire import ProtocolError
from chatserver.doctor.facts import Node, Shards, Trouble, milliseconds

#: Seconds for all of a node's answers about itself.
PATIENCE = 10.0
#: Number of requests for the clock; the fastest answer is the most precise.
CLOCK_SAMPLES = 5

#: Errors that do not say that the doctor lacks a right. The port of a server may speak TLS only, or be that of
#: --metrics-listen, which has no rooms; a proxy answers 502 and 504 for a server that it cannot reach.
_TROUBLES = {
    400: Trouble.FOREIGN, 404: Trouble.FOREIGN, 421: Trouble.MISDIRECTED, 500: Trouble.UNAVAILABLE,
    502: Trouble.UNREACHABLE, 503: Trouble.NOT_READY, 504: Trouble.UNREACHABLE,
    **dict.fromkeys((302, 303, 307), Trouble.FOREIGN),
}  # fmt: skip


class _Ready(msgspec.Struct):
    status: str
    version: str
    log: str
    time: str
    shards: Shards | None = None


class _Room(msgspec.Struct):
    cursor: str


async def inquire(node: Node, target: Target, credentials: Credentials, room: str) -> None:
    try:
        with trio.fail_after(PATIENCE):
            async with aclosing(HttpClient(target, credentials)) as http:
                if await _ask_whether_ready(node, http):
                    await _ask_epoch(node, http, room)
    except trio.TooSlowError:
        node.fail(Trouble.UNREACHABLE, f"no answer within {PATIENCE:g} s")
    except ForeignError as ended:
        node.fail(Trouble.FOREIGN, ended.why)
    except EndedError as ended:
        node.fail(Trouble.UNREACHABLE, ended.why)
    except ProtocolError:
        node.fail(Trouble.FOREIGN, "its answers are not a chat server's")


async def _ask_whether_ready(node: Node, http: HttpClient) -> bool:
    for _ in range(CLOCK_SAMPLES):
        began, clock = time.perf_counter(), time.time()
        response = await http.request("GET", "/readyz")
        took = time.perf_counter() - began
        if response.status != 200:
            _note_refusal(node, response, "/readyz")
            return False
        ready = response.decode(_Ready)
        node.version, node.log, node.shards = ready.version, ready.log, ready.shards
        if node.answer_ms is None or milliseconds(took) < node.answer_ms:
            node.answer_ms = milliseconds(took)
            node.clock_ms = milliseconds(seconds_of(ready.time) - clock - took / 2)
            node.clock_error_ms = milliseconds(took / 2)
    return True


async def _ask_epoch(node: Node, http: HttpClient, room: str) -> None:
    response = await http.request("GET", f"/rooms/{room}")
    if response.status == 200:
        node.epoch = response.decode(_Room).cursor.partition("-")[0]
    else:
        _note_refusal(node, response, f"/rooms/{room}")


def _note_refusal(node: Node, response: Response, path: str) -> None:
    error = response.error
    trouble = _TROUBLES.get(response.status, Trouble.REFUSED)
    if error.code == "full":
        trouble = Trouble.UNAVAILABLE
    if response.status != 503 and error.code == f"http_{response.status}":  # not an error of our server's form
        node.fail(Trouble.FOREIGN, f"it answers {response.status} at {path}: {error.message}")
    else:
        node.fail(trouble, error.message)


def seconds_of(text: str) -> float:
    """A time in the server's format, as seconds since 1970. Raises ProtocolError."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise ProtocolError(f"{text!r} is no time") from error
