"""Which page a request comes from, and whether it was meant for this server.

Owns: the decision about `Host`, `Origin` and `Sec-Fetch-Site`, and the CORS fields of answers. May not: know a path, a
user or a socket.

A browser lets any page send requests to any address, with the cookies for that address, and says whose page it was:
`Origin` (RFC 6454) with every WebSocket, with each request of a script to another site and with each that is not GET
or HEAD; `Sec-Fetch-Site` with every request, over https and to the loopback. Programs that are no browser send neither.

`Host` is held against the names of this server because `Origin` is compared with it: a page of evil.example, whose
name is made to lead here after it has loaded (DNS rebinding), would else be our own. Its port may be a forwarded one.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from chatserver.protocol.errors import Headers, HttpError
from chatserver.protocol.head import Head
from chatserver.reasons import ErrorCode
from chatserver.settings import forms

#: Values of `Host` that are remembered in the form that is compared; a server is asked for few.
HOSTS_REMEMBERED = 256
#: Seconds for which a browser may remember a preflight: Chromium's maximum.
PREFLIGHT_AGE = 7200

_SAFE = ("GET", "HEAD")
#: What a browser sends along for the user, and the one request by which a GET becomes a conversation.
_AS_USER = ("cookie", "authorization", "upgrade")
#: Of `Sec-Fetch-Site`: our own page, or the user himself (a typed address, a bookmark).
_OURS = (None, "same-origin", "none")
_ALL_ADDRESSES = frozenset(("0.0.0.0", "::"))
_VARY = ("Vary", "Origin")
_ALLOWED_FIELDS = "Authorization, Content-Type, Last-Event-ID"


class Source(Enum):
    """Whose page a request comes from."""

    OWN = "our own page, or no page at all"
    ALLOWED = "a page of an origin on the list"
    FOREIGN = "any other page"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the decision depends on; made once."""

    scheme: str  # that is spoken here
    origins: frozenset[str]  # of pages that may do what ours may
    hosts: frozenset[str] | None  # the names and addresses of this server; None: any
    any_address: bool = False  # bound to all addresses, so that any address is one of its own


def policy_of(*, secure: bool, bound: Iterable[str], origins: Iterable[str], hosts: Iterable[str]) -> Policy:
    """Make the policy of a server that listens at `bound`, names and addresses, and goes by further `hosts`.

    localhost is always among them: nobody can make it lead elsewhere, and health checks use it. A server that is bound
    to all addresses and was told no name cannot know its own, and takes any.
    """
    ours = frozenset(_compared(each)[0] for each in bound)
    further = frozenset(map(forms.host, hosts))
    anywhere = not ours.isdisjoint(_ALL_ADDRESSES)
    return Policy(
        scheme="https" if secure else "http", origins=frozenset(map(forms.origin, origins)), any_address=anywhere,
        hosts=None if anywhere and not further else ours | further | {"localhost"},
    )  # fmt: skip


def source_of(headers: Mapping[str, str], policy: Policy) -> Source:
    """Whose page a request comes from. Raises HttpError (421) when it was meant for another server."""
    host, origin, site = headers.get("host"), headers.get("origin"), headers.get("sec-fetch-site")
    if host is None:
        # HTTP/1.0, as health checks speak it and no browser does. Behind a proxy that takes `Host` away any page could
        # look like that, so it may do what a foreign one may: read what is public.
        return Source.FOREIGN if policy.hosts is not None or origin is not None or site not in _OURS else Source.OWN
    if policy.hosts is not None and host not in policy.hosts:
        name, is_address = _host_of(host)
        if name not in policy.hosts and not (is_address and policy.any_address):
            message = f"this server does not go by the name {name[:80]!r}; --allow-host gives it one"
            raise HttpError(ErrorCode.MISDIRECTED, message)
    if origin is None:
        return Source.OWN if site in _OURS else Source.FOREIGN
    if origin in policy.origins:
        return Source.ALLOWED
    return Source.OWN if site in _OURS and _is_own(origin, host, policy.scheme) else Source.FOREIGN


@lru_cache(HOSTS_REMEMBERED)
def _host_of(authority: str) -> tuple[str, bool]:
    """The host that `Host` names, in the form in which it is compared, and whether it is an address."""
    return _compared(authority.partition("]")[0] if authority.startswith("[") else authority.partition(":")[0])


def _compared(name: str) -> tuple[str, bool]:
    bare = name.strip("[]").partition("%")[0]  # an interface stands behind a link-local address
    try:
        return str(ipaddress.ip_address(bare)), True
    except ValueError:
        return name.lower().removesuffix("."), False


def _is_own(origin: str, host: str, scheme: str) -> bool:
    """Whether an origin is this server as the request names it."""
    if origin == f"{scheme}://{host}":
        return True
    theirs, _, authority = origin.partition("://")
    # Where plain http is spoken here, a proxy may end TLS before us. Never the other way round: a page that came over
    # http may be anybody's on its way, and would speak to us over https.
    if theirs != scheme and (theirs, scheme) != ("https", "http"):
        return False
    suffix = f":{forms.DEFAULT_PORTS[theirs]}"
    return authority.lower().removesuffix(suffix) == host.lower().removesuffix(suffix)


def check_foreign(head: Head) -> None:
    """Let a foreign page read what everybody may, as nobody. Raises HttpError (403) for anything beyond that."""
    if head.method not in _SAFE or any(name in head.headers for name in _AS_USER):
        raise forbidden(head)


def forbidden(head: Head) -> HttpError:
    """The refusal of a foreign page; it names what gave it away."""
    headers = head.headers
    shown = next(
        (f"{name}: {headers[name.lower()][:80]}" for name in ("Origin", "Sec-Fetch-Site") if name.lower() in headers),
        "no Host",
    )
    return HttpError(
        ErrorCode.FORBIDDEN, f"this is not for pages of other sites ({shown}); --allow-origin names those that may",
        headers=(_VARY,),
    )  # fmt: skip


def cors_fields(head: Head, policy: Policy) -> Headers:
    """What a browser must read in an answer to hand it to a page of an allowed origin; nothing for any other."""
    origin = head.headers.get("origin")
    if origin not in policy.origins:
        return ()
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", "Retry-After"),
        _VARY,
    )


def preflight_fields(methods: Iterable[str]) -> Headers:
    """What an allowed page may send to a path that has these methods."""
    return (
        ("Access-Control-Allow-Methods", ", ".join(methods)),
        ("Access-Control-Allow-Headers", _ALLOWED_FIELDS),
        ("Access-Control-Max-Age", str(PREFLIGHT_AGE)),
    )
