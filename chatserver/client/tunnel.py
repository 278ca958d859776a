"""The TCP connection to a server, also through the HTTP proxy that a company's network may have.

Owns: what HTTPS_PROXY and NO_PROXY mean, and the request CONNECT. May not: start TLS, or speak for the server.
"""

import ipaddress
import os
from base64 import b64encode
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import h11
import trio

_VARIABLES = ("https_proxy", "HTTPS_PROXY")
_READ_SIZE = 4096  # B
_DEFAULT_PORT = 80


class TunnelError(Exception):
    """The proxy is not usable, or refuses the connection."""


class _Proxy(NamedTuple):
    host: str
    port: int
    fields: list[tuple[str, str]]  # who we are

    def __str__(self) -> str:
        return f"the proxy {self.host}:{self.port}"


async def open_tcp(host: str, port: int, *, secure: bool) -> trio.SocketStream:
    """Connect to a server. Raises TunnelError, and what trio raises."""
    proxy = _proxy_for(host, port) if secure else None
    if proxy is None:
        return await trio.open_tcp_stream(host, port)
    try:
        stream = await trio.open_tcp_stream(proxy.host, proxy.port)
    except OSError as error:
        raise TunnelError(f"{proxy} cannot be reached") from error
    try:
        await _ask(stream, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _proxy_for(host: str, port: int) -> _Proxy | None:
    """The proxy by which curl and others would reach this server over https. Raises TunnelError for a wrong one."""
    url = next(filter(None, map(os.environ.get, _VARIABLES)), None)
    if url is None or _is_excepted(host, port):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        named = _Proxy(parts.hostname or "", parts.port or _DEFAULT_PORT, [])
    except ValueError:
        raise TunnelError("HTTPS_PROXY is no URL") from None
    if parts.scheme != "http" or not named.host:
        raise TunnelError("HTTPS_PROXY is not of the form http://HOST:PORT")
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        named.fields.append(("Proxy-Authorization", f"Basic {b64encode(secret).decode()}"))
    return named


def _is_excepted(host: str, port: int) -> bool:
    """Whether the server is on this machine or in NO_PROXY, of which urllib reads all but networks."""
    from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415  20 ms, and few have a proxy

    if host == "localhost" or proxy_bypass(f"{host}:{port}"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for each in getproxies_environment().get("no", "").split(","):
        with suppress(ValueError):
            if address in ipaddress.ip_network(each.strip(), strict=False):
                return True
    return address.is_loopback


async def _ask(stream: trio.SocketStream, proxy: _Proxy, authority: str) -> None:
    """Have the proxy connect to the server, which sends nothing before TLS begins."""
    parser = h11.Connection(h11.CLIENT)
    request = h11.Request(method="CONNECT", target=authority, headers=[("Host", authority), *proxy.fields])
    try:
        await stream.send_all(parser.send(request) or b"")
        while not isinstance(event := parser.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                parser.receive_data(await stream.receive_some(_READ_SIZE))
    except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
        raise TunnelError(f"{proxy} does not speak HTTP, or hung up") from error
    if event.status_code not in range(200, 300):
        reason = event.reason.decode("latin-1")
        raise TunnelError(f"{proxy} answered {event.status_code} {reason if reason.isprintable() else ''}".rstrip())
