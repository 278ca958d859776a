"""A schedule that the test winds by hand."""

from random import Random

from loadgen.clients.traffic import Traffic
from loadgen.report.latency import Lag


def schedule() -> Traffic:
    """One whose messages are sent by the test, with `send`."""
    return Traffic(Random(1), at=lambda when, action: None, lag=Lag())


def send(traffic: Traffic, count: int = 1) -> None:
    """Have so many messages fall due now."""
    traffic.start(0.001)  # one is due at once, the next in a quarter of an hour
    for _ in range(count - 1):
        traffic.start(0.001)
