"""`X-Forwarded-For`: whom a chain of proxies says that it speaks for.

Owns: reading it. May not: know which proxies may be believed; that is asked.

Each proxy appends whom it heard the request from, and anybody may have sent a field of his own to begin with. So it is
read from the right, and the first address that is no trusted proxy's is the answer: what stands left of it was said by
that one, about himself.
"""

import ipaddress
from collections.abc import Callable

#: Proxies that are looked at, from the right. Chains have two or three; an address takes 3 µs.
MAX_HOPS = 32


def client_of(field: str, trusted: Callable[[str], bool]) -> str | None:
    """The client's address; if all are trusted, the last looked at; None if the field says nothing of use."""
    client = None
    for hop in reversed(field.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        address = _address(hop.strip(" \t"))
        if address is None:
            break
        client = address
        if not trusted(address):
            break
    return client


def _address(hop: str) -> str | None:
    """An address as proxies write it: bare, with a port, or in brackets."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(hop))
    except ValueError:
        return None
