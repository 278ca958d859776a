"""A real server in a process of its own, for the browser tests.

Owns: starting, killing and restarting the server on one port and one log, and a second site. May not: know a browser.
"""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from websockets.sync.client import connect

from tests.support.forking import Forked, fork
from tests.support.ports import steady_port

END_DEADLINE = 30.0  # s until a server that was told to end has ended; a busy machine is slow
#: What a server imports when it starts.
_NEEDS = ("chatserver.server",)
#: Ports of servers that have ended. The next one takes the latest, where the windows have the page's modules already.
_ports: list[int] = []


class Server:
    """`chatserver serve` on one port, also after a restart."""

    def __init__(self, directory: Path, *, log: str = "", flags: Sequence[str] = ()) -> None:
        self._directory = directory
        self._log = log or f"sqlite:{directory / 'chat.db'}"
        self._flags = flags
        self._port = _ports.pop() if _ports else steady_port()
        self._process: Forked | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        assert self._process is None
        arguments = ["serve", "--port", str(self._port), "--log", self._log, "--quiet", *self._flags]
        told, its_output = os.pipe()
        self._output = os.fdopen(told)
        with (self._directory / "server.err").open("a") as errors:
            self._process = fork(
                "chatserver.cli", *arguments, stdin=0, stdout=its_output, stderr=errors.fileno(), needs=_NEEDS
            )
        os.close(its_output)
        line = self._output.readline()
        prefix = "listening on http://127.0.0.1:"
        assert line.startswith(prefix), (line, (self._directory / "server.err").read_text())
        self._port = int(line.removeprefix(prefix))

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._reap()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._reap()

    def end(self) -> None:
        """Stop it for good."""
        self.stop()
        _ports.append(self._port)

    def read_keys_again(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def _reap(self) -> None:
        assert self._process is not None
        self._output.close()
        self._process.wait(timeout=END_DEADLINE)
        self._process = None

    def messages(self, room: str) -> list[dict[str, Any]]:
        """The messages in the log."""
        with urllib.request.urlopen(f"{self.url}/rooms/{quote(room)}/messages?limit=200") as answer:
            found: list[dict[str, Any]] = json.load(answer)["messages"]
            return found

    def publish(self, room: str, *texts: str) -> None:
        """Publish as a guest without a window. Over a WebSocket, as 100 HTTP requests would take 0.1 s of CPU."""
        url = f"ws{self.url.removeprefix('http')}/ws"
        with connect(url, compression=None, max_queue=None, open_timeout=None, ping_interval=None) as socket:
            for number, text in enumerate(texts):
                socket.send(json.dumps({"type": "publish", "id": number, "room": room, "text": text}))
            answers = filter(lambda message: "id" in message, map(json.loads, socket))
            assert [answer["type"] for answer in islice(answers, len(texts))] == ["ack"] * len(texts)


@contextmanager
def another_site(handler: type[BaseHTTPRequestHandler] = BaseHTTPRequestHandler) -> Iterator[str]:
    """The origin of another site. By default it serves the error page of the library."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{site.server_port}"
        finally:  # a thread that is left keeps the interpreter from ending
            site.shutdown()
            thread.join()


@contextmanager
def serving(directory: Path, *, log: str = "", flags: Sequence[str] = ()) -> Iterator[Server]:
    """A server that is stopped at the end."""
    server = Server(directory, log=log, flags=flags)
    server.start()
    try:
        yield server
    finally:
        server.end()
