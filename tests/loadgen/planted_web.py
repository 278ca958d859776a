"""Plain servers that know nothing of chat.v1: pages over HTTP, and a WebSocket that echoes. By trio, trio-websocket.

`python -m tests.loadgen.planted_web static|echo FAULTS` serves in a process of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from loadgen.net import target
from loadgen.net.tls import KEY_UPDATE
from tests.loadgen.plants import in_process, is_crowd
from tests.support.certificates import server_context
from tests.support.ports import steady_port

#: As nginx has it; the default of many small servers would drop SYNs of a crowd.
BACKLOG = 511


@dataclass(kw_only=True)
class Site:
    """How it serves; by default well."""

    late: float = 0.0  # before each answer
    slows: float = 0.0  # from an attack's first connection on, be so much later
    stops_reading: bool = False  # from an attack's first connection on, answer no new client
    tls: bool = False  # with a certificate that nobody trusts
    dies_of_key_updates: bool = False  # end the process at the tenth of one connection
    empties: bool = False  # from then on, answer 200 with an empty page
    excuses: bool = False  # from then on, answer 200 with an error, as JSON and longer than the page
    drops_every: int = 0  # read every n-th request of a connection, and close without an answer
    repeats_every: int = 0  # echo every n-th message of a connection twice


class Static:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.attacked = False
        self._context = server_context() if site.tls else None
        if site.dies_of_key_updates:
            self._context._msg_callback = self._count_update  # type: ignore[union-attr]
        self._updates: Counter[object] = Counter()

    def _count_update(self, connection: object, _direction: str, *message: object) -> None:
        self._updates[connection] += KEY_UPDATE in message
        if self._updates[connection] == 10:
            os._exit(1)

    async def serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):  # the client left; so do we
            address, _ = stream.socket.getpeername()
            self.attacked = self.attacked or is_crowd(address)
            context = self._context
            tls = context and trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            await self._serve(tls or stream)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        if self.attacked and self.site.stops_reading:
            await trio.sleep_forever()
        rest, number = b"", 0
        while data := await stream.receive_some(65536):
            *heads, rest = (rest + data).split(b"\r\n\r\n")
            for head in heads:
                number += 1
                if self.site.drops_every and number % self.site.drops_every == 0:
                    return
                await trio.sleep(self.site.late + self.site.slows * self.attacked)
                excuse = _EMPTY * self.site.empties + _EXCUSE * self.site.excuses
                await stream.send_all((excuse if self.attacked else b"") or _answer(head))


_EXCUSE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"error":"later"}'
_EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def _answer(head: bytes) -> bytes:
    method, path, *_ = [*head.split(b" "), b"", b""]
    if method not in {b"GET", b"HEAD"}:
        return b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
    if path != b"/":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def _echo(site: Site, request: WebSocketRequest) -> None:
    peer = await request.accept()
    try:
        async with trio.open_nursery() as nursery:
            for number in count(1):
                message = await peer.get_message()
                for _ in range(2 if site.repeats_every and number % site.repeats_every == 0 else 1):
                    nursery.start_soon(_answer_late, peer, message, site.late)
    except* ConnectionClosed:
        pass  # the client left; so do we


async def _answer_late(peer: WebSocketConnection, text: str | bytes, seconds: float) -> None:
    await trio.sleep(seconds)
    await peer.send_message(text)


async def _main(kind: str, site: Site) -> None:
    async with trio.open_nursery() as nursery:
        if kind == "static":
            [listener] = await nursery.start(
                partial(trio.serve_tcp, Static(site).serve, 0, host="127.0.0.1", backlog=BACKLOG)
            )
            port = listener.socket.getsockname()[1]
        else:
            server = await nursery.start(partial(serve_websocket, partial(_echo, site), "127.0.0.1", 0, None))
            port = server.port
        print(f"{'https' if site.tls else 'http'}://127.0.0.1:{port}", flush=True)


def serving(kind: str, site: Site | None = None) -> AbstractContextManager[tuple[str, int]]:
    """Serve in a process of its own; its URL and pid."""
    return in_process("tests.loadgen.planted_web", kind, fault=site or Site())


#: The real one, where the machine has it.
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

_CONFIGURATION = """
daemon off; master_process off; pid nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[tuple[str, int]]:
    """Stock nginx with a static page; its URL and pid."""
    assert NGINX is not None
    port = steady_port()
    (folder / "index.html").write_text("hello\n")
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(port=port, root=folder))
    with subprocess.Popen([NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]) as process:
        try:
            target.find(f"http://127.0.0.1:{port}", wait=30.0)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()


def main() -> None:
    trio.run(_main, sys.argv[1], Site(**json.loads(sys.argv[2])))


if __name__ == "__main__":
    main()
