"""Which ends of connections a server has planned."""

import pytest

from loadgen.net.answers import is_planned


@pytest.mark.parametrize(
    ("interval", "most"),
    [
        (3.3, 4),  # each worker lets the client in that is the next to restart: of three workers' clients 2% were ended
        (5.2, 4),  # closes what is idle for 5 s: it passed
        (7.6, 100),
    ],
)
def test_four_ends_within_thirty_seconds_are_planned(
    interval: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, ends = 0.0, list[float]()
    monkeypatch.setattr("loadgen.net.answers.now", lambda: moment)
    planned = 0
    while planned < 100 and is_planned(ends):
        planned, moment = planned + 1, moment + interval
    assert planned == most
