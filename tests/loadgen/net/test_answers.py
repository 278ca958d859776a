"""Which ends of connections a server has planned."""

import pytest

from loadgen.net.answers import PlannedEnds


def test_two_ends_within_ten_seconds_are_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was let in by the worker that was the next to restart was ended."""
    ends = PlannedEnds()
    for moment, is_planned in ((0.0, True), (5.0, True), (9.9, False), (10.0, True), (14.9, False), (15.0, True)):
        monkeypatch.setattr("loadgen.net.answers.now", lambda moment=moment: moment)
        assert ends.allow() is is_planned, moment
