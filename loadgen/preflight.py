"""What this machine must allow before a run is worth starting.

Owns: the arithmetic of descriptors and ports. A generator that runs out of either half way measures itself, so it says
so beforehand, with what it needs, what there is and what to change.
"""

import resource
from pathlib import Path
from typing import Final

from loadgen.target import Target

#: Descriptors for everything that is not a client: the terminal, epoll, the timer, trio's own, /proc files.
OWN_DESCRIPTORS: Final = 64

_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class InvalidRunError(Exception):
    """The generator, not the target, is what a run would measure. Exit code 3."""


def check(target: Target, connections: int) -> None:
    """Raise the descriptor limit as far as it goes, or say why so many clients cannot be held."""
    need = connections + OWN_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and need > hard:
        raise InvalidRunError(
            f"{connections:,} clients need {need:,} descriptors and this process may have {hard:,};"
            f" raise the limit (ulimit -Hn {need}) or ask for at most {hard - OWN_DESCRIPTORS:,} clients"
        )
    if soft != resource.RLIM_INFINITY and need > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need if hard == resource.RLIM_INFINITY else hard, hard))
    if target.spreads_sources:
        return
    low, high = map(int, _PORT_RANGE.read_text().split())
    if connections > high - low:
        raise InvalidRunError(
            f"{connections:,} clients to one address need as many ports and this machine has {high - low:,};"
            " widen net.ipv4.ip_local_port_range, or use a target in 127.0.0.0/8"
        )
