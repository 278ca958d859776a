"""Reads the server's own numbers from /metrics, and the kernel's of TCP."""

import ssl
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

from chatserver.net.states import State

Address = tuple[str, int]


def metrics(address: Address, tls: ssl.SSLContext | None = None) -> dict[str, float]:
    """The samples of /metrics, by name with labels."""
    connection = (
        HTTPConnection(*address, timeout=30) if tls is None else HTTPSConnection(*address, timeout=30, context=tls)
    )
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def held(address: Address, *states: State, tls: ssl.SSLContext | None = None) -> float:
    """Connections that the server counts in these states."""
    found = metrics(address, tls).items()
    counts = {name: value for name, value in found if name.startswith("chatserver_connections{")}
    wanted = [f'phase="{state.name.lower()}"' for state in states]
    return sum(value for name, value in counts.items() if any(phase in name for phase in wanted))


def tcp_memory() -> int:
    """Bytes of the kernel's TCP buffers, of all processes of this machine."""
    lines = (line.split() for line in Path("/proc/net/sockstat").read_text().splitlines())
    tcp = next(line for line in lines if line[0] == "TCP:")
    return int(tcp[tcp.index("mem") + 1]) * 4096


def require_held(address: Address, count: int, *states: State, tls: ssl.SSLContext | None = None) -> None:
    """Raise RuntimeError unless the server has at least so many connections in these states."""
    found = held(address, *states, tls=tls)
    if found < count:
        raise RuntimeError(f"{found:.0f} of {count} are held in {' and '.join(state.name for state in states)}")
