"""`/healthz`, `/readyz`, `/metrics`: requests of operators and their programs (docs/operations.md).

Owns: the meaning of these requests. May not: count, or decide who may ask; routes.py and the listeners do.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from chatserver import __version__
from chatserver.api.answers import Answer, Later, Next, Queue, Response, given_anyway, refusal
from chatserver.api.request import Request
from chatserver.fair import do_step
from chatserver.log.interface import Log, system_ms
from chatserver.protocol import encoders
from chatserver.protocol.response import NOT_STORED, json_body
from chatserver.reasons import ErrorCode
from chatserver.shared.shards import Shards

#: Retry-After in seconds while the server is starting, draining or without its log.
READY_RETRY = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringHandlers:
    """See the module. `text` makes the body of /metrics in pieces, `text_of_all` that of all workers.

    `engine` is the log's kind, and `ready` says whether the server accepts peers and is not draining.
    """

    log: Log
    engine: str
    ready: Callable[[], bool]
    text: Callable[[], Iterator[bytes]]
    text_of_all: Callable[[], Awaitable[bytes]] | None
    shards: Shards | None

    def health(self, request: Request) -> Response:
        """`GET /healthz`: this process runs."""
        request.parameters()
        return Response(200, [json_body({"status": "ok"})])

    def readiness(self, request: Request) -> Response:
        """`GET /readyz`: whether to send traffic here, and what `chatserver doctor` compares between nodes."""
        request.parameters()
        if not self.ready():
            return refusal(ErrorCode.DRAINING, "the server is starting or stopping", READY_RETRY)
        if not self.log.reachable:
            return refusal(ErrorCode.UNAVAILABLE, "the database of its log cannot be used", READY_RETRY)
        now = encoders.time_text(system_ms())
        about: dict[str, object] = {"status": "ready", "version": __version__, "log": self.engine, "time": now}
        if self.shards is not None:  # they do not affect readiness: their data may be lost, and all nodes lack it alike
            about["shards"] = {"reachable": self.shards.reachable, "of": len(self.shards.all)}
        return Response(200, [json_body(about)])

    def metrics(self, request: Request) -> Answer:
        """`GET /metrics`: Prometheus text."""
        request.parameters()
        if self.text_of_all is not None:
            return Later(_later(self.text_of_all), given_anyway, Queue.METRICS)
        text: list[bytes] = []
        return Next(partial(_exposition, text, map(text.append, self.text())))


def _exposition(text: list[bytes], writing: Iterator[None]) -> Answer:
    """The text, when all of it is written; not in a task, since all of these may be waiting for the log."""
    if do_step(writing):
        return Next(partial(_exposition, text, writing))
    return _numbers(text)


async def _later(ask: Callable[[], Awaitable[bytes]]) -> Answer:
    return _numbers([await ask()])


def _numbers(text: list[bytes]) -> Response:
    """The answer of /metrics; a cache in front may not store it, or counters would stand still."""
    return Response(200, text, CONTENT_TYPE_LATEST, (NOT_STORED,))
