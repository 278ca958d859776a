"""The sockets that a server listens on: one for each --host, and one for --metrics-listen.

Owns: binding them as the settings say, the error when that fails, and their addresses as URLs. May not: accept.

Several workers have a socket each for one address (SO_REUSEPORT), all made here, before there is a worker. A worker
that ends leaves its socket and the queue of peers in it to the next, unless that cannot start.
"""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain

import structlog

from chatserver.exits import STANDARD_OUTPUT, await_reader, complain, drop_output
from chatserver.net.listener import bind
from chatserver.settings.fields import Settings
from chatserver.settings.forms import listen

_log = structlog.get_logger("chatserver")

#: What to do about an error of the system, where it can be said.
_REMEDIES = {
    errno.EADDRINUSE: "; stop the program that listens there, or choose another port",
    errno.EADDRNOTAVAIL: "; choose an address of this machine, or 0.0.0.0 for all of them",
    errno.EACCES: "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
    socket.EAI_NONAME: "; a host is a name or an address, without scheme and port",
}


class CannotListenError(Exception):
    """An address that cannot be bound; says which, and why."""


@dataclass(frozen=True, slots=True)
class Listening:
    """What is bound: `workers[n]` are the sockets of one worker, one for each --host."""

    workers: list[list[socket.socket]]
    operators: socket.socket | None

    def refuse(self, worker: int) -> None:
        """Let the kernel give the newcomers of a worker to the others, until the next one there listens again."""
        for each in self.workers[worker]:
            # Once only: Linux would shut down all that are accepted after the second time. macOS does not allow it.
            if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all. Harmless the second time."""
        for each in chain(*self.workers, [] if self.operators is None else [self.operators]):
            each.close()

    def urls(self, settings: Settings) -> list[str]:
        """The addresses for clients."""
        return [_url(settings, host, bound) for host, bound in zip(settings.host, self.workers[0], strict=True)]

    def operators_url(self, settings: Settings) -> str:
        """The address of --metrics-listen, or an empty text."""
        if self.operators is None:
            return ""
        return _url(settings, listen(settings.metrics_listen)[0], self.operators)


def announce(addresses: Sequence[str], metrics_address: str) -> None:
    """Print the addresses for clients, as `serve --help` promises, and log the one for operators."""
    try:
        await_reader(STANDARD_OUTPUT)
        for address in addresses:
            print(f"listening on {address}", flush=True)  # noqa: T201
    except OSError as error:  # a full disk, a pipe that nobody reads: clients can be served all the same
        drop_output()
        complain(f"standard output: {error.strerror}")
    if metrics_address:
        _log.info("metrics_listening", address=metrics_address)


def bind_all(settings: Settings, stack: ExitStack) -> Listening:
    """Bind everything; `stack` closes it. Raises CannotListenError."""

    def bind_one(host: str, port: int, *, flag: str = "", reuse_port: bool = False) -> socket.socket:
        try:
            bound = bind(host, port, send_buffer=settings.send_buffer, reuse_port=reuse_port)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            remedy = _REMEDIES.get(error.errno or 0, "") if isinstance(error, OSError) else ""
            raise CannotListenError(f"{flag}cannot listen on {host} port {port}: {why}{remedy}") from error
        return stack.enter_context(bound)

    def for_each_worker(host: str) -> list[socket.socket]:
        if settings.workers == 1:
            return [bind_one(host, settings.port)]
        # A given port without SO_REUSEPORT, with which ours would join the sockets of another server with workers, and
        # take half its clients. One that the kernel chooses is bound by its number, or `refuse` would lose it.
        with bind_one(host, settings.port, reuse_port=not settings.port) as first:
            port = first.getsockname()[1]
            if settings.port:
                first.close()
            return [bind_one(host, port, reuse_port=True) for _ in range(settings.workers)]

    by_host = [for_each_worker(host) for host in settings.host]
    operators = None
    if settings.metrics_listen:
        operators = bind_one(*listen(settings.metrics_listen), flag="--metrics-listen: ")
    return Listening([list(sockets) for sockets in zip(*by_host, strict=True)], operators)


def _url(settings: Settings, host: str, bound: socket.socket) -> str:
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://{shown}:{bound.getsockname()[1]}"
