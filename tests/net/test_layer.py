"""A layer that overrides nothing is not there."""

from chatserver.net.layer import Layer
from chatserver.reasons import Reason
from tests.support.parked import RecordingAttendant, parked


def test_everything_is_passed_on() -> None:
    recorder = RecordingAttendant(lacks=7)
    layer = Layer(recorder)
    with parked() as it:
        connection, _ = it.connect()
        layer.received(connection, b"x")
        layer.ended(connection)
        layer.drained(connection)
        layer.expired(connection)
        layer.resumed(connection)
        layer.faulted(connection)
        layer.closed(connection, Reason.DONE)
        told = [event for event, whose, _ in recorder.events if whose is connection]
        assert told == ["received", "ended", "drained", "expired", "resumed", "faulted", "closed"]
        assert layer.lacking(connection) == 7
