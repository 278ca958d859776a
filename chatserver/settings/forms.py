"""The formats of text settings: a log's URL and format, a network, an origin, a host's name, HOST:PORT, a time.

Owns: reading them, and the complaint about a text in another format. May not: import our modules, or resolve a name.

    origin("HTTPS://App.Example:443") == "https://app.example"

Each raises ValueError, whose message is shown after the flag. Texts that are compared later are normalised here.
"""

import ipaddress
import re
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

POSTGRES_SCHEMES = ("postgresql://", "postgres://")
SHARED_SCHEME = "valkey://"
#: Default ports, which an origin and a `Host` leave out (RFC 6454 section 6.1, RFC 9110 section 4.2).
DEFAULT_PORTS = {"http": "80", "https": "443"}

_MOST_PORT = 65_535
_NAME = r"[a-z0-9_](?:[a-z0-9_.-]{0,253}[a-z0-9_])?"
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://({_NAME}|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
#: Header fields that have another meaning here.
_TAKEN_HEADERS = frozenset(("authorization", "cookie", "host", "origin", "x-forwarded-for"))
_HOST = re.compile(_NAME)
_LOG = re.compile(r"memory:|sqlite:(?!:memory:$).+|postgres(?:ql)?://.*", re.DOTALL)
#: A password before the last @, and one in a parameter.
_PASSWORD = re.compile(r"(://[^:/@]*:).*(?=@)|(password=)[^&\s]*", re.IGNORECASE)
_SPAN = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class LogFormat(StrEnum):
    """The format of log lines; `auto` is `pretty` on a terminal and `json` elsewhere."""

    AUTO = "auto"
    PRETTY = "pretty"
    JSON = "json"


def log_url(text: str) -> str:
    """Check the URL of a log."""
    if not _LOG.fullmatch(text):
        raise ValueError(f"{redacted(text)!r} is none of memory:, sqlite:PATH and postgresql://USER@HOST/DATABASE")
    user = text.partition("://")[2].rpartition("@")[0]
    if text.startswith(POSTGRES_SCHEMES) and not {"@", "/"}.isdisjoint(user):
        raise ValueError("it has an @ or a / in its password; write %40 and %2F")
    return text


def engine_of(url: str) -> str:
    return "postgresql" if url.startswith(POSTGRES_SCHEMES) else url.partition(":")[0]


def redacted(url: str) -> str:
    """A URL without its passwords, for showing."""
    return _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", url)


def network(text: str) -> str:
    """Check an address or network of a proxy; an IPv4-mapped one becomes the IPv4 network, as peers' addresses do."""
    found = ipaddress.ip_network(text, strict=False)  # its errors name the text
    mapped = found.network_address.ipv4_mapped if found.version == 6 else None
    return str(found if mapped is None or found.prefixlen < 96 else f"{mapped}/{found.prefixlen - 96}")


def origin(text: str) -> str:
    """The origin of a page, as browsers write it: in lower case, without the scheme's own port."""
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        raise ValueError(f"{text!r} is not an origin: scheme://host or scheme://host:port, and nothing after it")
    scheme, host, port = found[1], found[2], found[3] and _port(found[3])
    return f"{scheme}://{host}" if port in (None, DEFAULT_PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def host(text: str) -> str:
    """The name or address of a host, in lower case, addresses without brackets."""
    name = text.lower().removesuffix(".")
    address = _address(name)
    if address is None and not _HOST.fullmatch(name):
        raise ValueError(f"{text!r} is not the name or address of a host; it has no scheme and no port")
    return address or name


def keys_url(text: str) -> str:
    """Check the URL of published keys: https, or http on the loopback, so that they cannot be altered on their way."""
    try:
        parts = urlsplit(text)
        name = host(parts.hostname or "")
        loopback = name == "localhost" or (_address(name) is not None and ipaddress.ip_address(name).is_loopback)
        schemes = ("https", "http") if loopback else ("https",)
        good = parts.scheme in schemes and not parts.username and parts.port != 0  # a wrong port raises ValueError
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"{text!r} is not an https address, or an http address of the loopback")
    return text


def header_name(text: str) -> str:
    """The name of a header field, in lower case."""
    if not _HEADER.fullmatch(text) or text.lower() in _TAKEN_HEADERS:
        raise ValueError(f"{text!r} is not a header that can name a user, like X-Forwarded-User")
    return text.lower()


def listen(text: str) -> tuple[str, int]:
    """A host and a port to listen on."""
    name, _, port = text.rpartition(":")
    bare = name.removeprefix("[").removesuffix("]")
    if not bare or (":" in bare) != (bare != name) or not re.fullmatch("[0-9]{1,5}", port):
        raise ValueError(f"{text!r} is not HOST:PORT, like 127.0.0.1:9800 or [::1]:9800")
    return bare, int(_port(port))


class ShardAddresses(NamedTuple):
    """The servers that --shared names, and how to sign in there."""

    addresses: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None


def shards(text: str) -> ShardAddresses:
    """The servers in a fixed order, so that the shard of a key does not depend on the order in the list."""
    rest = text.removeprefix(SHARED_SCHEME)
    credentials, _, listed = rest.rpartition("@")
    if rest == text:  # complaints do not repeat the text, which may have a password
        raise ValueError(f"the URL is not {SHARED_SCHEME}HOST:PORT[,HOST:PORT...]")
    if "," in credentials.partition("@")[2]:
        raise ValueError("it has several passwords; one, before the first server, applies to all")
    addresses = [listen(each.strip()) for each in listed.split(",")]
    if any(port == 0 for _, port in addresses):
        raise ValueError(f"{listed!r} has port 0, where no server is")
    if len(set(addresses)) < len(addresses):
        raise ValueError(f"{listed!r} names a server twice")
    user, _, password = credentials.partition(":")
    return ShardAddresses(tuple(sorted(addresses)), unquote(user) or None, unquote(password) or None)


def span(text: str) -> int:
    """Seconds of `90s`, `10m`, `1h` or `30d`."""
    found = _SPAN.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError(f"{text!r} is no time like 90s, 10m, 1h or 30d")
    return int(found[1]) * _SECONDS[found[2]]


def _port(digits: str) -> str:
    """The number of a port without leading zeros."""
    if int(digits) > _MOST_PORT:
        raise ValueError(f"port {digits} is above the maximum, {_MOST_PORT}")
    return str(int(digits))


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None
