"""The checks of this machine before a run.

Owns: the arithmetic of descriptors, ports and CPUs. A generator that runs out of one of them would measure itself, so
the run is refused with what it needs and what to change.
"""

import os
import resource
from pathlib import Path
from typing import Final

from loadgen.net.target import Target

#: Descriptors for everything that is not a client: the terminal, epoll, the timer, trio's own, /proc files.
OWN_DESCRIPTORS: Final = 64

#: Load average for each CPU above which a run is likely to be invalid.
BUSY_SHARE: Final = 0.75

_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class InvalidRunError(Exception):
    """The run measures nothing of the target, or the generator instead; the text says why. Exit code 3."""


def check(
    target: Target,
    clients: int,
    processes: int = 1,
    *,
    probes: int = 0,
    flags: tuple[str, str] = ("--clients", "--victims, --newcomers"),
) -> list[str]:
    """Raise the descriptor limit as far as it goes, and return warnings; raise if this many clients cannot be held.

    Victims and newcomers (`probes`) have one process of their own. `flags` ask for fewer clients, and for fewer of
    these; they are empty where nothing does.
    """
    _descriptors(clients, processes, probes, *flags)
    _ports(target, clients + probes)
    return _processors(processes)


def _descriptors(clients: int, processes: int, probes: int, for_clients: str, for_probes: str) -> None:
    each = max(-(-clients // processes), probes)
    need = each + OWN_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and need > hard:
        room = hard - OWN_DESCRIPTORS
        who, instead = "connections of victims and newcomers", f"or ask for fewer ({for_probes})"
        if each > probes:
            who = "clients"
            instead = (
                f"ask for at most {room * processes:,} ({for_clients}),"
                f" or play them in more processes (--processes {-(-clients // max(room, 1))})"
            )
        if room < 1:
            instead = f"since loadgen itself needs {OWN_DESCRIPTORS}"
        raise InvalidRunError(
            f"{each:,} {who} in one process need {need:,} descriptors and a process may have {hard:,};"
            f" raise the limit (ulimit -Hn {need})" + f", {instead}" * bool(for_clients)
        )
    if soft != resource.RLIM_INFINITY and need > soft:  # workers inherit it
        resource.setrlimit(resource.RLIMIT_NOFILE, (need if hard == resource.RLIM_INFINITY else hard, hard))


def _ports(target: Target, connections: int) -> None:
    if target.spreads_sources:
        return
    low, high = map(int, _PORT_RANGE.read_text().split())
    if connections > high - low:
        raise InvalidRunError(
            f"{connections:,} clients to one address need as many ports and this machine has {high - low:,};"
            " widen net.ipv4.ip_local_port_range, or use a target in 127.0.0.0/8"
        )


def _processors(processes: int) -> list[str]:
    here = len(os.sched_getaffinity(0))
    busy = os.getloadavg()[0]
    notes = []
    if processes + 1 > here:
        notes.append(
            f"{processes} crowd processes, the victims and a server on this machine share {here} CPUs:"
            f" --processes {max(here - 1, 1)} or less leaves the server one"
        )
    if busy > here * BUSY_SHARE:
        notes.append(
            f"other programs keep this machine busy (load {busy:.1f} on {here} CPUs): if the schedule runs late"
            " because of them, the run will be called invalid"
        )
    return notes
