"""The requests of moderators, checked (docs/protocol.md).

Owns: the bodies of these requests and their limits. May not: know who may send one.

A misspelt `seconds` is refused, and so is null, which JavaScript sends for NaN: such a ban would have no end.
"""

import ipaddress

import msgspec

from chatserver.protocol.bodies import parse_body
from chatserver.protocol.errors import bad_field
from chatserver.protocol.validation import check_any_user_id, check_text

#: Characters of a network; an IPv6 address has 45 at most.
MAX_NETWORK_CHARS = 64
#: Characters of a reason: a sentence or two.
MAX_REASON_CHARS = 300
#: Seconds of the longest sanction with an end: ten years.
MAX_SECONDS = 10 * 365 * 24 * 3600
#: The prefix of an IPv6 network, as everywhere in this server.
_IPV6_PREFIX = 64


class SanctionBody(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The body of a POST of a sanction: on a user, on a network, or on the network that a user is connected from."""

    kind: str
    user: str | None = None
    network: str | None = None
    network_of: str | None = None
    seconds: float | None = None  # not sent: until it is lifted
    reason: str | None = None


class KickBody(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    user: str
    reason: str | None = None


_sanctions: msgspec.json.Decoder[SanctionBody] = msgspec.json.Decoder(SanctionBody)
_kicks: msgspec.json.Decoder[KickBody] = msgspec.json.Decoder(KickBody)


def decode_sanction(body: bytes, content_type: str | None) -> SanctionBody:
    """Decode and check a sanction; its network becomes an IPv4 address or a /64."""
    asked = parse_body(body, content_type, _sanctions)
    if asked.kind not in ("mute", "ban"):
        raise bad_field("kind", f"{asked.kind[:20]!r}; it is mute or ban")
    if [asked.user, asked.network, asked.network_of].count(None) != 2:
        raise bad_field("user, network, network_of", "exactly one of them")
    if asked.seconds is None and "seconds" in msgspec.json.decode(body):
        raise bad_field("seconds", "null; leave it out for a sanction that lasts until it is lifted")
    if asked.seconds is not None and not 1 <= asked.seconds <= MAX_SECONDS:
        raise bad_field("seconds", f"1 to {MAX_SECONDS:,}; without it, until it is lifted")
    return SanctionBody(
        asked.kind, None if asked.user is None else check_any_user_id(asked.user),
        None if asked.network is None else check_network(asked.network),
        None if asked.network_of is None else check_any_user_id(asked.network_of, "network_of"),
        asked.seconds, _check_reason(asked.reason),
    )  # fmt: skip


def decode_kick(body: bytes, content_type: str | None) -> KickBody:
    asked = parse_body(body, content_type, _kicks)
    return KickBody(check_any_user_id(asked.user), _check_reason(asked.reason))


def check_network(network: str) -> str:
    """Check an address or network; returns an IPv4 address, or the /64 of an IPv6 address."""
    if len(network) > MAX_NETWORK_CHARS:
        raise bad_field("network", f"{len(network):,} characters, limit {MAX_NETWORK_CHARS}")
    try:
        found = ipaddress.ip_network(network.strip(), strict=False)
    except ValueError:
        rule = f"{network[:50]!r} is no address; one looks like 192.0.2.7 or 2001:db8::/64"
        raise bad_field("network", rule) from None
    address = found.network_address
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if found.prefixlen == found.max_prefixlen:
        if mapped is not None or address.version == 4:
            return str(mapped or address)
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    if found.prefixlen == _IPV6_PREFIX:
        return str(found)
    raise bad_field("network", f"{network[:50]!r}; one is an IPv4 address, or the /64 of an IPv6 address")


def _check_reason(reason: str | None) -> str:
    if not reason:
        return ""
    if len(reason) > MAX_REASON_CHARS or "\n" in reason:
        raise bad_field("reason", f"one line of up to {MAX_REASON_CHARS} characters")
    return check_text(reason, "reason")
