import pytest

from chatserver.client import render
from chatserver.client.events import Connected, Event, Lost, Members, PresenceChanged, Reconnecting, Refused
from chatserver.client.wire import Message, User

ANN, BOB = User("u_a", "Ann"), User("u_b", "Bob")


def message(text: str, *, name: str = "Ann", time: str = "2026-11-20T12:00:00.123Z") -> Message:
    return Message("lobby", 1, "e1-1", User("u_a", name), time, text)


def test_plain_is_one_line() -> None:
    assert render.plain_line(message("hi\nthere")) == r"2026-11-20T12:00:00.123Z Ann: hi\nthere"


@pytest.mark.parametrize("colours", [True, False])
def test_pretty_keeps_line_breaks_and_nothing_else_that_moves_the_cursor(colours: bool) -> None:
    shown = render.pretty_lines(message("one\ntwo\x1b[2J\r\u202e", name="\x1b]0;x\x07"), colours=colours)
    assert "\n       two\\x1b[2J" in shown
    rest = shown.replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert "\x1b]" not in rest
    assert "\r" not in rest
    assert "\u202e" not in rest
    assert ("\x1b[1;3" in rest) == colours


def test_words_of_every_script_and_emoji_stay() -> None:
    text = "grüße مرحبا 日本 👩\u200d🚀"
    assert render.printable(text) == text


def test_a_strange_time_is_shown_and_not_trusted() -> None:
    assert render.local_time(message("x", time="soon\x1b"), "%H:%M") == "soon\\x1b"
    beginning = "0001-01-01T00:00:00+23:59"  # before any time that there is here
    assert render.local_time(message("x", time=beginning), "%H:%M") == beginning


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Connected(ANN), "connected as Ann"),
        (Lost("ops"), "some messages of ops are gone for good and not shown"),
        (PresenceChanged("ops", (ANN, BOB), (), 3), "Ann, Bob came · 3 here"),
        (PresenceChanged("ops", (ANN,), (BOB,), 3), "Ann came, Bob left · 3 here"),
        (PresenceChanged("ops", (ANN,) * 6, (), 9), "Ann, Ann, Ann, Ann, Ann and 1 more came · 9 here"),
        (PresenceChanged("ops", (), (), 3), None),
        (Members(1, "ops", (ANN, BOB), 2), "2 in ops: Ann, Bob"),
        (Members(1, "ops", (ANN,), 600), "600 in ops: Ann and 599 more"),
        (Refused("k", "forbidden", "no\n"), "not sent: no\\n (forbidden)"),
        (
            Reconnecting("cannot connect: Connection refused", 1.29),
            "cannot connect: Connection refused; reconnecting in 1.3 s…",
        ),
    ],
)
def test_sentences(event: Event, words: str | None) -> None:
    assert render.status(event) == words
