"""Reads the server's own numbers from /metrics."""

import http.client

Address = tuple[str, int]


def metrics(address: Address) -> dict[str, float]:
    """The samples of /metrics, by name with labels."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples
