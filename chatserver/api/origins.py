"""The origin of a request: which site's page sent it, and whether it was meant for this server.

Owns: the decision about `Host`, `Origin` and `Sec-Fetch-Site`, and the CORS fields of answers. May not: know a path, a
user or a socket.

A browser names the page in `Origin` (RFC 6454) with every WebSocket, cross-site request of a script and request other
than GET or HEAD, and in `Sec-Fetch-Site` over https or to the loopback. Other programs send neither.

`Host` must be a name of this server, because `Origin` is compared with it: otherwise a page of evil.example, whose name
is pointed here after it has loaded (DNS rebinding), would pass as our own.
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

#: Values of `Host` whose normalised form is cached; a server sees few.
CACHED_HOSTS = 256
#: Seconds for which a browser may remember a preflight: Chromium's maximum.
PREFLIGHT_AGE = 7200

_SAFE = ("GET", "HEAD")
#: Headers by which a request acts for the user, or by which a GET becomes a WebSocket.
_AS_USER = ("cookie", "authorization", "upgrade")
#: Values of `Sec-Fetch-Site` for our own page, or the user directly (a typed address, a bookmark).
_OURS = (None, "same-origin", "none")
_ALL_ADDRESSES = frozenset(("0.0.0.0", "::"))
_VARY = ("Vary", "Origin")
_ALLOWED_FIELDS = "Authorization, Content-Type, Last-Event-ID"


class Caller(Enum):
    """Which site's page sent a request."""

    OWN = "our own page, or no page at all"
    ALLOWED = "a page of an origin on the list"
    FOREIGN = "any other page"


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginPolicy:
    """The parameters of the decision; made once."""

    origins: frozenset[str]  # of pages that may do the same as ours
    hosts: frozenset[str] | None  # the names and addresses of this server; None: any
    any_address: bool = False  # bound to all addresses, so that any address is one of its own

    def cors(self, origin: str | None) -> Headers:
        """The CORS fields of any answer to a request with this `Origin`: a page of an allowed origin may read it.

        `Vary` is in all answers: a cache in front would give the allowed page the one that another request got.
        """
        if not self.origins:
            return ()
        if origin not in self.origins:
            return (_VARY,)
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Expose-Headers", "Retry-After"),
            _VARY,
        )


def origin_policy(*, bound: Iterable[str], origins: Iterable[str], hosts: Iterable[str]) -> OriginPolicy:
    """Make the policy of a server that listens at the names and addresses `bound`, and has further names `hosts`.

    localhost is always allowed, since it cannot be pointed elsewhere. A server that is bound to all addresses and was
    given no name cannot know its own, and allows any.
    """
    ours = frozenset(_compared(each)[0] for each in bound)
    further = frozenset(map(forms.host, hosts))
    anywhere = not ours.isdisjoint(_ALL_ADDRESSES)
    return OriginPolicy(
        origins=frozenset(map(forms.origin, origins)), any_address=anywhere,
        hosts=None if anywhere and not further else ours | further | {"localhost"},
    )  # fmt: skip


def caller_of(headers: Mapping[str, str], policy: OriginPolicy, *, secure: bool) -> Caller:
    """Which site's page sent a request, over TLS or perhaps not. Raises HttpError (421) when it was meant for another
    server.
    """
    host, origin, site = headers.get("host"), headers.get("origin"), headers.get("sec-fetch-site")
    if host is None:
        # HTTP/1.0, which health checks use and browsers do not. Behind a proxy that removes `Host`, the request of any
        # page would look like this, so it gets the rights of a foreign page: reading what is public.
        return Caller.FOREIGN if policy.hosts is not None or origin is not None or site not in _OURS else Caller.OWN
    if policy.hosts is not None and host not in policy.hosts:
        name, is_address = _host_of(host)
        if name not in policy.hosts and not (is_address and policy.any_address):
            message = f"{name[:80]!r} is not a name of this server; --allow-host adds a name"
            raise HttpError(ErrorCode.MISDIRECTED, message)
    if origin is None:
        return Caller.OWN if site in _OURS else Caller.FOREIGN
    if origin in policy.origins:
        return Caller.ALLOWED
    return Caller.OWN if site in _OURS and _is_own(origin, host, secure=secure) else Caller.FOREIGN


@lru_cache(CACHED_HOSTS)
def _host_of(authority: str) -> tuple[str, bool]:
    """The normalised host in `Host`, and whether it is an address."""
    return _compared(authority.partition("]")[0] if authority.startswith("[") else authority.partition(":")[0])


def _compared(name: str) -> tuple[str, bool]:
    try:  # an address of IPv6, and no other, may end with an interface
        return str(ipaddress.ip_address(name.strip("[]"))).partition("%")[0], True
    except ValueError:
        return name.lower().removesuffix("."), False


def _is_own(origin: str, host: str, *, secure: bool) -> bool:
    """Whether an origin is this server, under the host of the request."""
    theirs, _, authority = origin.partition("://")
    # With plain http here, a proxy in front may terminate TLS and not say so, so https is the same origin. Never the
    # reverse: a page that came over http may have been altered on its way, and would talk to us over https.
    if theirs != "https" and (secure or theirs != "http"):
        return False
    suffix = f":{forms.DEFAULT_PORTS[theirs]}"
    return authority.lower().removesuffix(suffix) == host.lower().removesuffix(suffix)


def check_foreign(head: Head) -> None:
    """Let a foreign page read what is public, anonymously. Raises HttpError (403) for anything else."""
    if head.method not in _SAFE or any(name in head.headers for name in _AS_USER):
        raise forbidden(head)


def forbidden(head: Head) -> HttpError:
    """The refusal of a foreign page, naming the header that identified it, or of a request without Host."""
    for name in ("Origin", "Sec-Fetch-Site"):
        if (value := head.headers.get(name.lower())) is not None:
            sentence = f"pages of other sites may not do this ({name}: {value[:80]}); --allow-origin allows an origin"
            return HttpError(ErrorCode.FORBIDDEN, sentence)
    return HttpError(ErrorCode.FORBIDDEN, "a request without Host may not do this; send Host")


def preflight_fields(methods: Iterable[str]) -> Headers:
    """The CORS fields of a preflight for a path with these methods."""
    return (
        ("Access-Control-Allow-Methods", ", ".join(methods)),
        ("Access-Control-Allow-Headers", _ALLOWED_FIELDS),
        ("Access-Control-Max-Age", str(PREFLIGHT_AGE)),
    )
