"""When messages are due: a schedule that depends on nothing but its rates."""

from random import Random
from typing import ClassVar
from zlib import crc32

import pytest

from loadgen.clients.traffic import CATCH_UP_BATCH, Pace, Traffic, name_in
from loadgen.net.timers import Alarms
from loadgen.report.latency import Lag


def test_a_steady_rate_has_equal_intervals() -> None:
    pace = Pace(10.0, 4.0, 4.0, 0.0)
    assert [pace.due(number) for number in range(3)] == [10.0, 10.25, 10.5]
    assert Pace(10.0, 0.0, 0.0, 0.0).due(0) == float("inf")


@pytest.mark.parametrize(("begin", "end"), [(0.0, 100.0), (100.0, 0.0), (20.0, 60.0), (50.0, 50.0)])
def test_a_rate_grows_evenly_to_the_other(begin: float, end: float) -> None:
    pace = Pace(0.0, begin, end, 10.0)
    dues = [pace.due(number) for number in range(1200)]
    assert dues == sorted(dues)
    total = (begin + end) / 2 * 10
    half = (begin + (begin + end) / 2) / 2 * 5
    assert sum(due < 10.0 for due in dues) == pytest.approx(total, abs=1.5)
    assert sum(due < 5.0 for due in dues) == pytest.approx(half, abs=1.5)
    if end:
        after = [due for due in dues if due >= 10.0][:2]
        assert after[0] <= 10.0 + 1 / end
        assert after[1] - after[0] == pytest.approx(1 / end)


def test_the_last_message_of_a_rate_that_ends_is_due_at_its_end() -> None:
    """The root of a number that rounded to less than zero ended the process."""
    assert Pace(0.0, 22.6, 0.0, 170.0).due(1921) == pytest.approx(170.0, abs=0.01)


class _Speaker:
    """A speaker whose server answers when the test says so."""

    room = "lobby"
    echoes: ClassVar[bool] = False

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.sent: list[tuple[int, str]] = []

    def publish(self, number: int, text: str) -> None:
        self.sent.append((number, text))


class _Echoed(_Speaker):
    echoes = True


class _Wound:
    """A schedule whose clock the test winds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moment = 100.0
        self.most_at_once = 0  # messages sent before the sockets are served again
        self._alarms = Alarms()
        self.lag = Lag()
        self.traffic = Traffic(Random(1), at=self._alarms.add, lag=self.lag)
        self.speaker = _Echoed()
        self.traffic.enter(self.speaker)
        monkeypatch.setattr("loadgen.clients.traffic.now", lambda: self.moment)

    def pass_(self, seconds: float, *, stands_still: bool = False) -> int:
        """Let time pass, and return how many messages were sent in it."""
        before, until = self.traffic.intended, self.moment + seconds
        while not stands_still and (when := self._alarms.next_time) <= until:
            self.moment = when
            self._ring()
        self.moment = until
        self._ring()
        return self.traffic.intended - before

    def _ring(self) -> None:
        while due := self._alarms.pop_due(self.moment):
            before = self.traffic.intended
            for _, action in due:
                action()
            self.most_at_once = max(self.most_at_once, self.traffic.intended - before)


@pytest.fixture
def wound(monkeypatch: pytest.MonkeyPatch) -> _Wound:
    return _Wound(monkeypatch)


def test_a_rate_lasts_until_another_or_the_end(wound: _Wound) -> None:
    wound.traffic.start(20.0, over_seconds=1.0)
    assert wound.pass_(1.0) == pytest.approx(10, abs=1), "it rises from nothing"
    wound.traffic.start(10.0)
    assert wound.pass_(0.95) == 9, "and one at once"
    wound.traffic.start(100.0)
    assert wound.pass_(0.955) == 95
    wound.traffic.start(0.0, over_seconds=2.0)
    assert wound.pass_(10.0) == pytest.approx(100, abs=1), "it falls from the present rate"
    wound.traffic.start(20.0)
    assert wound.pass_(0.95) == 19
    wound.traffic.stop()
    assert wound.pass_(10.0) == 0
    wound.traffic.start(20.0, over_seconds=1.0)
    assert wound.pass_(1.0) == pytest.approx(10, abs=1), "it had stopped"


def test_what_was_due_while_the_process_stood_still_is_sent_late_and_timed_from_when_it_was_due(wound: _Wound) -> None:
    wound.traffic.start(100.0)
    assert wound.pass_(2.005, stands_still=True) == 200
    assert wound.most_at_once == CATCH_UP_BATCH
    assert len(wound.speaker.sent) == 201
    [late] = wound.lag.phases.values()
    assert late.schedule.count == 201
    assert late.schedule.longest == pytest.approx(1.995)
    for number, _ in wound.speaker.sent:
        wound.traffic.acknowledged(wound.speaker, number)
    acks = wound.traffic.result().acks
    assert acks.count == 201
    assert acks.longest == pytest.approx(2.005)
    assert acks.at(50) == pytest.approx(1.005, rel=0.01)


def test_messages_that_come_back_out_of_order_are_errors_but_for_those_sent_again(wound: _Wound) -> None:
    for _ in range(3):
        wound.traffic.start(0.001)
    first, second, third = [text for _, text in wound.speaker.sent]
    wound.traffic.heard(wound.speaker, second)
    wound.traffic.enter(wound.speaker, again=True)
    wound.traffic.heard(wound.speaker, first)
    assert not wound.traffic.booked.errors
    wound.traffic.heard(wound.speaker, third)
    wound.traffic.start(0.001)
    wound.traffic.start(0.001)
    fourth, fifth = [text for _, text in wound.speaker.sent[-2:]]
    wound.traffic.heard(wound.speaker, fifth)
    wound.traffic.heard(wound.speaker, fourth)
    assert wound.traffic.booked.errors == {"a message came out of order": 1}


def test_how_a_message_is_booked(wound: _Wound) -> None:
    """Of five: acknowledged and back, acknowledged alone, refused at once, refused late, neither."""
    for _ in range(5):
        wound.traffic.start(0.001)
    texts = [text for _, text in wound.speaker.sent]
    assert texts[0].startswith(f"{wound.traffic.tag} 0 the quick")
    wound.moment += 1.0
    for number in (0, 0, 1):
        assert not wound.traffic.acknowledged(_Speaker(), number), "a server gave receipts to others, and held"
        wound.traffic.acknowledged(wound.speaker, number)
    wound.traffic.heard(_Speaker(), texts[0])
    wound.traffic.heard(wound.speaker, "what others say")
    wound.traffic.heard(wound.speaker, texts[0].replace(wound.traffic.tag, "lg-00000000"))  # another process's
    assert not wound.traffic.booked.echoes.count, "it came to another, or was another"
    for text in (texts[0], texts[0], texts[3]):
        wound.traffic.heard(wound.speaker, text)
    assert not wound.traffic.booked.errors
    for _ in range(2):
        wound.traffic.refused(2, "rate_limited")
    assert wound.traffic.outstanding == 2 + 2
    wound.moment += 6.0
    wound.traffic.refused(3, "rate_limited")
    result = wound.traffic.result()
    assert (result.unacknowledged, result.unreturned, result.errors) == (1, 2, {"rate_limited": 3})
    assert [wound.moment - due for due in result.unanswered] == [pytest.approx(7)]
    names = [f"{wound.traffic.tag} {number}".encode() for number in (0, 1)]
    assert (result.acknowledged_in, result.checksums_in) == ({"lobby": 2}, {"lobby": sum(map(crc32, names))})
    assert [name_in(text, "lg").encode() for text in texts[:2]] == names
    assert name_in(f"no, {texts[0]}", "lg") == name_in(texts[0], "ot") == ""
    assert (result.acks.count, result.echoes.count) == (5, 5)
    for latency in (result.acks, result.echoes):
        assert [latency.at(percent) for percent in (40, 60, 80, 100)] == pytest.approx([1, 5, 7, 7], rel=0.01)
    recent = wound.traffic.recent
    assert recent.latency.count == 2
    assert [wound.moment - due for due in recent.failed] == pytest.approx([7, 6, 7]), "when they were due, if known"
    wound.traffic.start(1.0, text_bytes=500)
    text = wound.speaker.sent[-1][1]
    assert len(text.partition("the")[2]) == 497
    for changed in (text[:-1], text.replace("fox", "cat")):
        wound.traffic.heard(wound.speaker, changed)
    assert wound.traffic.result().unreturned == 3, "half of a long message had come back for all of it"
    wound.traffic.heard(wound.speaker, text)
    assert wound.traffic.result().unreturned == 2


@pytest.mark.parametrize("speaker", [_Speaker(), _Echoed()])
def test_what_nobody_could_send_is_missed_only_after_the_first_came(speaker: _Speaker) -> None:
    """A scenario may open its speakers in the phase in which they speak: what is due before that is nobody's."""
    traffic = Traffic(Random(1), at=lambda when, action: None, lag=Lag())
    traffic.start(1.0)  # one message is due at once
    assert (traffic.intended, traffic.result().unsent) == (1, 0)
    for _ in range(2):
        traffic.enter(speaker)  # a client enters with each of its connections
    traffic.start(1.0)
    assert traffic.result().unacknowledged == 1
    assert traffic.outstanding == 1 + speaker.echoes
    traffic.leave(speaker)
    traffic.start(1.0)
    result = traffic.result()
    assert result.unsent == 1, "the server ended the only one"
    assert (result.acks.count, result.echoes.count) == (2, 2 * speaker.echoes), "it is in the percentiles"
    assert len(result.unanswered) == 2
    assert result.acks.at(0) == pytest.approx(5.0, rel=0.01)
    traffic.enter(speaker)
    assert (traffic.result().unsent, traffic.result().unacknowledged) == (0, 2), "it is back, and the message waited"
    traffic.leave(speaker)


def test_what_waited_waits_on_if_the_first_that_is_back_is_gone_at_once() -> None:
    """Its socket may fail at the first message of several; there was nobody to divide the next number by."""
    traffic = Traffic(Random(1), at=lambda when, action: None, lag=Lag())

    class Gone(_Speaker):
        def publish(self, number: int, text: str) -> None:
            traffic.leave(self)

    first = _Speaker()
    traffic.enter(first)
    traffic.leave(first)
    for _ in range(3):
        traffic.start(1.0)
    traffic.enter(Gone())
    assert (traffic.result().unacknowledged, traffic.result().unsent) == (1, 2)
    traffic.enter(first)
    assert [number for number, _ in first.sent] == [1, 2]
    assert traffic.result().unsent == 0


def test_what_is_in_the_room_after_a_planned_end_is_stored_and_the_rest_is_said_again(wound: _Wound) -> None:
    """A restart of a worker left the messages that crossed with it unacknowledged: the server fell short."""
    other = _Echoed(1)
    wound.traffic.enter(other)
    wound.traffic.start(1.0)
    wound.pass_(5.0)
    (first, second, third), theirs = wound.speaker.sent, other.sent
    for _, text in (first, theirs[0], theirs[0]):
        wound.traffic.found(wound.speaker, text)
    result = wound.traffic.booked
    assert (result.acks.count, result.echoes.count) == (1, 1), "and nothing of another's, whose receipt may come"
    for speaker in (wound.speaker, other):
        wound.traffic.leave(speaker)
    wound.pass_(1.0)  # a message waits for the first that is back
    wound.traffic.enter(wound.speaker, again=True)
    assert wound.speaker.sent[3:5] == [second, third]
    assert [number for number, _ in wound.speaker.sent[5:]] == [6], "once"


def test_speakers_take_turns_and_not_in_the_order_of_their_connections(wound: _Wound) -> None:
    speakers = [_Speaker(index) for index in range(5)]
    wound.traffic.leave(wound.speaker)
    for index in (2, 0, 4, 1, 3):
        wound.traffic.enter(speakers[index])
    wound.traffic.start(10.0)
    wound.pass_(0.95)
    assert [[number for number, _ in speaker.sent] for speaker in speakers] == [[4, 9], [2, 7], [0, 5], [1, 6], [3, 8]]
