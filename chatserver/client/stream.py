"""The byte stream under a WebSocket: its address, connecting, liveness, and closing it whatever happens above.

Owns: `Target`, the one form of the URLs that people write, and the TCP or TLS stream. May not: know WebSocket frames.

trio-websocket 0.12.2 leaves the stream open when the server closes first, waits for ever when the server closes before
answering the upgrade, keeps a refusal of any length, and does not report pings; `WatchedStream` fixes all four.
"""

import math
import os
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

import trio

from chatserver.client.errors import BadUrl
from chatserver.client.tunnel import TunnelError, open_tcp

#: The beginning of every answer of an HTTP/1.1 server, also of one to an upgrade.
_HTTP = b"HTTP/"
#: Bytes shown of what another server sent.
_MAX_SHOWN = 40

_SECURE = {"http": False, "https": True, "ws": False, "wss": True}


@dataclass(frozen=True, slots=True)
class Target:
    host: str
    port: int
    path: str
    secure: bool

    @property
    def authority(self) -> str:
        """The `Host` field, without the scheme's default port (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def base(self) -> str:
        """The prefix of all paths of the server."""
        return self.path.removesuffix("/ws")

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.path}"


def parse_target(text: str) -> Target:
    """Parse a URL; `http://host:port`, `ws://host:port/ws` and `host:port` give the same target."""
    try:
        parts = urlsplit(text if "://" in text else f"ws://{text}")
        named = parts.hostname or ""
        path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    except ValueError as error:
        raise BadUrl(f"{text!r} is no URL: {error}") from error
    if parts.scheme not in _SECURE:
        raise BadUrl(f"{text!r} is none of http://, https://, ws://, wss:// and host:port")
    if named in _SECURE:  # as in http:/host
        raise BadUrl(f"{text!r} would be on the host {named!r}; the form is {named}://HOST:PORT")
    port = _port_of(text, parts)
    if not named or not named.isprintable() or " " in named or named.isdecimal():
        raise BadUrl(f"{text!r} names no host")
    try:
        host = named.encode("idna").decode()
    except UnicodeError as error:
        raise BadUrl(f"{text!r}: {named!r} cannot be the name of a host") from error
    if parts.username is not None or parts.query or parts.fragment:
        what = "a user, a query or a fragment has no meaning here; a room is named apart, as with --room"
        raise BadUrl(f"{text!r}: {what}")
    base, _, inside = path.partition("/rooms/")
    if inside not in ("", "ws"):  # a proxy may serve the whole server below /rooms
        server = f"{parts.scheme}://{parts.netloc}{base}"
        raise BadUrl(f"{text!r} is the address of a room; say {server} --room {inside.partition('/')[0]}")
    if not path.endswith("/ws"):
        path += "/ws"
    secure = _SECURE[parts.scheme]
    return Target(host, (443 if secure else 80) if port is None else port, path, secure)


def _port_of(text: str, parts: SplitResult) -> int | None:
    """Return the port, None if there is none. Raises BadUrl."""
    with suppress(ValueError):
        if parts.port != 0:
            return parts.port
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
        raise BadUrl(f"{text!r} has too many colons; an IPv6 address stands in brackets, as in [::1]:8000")
    raise BadUrl(f"{text!r}: {parts.netloc.rpartition(':')[2]!r} is no port, which is a number from 1 to 65535")


def split_page_url(text: str) -> tuple[str, str]:
    """Split the page's address of a room or message, `…/#ops/42`, into the server's URL and the room."""
    server, _, place = text.partition("#")
    return server, unquote(place).partition("/")[0]


class EndedError(Exception):
    """A connection ended or could not be made; has the reason, and the server's delay for coming back, if any."""

    def __init__(
        self,
        why: str,
        *,
        retry_after: float | None = None,
        final: bool = False,
        foreign: bool = False,
        code: int | None = None,
    ) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after = retry_after
        self.final = final  # we have been told not to come back
        self.foreign = foreign  # by something that is no chat server
        self.code = code  # of the close frame, if there was one


class UnconnectedError(EndedError):
    """No connection could be made, so nothing was sent."""


class ForeignError(EndedError):
    """The peer's first bytes are not those of an HTTP server."""


class WatchedStream(trio.abc.Stream):
    """Passes everything through, records when it last received bytes, and checks that the first ones are HTTP.

    Without that check a parser waits for the end of a head that never comes: an SSH server sends one line.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._first = b""  # the first bytes, until they are as many as _HTTP has
        self.upgraded = False  # until then the end of the stream raises EndedError
        self.allowance = math.inf  # bytes that may still come
        self.last_received = trio.current_time()
        self.last_asked = -math.inf  # when a request was sent

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            data = b""
        if not data and not self.upgraded:
            raise EndedError("the server hung up")
        self.allowance -= len(data)
        if self.allowance < 0:
            raise EndedError("the answer is too long")
        if len(self._first) < len(_HTTP):
            self._first += data
            if self._first[: len(_HTTP)] != _HTTP[: len(self._first)]:
                raise ForeignError(f"the server does not speak HTTP: it sent {_shown(self._first)}")
        self.last_received = trio.current_time()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _shown(first: bytes) -> str:
    """The first line, in a form that cannot control a terminal."""
    return ascii(first.splitlines()[0][:_MAX_SHOWN].decode("latin-1"))


async def dial(target: Target, *, timeout: float) -> WatchedStream:  # noqa: ASYNC109  (says "within", not where)
    """Connect, with TLS if the URL says so. Raises UnconnectedError."""
    try:
        with trio.fail_after(timeout):
            stream = await open_tcp(target.host, target.port, secure=target.secure)
            if not target.secure:
                return WatchedStream(stream)
            context = ssl.create_default_context()
            secure = trio.SSLStream(stream, context, server_hostname=target.host, https_compatible=True)
            try:
                await secure.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(secure)
                raise
            return WatchedStream(secure)
    except trio.TooSlowError as error:
        raise UnconnectedError(f"no connection within {timeout:g} s") from error
    except socket.gaierror as error:
        raise UnconnectedError(f"cannot find {target.host}: {error.strerror}") from error
    except TunnelError as error:
        raise UnconnectedError(f"cannot connect: {error}") from error
    except (OSError, trio.BrokenResourceError) as error:
        where = "" if target.authority.endswith(f":{target.port}") else f" to port {target.port}"
        raise UnconnectedError(f"cannot connect{where}: {words_of(error)}") from error


def words_of(error: BaseException) -> str:
    """Return the message of the innermost system error: trio's says only that all attempts failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):  # one for each address that was tried
        return words_of(error.exceptions[0])
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's, not the system's
        words = f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
        return f"{words}; was http:// meant?" if error.reason == "WRONG_VERSION_NUMBER" else words
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # error.strerror is trio's, which includes the address
    return str(error)
