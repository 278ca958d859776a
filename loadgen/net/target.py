"""The target of the load, and whether it may be loaded.

Owns: the URL, the address that it resolved to, the source addresses, and the rule that a host off the loopback is
loaded only if the user names it on the command line *and* the host itself consents. May not: open the crowd's
connections.
"""

import errno
import ipaddress
import shlex
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

import msgspec

from loadgen.net import sockets, wire
from loadgen.net.timers import now

CONSENT_PATH: Final = "/.well-known/loadgen-consent"

#: The body of the answer at CONSENT_PATH, apart from white space around it.
CONSENT_TEXT: Final = "loadgen may load this host"

#: Clients of a crowd behind one source address. Servers cap them per address (512 is chatserver's default, nginx
#: examples have 10 to 100), and that cap is meant for one greedy address, not for a crowd.
PER_ADDRESS: Final = 200

#: Source addresses are numbered: from 0 those of crowds, also if each client has its own; then those of victims; then
#: one that all clients of a persona share; then those of honest slow clients, each of which has its own.
FIRST_VICTIM: Final = 4_000_000
SHARED_ADDRESS: Final = 8_000_000

#: The first source address: away from 127.0.0.1, which the machine's own programs use.
_FIRST_SOURCE: Final = int(ipaddress.IPv4Address("127.16.0.1"))

PROBE_SECONDS: Final = 5.0

#: Time for each of the two answers that tell http:// from https://. If both are late, the URL is believed.
SCHEME_SECONDS: Final = 1.0

#: After a handshake of TLS 1.3 a server may still refuse it, as without a certificate that it wants of its clients.
_ALERT_SECONDS: Final = 0.2

_READ_BYTES: Final = 64 * 1024

#: Interval of the checks whether a target listens.
WAIT_SECONDS: Final = 0.1


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The requests to a target, as the command line describes them. The defaults suit a chat."""

    path: str = "/"  # of pages, which victims and attackers fetch
    websocket_path: str = "/ws"
    method: str = "GET"  # of requests at a rate
    asked: str = ""  # path of these, and of attackers' bodies if they are POSTs; empty: that of pages, or a chat's
    fields: tuple[str, ...] = ()  # of plain requests and upgrades, each "Name: value"
    body: bytes = b""
    subprotocol: str = ""
    is_chat: bool = True  # whether there are rooms to join and to post in
    page_type: str | None = None  # of the page that requests at a rate had before the run; None if they had none

    @property
    def request_path(self) -> str:
        """What requests at a rate ask for."""
        return self.asked or self.path

    @property
    def post_path(self) -> str:
        """Where bodies go; empty for a chat's rooms."""
        return self.asked if self.method == "POST" else ""

    @property
    def is_idempotent(self) -> bool:
        """Whether a request may be sent again when it may have been received already (RFC 9110 section 9.2.2)."""
        return self.method in {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"}

    @property
    def upgrade_fields(self) -> tuple[str, ...]:
        return (*self.fields, f"Sec-WebSocket-Protocol: {self.subprotocol}") if self.subprotocol else self.fields


#: The defaults, for chatserver and most others.
USUAL: Final = Endpoint()


class UsageError(Exception):
    """A flag or argument that cannot be used; the text names it. Exit code 2."""


class TargetRefusedError(Exception):
    """A target that must not be loaded. Exit code 4."""


class TargetDownError(Exception):
    """A target that does not answer at all. Exit code 1."""


#: Errors that mean that this machine lacks something; they are not the target's fault.
_OWN_FAULTS: Final = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EADDRINUSE)
)


def is_own_fault(failure: BaseException | None) -> bool:
    """Whether such an error is the failure, or its cause."""
    error = failure and (failure.__cause__ or failure)
    return isinstance(error, OSError) and error.errno in _OWN_FAULTS


@dataclass(frozen=True, kw_only=True)
class Target:
    url: str
    host: str  # as written, for the Host field
    address: str
    port: int
    family: socket.AddressFamily
    tls: bool = False

    @property
    def authority(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host.encode("idna").decode()
        return name if self.port == (443 if self.tls else 80) else f"{name}:{self.port}"

    def source(self, number: int) -> str | None:
        """The source address of this number; `None` if the kernel must choose."""
        return _loopback(number) if self.spreads_sources else None

    @property
    def on_loopback(self) -> bool:
        return ipaddress.ip_address(self.address).is_loopback

    @property
    def spreads_sources(self) -> bool:
        """Whether clients have several source addresses, so that ports are no limit."""
        return self.address.startswith("127.")


@cache
def _loopback(number: int) -> str:
    # 250 to a /24, so that no address ends in 0 or 255
    return str(ipaddress.IPv4Address(_FIRST_SOURCE + number // 250 * 256 + number % 250))


def split(url: str, scheme: str = "http") -> tuple[SplitResult, int | None]:
    """Take a URL apart, which has this scheme if it names none; also its port."""
    try:
        parts = urlsplit(url if "//" in url else f"{scheme}://{url}")
        port = parts.port
    except ValueError as error:
        raise UsageError(f"URL: {url!r} is not like {scheme}://HOST:PORT: {str(error).lower()}") from None
    return parts, port


def is_secure(url: str) -> bool:
    return split(url)[0].scheme in {"https", "wss"}


def find(url: str, *, allow: str | None = None, wait: float = 0.0) -> Target:
    """Resolve the URL; of several loopback addresses take the first that listens, after `wait` seconds at most."""
    parts, port = split(url)
    if parts.scheme not in {"http", "ws", "https", "wss"} or not parts.hostname or parts.netloc.endswith(":"):
        raise UsageError(f"URL: {url!r} is not of the form http://HOST:PORT or https://HOST:PORT")
    tls = is_secure(url)
    if parts.username is not None:
        raise UsageError("URL: it has a user; say --header 'Authorization: Basic ...', or @FILE with that field")
    if parts.path not in {"", "/", "/ws"} or parts.query or parts.fragment:
        flag = "--ws-path" if parts.scheme in {"ws", "wss"} else "--path"
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        raise UsageError(f"URL: {url!r} has a path; name the server only, and say {flag} {shlex.quote(path)}")
    host, port = parts.hostname, port if port is not None else 443 if tls else 80
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"URL: {host!r} cannot be resolved: {error.strerror or error}") from None
    except UnicodeError as error:
        raise UsageError(f"URL: {host!r} is not the name of a host: {error}") from None
    # `localhost` resolves to ::1 first on most machines, but only 127.0.0.0/8 has many source addresses
    found.sort(key=lambda entry: entry[0] is not socket.AF_INET)
    targets = [
        Target(url=url, host=host, address=str(where[0]), port=port, family=family, tls=tls)
        for family, _, _, _, where in found
    ]
    if not all(each.on_loopback for each in targets):
        del targets[1:]
    if targets[0].on_loopback:
        return _first_open(targets, wait)
    _demand_consent(targets[0], allow, wait)
    return targets[0]


def _first_open(targets: Sequence[Target], seconds: float) -> Target:
    """Return the first that listens; if none does in this time, the first."""
    if len(targets) == 1 and not seconds:
        return targets[0]
    deadline = now() + seconds
    while (found := next(filter(is_open, targets), None)) is None and now() < deadline:
        time.sleep(WAIT_SECONDS)
    return found or targets[0]


def _demand_consent(target: Target, allow: str | None, wait: float = 0.0) -> None:
    if allow is None or allow.strip("[]").lower() != target.host:
        raise TargetRefusedError(
            f"{target.host} ({target.address}) is not on the loopback; to load it, name it with"
            f" --allow-target {target.host} and have it serve {CONSENT_TEXT!r} at {CONSENT_PATH}"
        )
    page = fetch(_first_open([target], wait), CONSENT_PATH, most_bytes=4096)
    if page.status is None:
        raise TargetRefusedError(f"{target.host} does not consent: {CONSENT_PATH} could not be read ({page.error})")
    if page.status != 200 or page.body.decode("utf-8", "replace").strip() != CONSENT_TEXT:
        raise TargetRefusedError(
            f"{target.host} does not consent: {CONSENT_PATH} answered {page.status} without {CONSENT_TEXT!r}"
        )


class Page(NamedTuple):
    status: int | None  # None without an answer
    seconds: float  # until the answer began, connect included; without one, of the connect alone
    body: bytes = b""
    error: str = ""  # why there is no answer
    way_seconds: float = 0.0  # that a GET takes on the network alone, the connect included
    is_foreign: bool = False  # what came is no answer of HTTP/1.1
    media_type: str | None = None  # of a 200 with a body


#: Round trips of a GET: TCP's handshake, and the request. TLS 1.3 needs one more.
_ROUND_TRIPS: Final = 2


def fetch(
    target: Target, path: str, fields: Sequence[str] = (), *, most_bytes: int = 0, seconds: float | None = None
) -> Page:
    """Fetch a page, `most_bytes` of it at most. Blocks for `seconds` after the connect; call it in a thread."""
    limit = PROBE_SECONDS if seconds is None else seconds
    begun, connected, answered, way = now(), 0.0, 0.0, 0.0
    response, unread = wire.Response(keeps=most_bytes > 0), b""
    try:
        with _connected(target) as plain, _secured(plain, target) as sock:
            connected = now() - begun
            way = (_ROUND_TRIPS + target.tls) * sockets.round_trip_seconds(sock.fileno())
            sock.sendall(wire.request("GET", path, target.authority, "Connection: close", *fields))
            while not response.is_whole and not (response.head and len(response.body) >= most_bytes):
                if (left := begun + connected + limit - now()) <= 0:  # a flood never lets a read time out
                    raise TimeoutError
                sock.settimeout(left)
                data = sock.recv(_READ_BYTES)
                if not data and not response.end():
                    raise ConnectionError("it closed within its answer" if unread else "it closed without an answer")
                unread = response.feed(unread + data)
                answered = answered or (now() - begun if response.head else 0.0)
    except TimeoutError:
        return Page(None, connected, error=f"no whole answer within {limit:g} s", way_seconds=way)
    except (OSError, wire.WireError) as error:
        foreign = isinstance(error, wire.WireError)
        return Page(None, connected, error=str(error), is_foreign=foreign, way_seconds=way)
    kind = response.media_type if response.status == 200 and response.has_body else None
    return Page(response.status, answered, bytes(response.body[:most_bytes]), way_seconds=way, media_type=kind)


def _secured(sock: socket.socket, target: Target) -> socket.socket:
    return client_context().wrap_socket(sock, server_hostname=target.host) if target.tls else sock


@cache
def client_context() -> ssl.SSLContext:
    return make_context()


def make_context() -> ssl.SSLContext:
    """Make a TLS context of a client.

    Certificates are not verified: users load their own servers, mostly on this machine with a self-signed certificate,
    and nothing that is sent is secret.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def describe_tls(error: ssl.SSLError) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")


def probe(target: Target) -> None:
    """Connect once, so that a closed port, or TLS on one side only, gives one clear error and not thousands.

    The URL is wrong if it names the other scheme than the port's; a port that answers neither is down. Raises OSError
    if this machine lacks what a connection needs.
    """
    where = f"{target.address} port {target.port}"
    try:
        if target.tls:
            _shake_hands(target, PROBE_SECONDS)
            return
        page = fetch(target, "/", seconds=SCHEME_SECONDS)
        if page.status in (None, 400) and _speaks_tls(target):  # nginx answers 400
            raise UsageError(f"URL: {where} speaks TLS: use https://{replace(target, tls=True).authority}")
        if page.is_foreign:
            raise TargetDownError(f"{where} does not speak HTTP/1.1 ({page.error})")
    except ssl.SSLError as error:
        plain = replace(target, tls=False)
        if not _is_alert(error) and fetch(plain, "/", seconds=SCHEME_SECONDS).status is not None:
            raise UsageError(f"URL: {where} speaks plain HTTP, not TLS: use http://{plain.authority}") from None
        raise TargetDownError(f"{where} does not speak TLS with us ({describe_tls(error)})") from None
    except OSError as error:
        if is_own_fault(error):
            raise
        raise TargetDownError(f"nothing answers at {where}: {error.strerror or error}") from None


def is_open(target: Target) -> bool:
    return _tried(target) is None


def is_closed(target: Target) -> bool:
    """Whether nothing listens: a connection that only takes too long may wait in a full backlog."""
    error = _tried(target)
    return not (isinstance(error, TimeoutError | None) or is_own_fault(error))


def _tried(target: Target) -> OSError | None:
    """Connect, and return why that failed."""
    try:
        _connected(target).close()
    except OSError as error:
        return error
    return None


def _connected(target: Target) -> socket.socket:
    return socket.create_connection((target.address, target.port), timeout=PROBE_SECONDS)


def _shake_hands(target: Target, seconds: float) -> None:
    with _connected(target) as sock:
        sock.settimeout(seconds)
        try:
            with _secured(sock, target) as secured, suppress(ConnectionError, TimeoutError):
                secured.settimeout(_ALERT_SECONDS)
                secured.recv(1)
        except TimeoutError:
            raise ssl.SSLError(errno.ETIMEDOUT, f"no answer in {seconds:g} s") from None
        except ConnectionError as error:
            raise ssl.SSLError(error.errno, error.strerror) from None


def _speaks_tls(target: Target) -> bool:
    """Whether the port of a plain URL answers a ClientHello."""
    try:
        _shake_hands(replace(target, tls=True), SCHEME_SECONDS)
    except ssl.SSLError as error:
        return _is_alert(error)
    return True


def _is_alert(error: ssl.SSLError) -> bool:
    """Whether the server refused a handshake in TLS itself, as with a certificate that it wants of its clients."""
    return " alert " in describe_tls(error)
