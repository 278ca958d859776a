import pytest

from chatserver.client.errors import Rejected, error_of
from chatserver.client.events import Complaint, Entered, Event, Gap, Postponed, Reconnecting
from chatserver.client.wire import (
    Connected,
    Deletion,
    Edit,
    Members,
    Message,
    Reaction,
    Record,
    RoomSummary,
    Unread,
    User,
)
from chatserver.terminal import render
from chatserver.terminal.render import Style

PLACE = ("lobby", 7, "e1-7", User("u_a", "Ann"), "2026-11-20T12:00:00.123Z")
ANN, BOB = User("u_a", "Ann"), User("u_b", "Bob")


def message(
    text: str, *, name: str = "Ann", time: str = "2026-11-20T12:00:00.123Z", reactions: dict[str, int] | None = None,
    **state: bool,
) -> Message:  # fmt: skip
    edited, deleted = state.get("edited", False), state.get("deleted", False)
    user = User("u_a", name)
    return Message("lobby", 1, "e1-1", user, time, text, edited=edited, deleted=deleted, reactions=reactions or {})


def test_plain_is_one_line() -> None:
    for record, words in [
        (message("hi\nthere"), r": hi\nthere"),
        (message("", deleted=True), ": (deleted)"),
        (Edit(*PLACE, 1, "better\x1b"), r" edited #1: better\x1b"),
        (Edit(*PLACE, 1, ""), None),
        (Deletion(*PLACE, 1), " deleted #1"),
        (Reaction(*PLACE, 1, "👍", on=True, count=3), " put 👍 on #1 (3)"),
        (Reaction(*PLACE, 1, "👍", on=False, count=0), " took 👍 off #1 (0)"),
        (Record(*PLACE), None),
    ]:
        expected = None if words is None else f"2026-11-20T12:00:00.123Z Ann{words}"
        assert render.plain_line(record) == expected


@pytest.mark.parametrize("colours", [True, False])
def test_pretty_keeps_line_breaks_and_nothing_else_that_moves_the_cursor(colours: bool) -> None:
    shown = render.message_lines(
        message("one\ntwo\x1b[2J\r\u202e", name="\x1b]0;x\x07", reactions={"\x1b[H": 1}), Style(colours=colours)
    )
    assert "\n       two\\x1b[2J" in shown
    rest = shown.replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert "\x1b]" not in rest
    assert "\x1b[H" not in rest
    assert "\r" not in rest
    assert "\u202e" not in rest
    assert ("\x1b[1;3" in rest) == colours


def test_a_message_of_line_breaks_does_not_take_the_others_out_of_sight() -> None:
    """One of 8 KiB printed 8,000 rows."""
    for count in (render.MOST_LINES, 8_000):
        shown = render.message_lines(message("a" + "\n" * (count - 1) + "b"), Style(colours=False)).splitlines()
        more = count - render.MOST_LINES
        assert (len(shown), shown[-1].strip()) == (
            render.MOST_LINES + bool(more),
            f"({more:,} more lines)" if more else "b",
        )


def test_what_texts_need_and_nobody_sees_is_kept() -> None:
    """Hebrew with a mark of direction had `\\u200f` in it, and the flag of England six times eight digits."""
    text = "\u05d0!\u200f \u061c \u200e \U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    assert render.printable(text) == text
    for moves in ("\u202e", "\u2067", "\u200b"):
        assert render.printable(moves).startswith("\\u")


def test_a_text_that_calls_the_reader_is_strong_and_a_deleted_one_is_not() -> None:
    for called, deleted, shown in (True, False, "\x1b[1mhi"), (False, True, "\x1b[2m(deleted)"), (False, False, " hi"):
        assert shown in render.message_lines(message("hi", deleted=deleted), Style(colours=True), called=called)
    assert "\x1b[1mwaves" in render.message_lines(message("/me waves"), Style(colours=True), called=True)


def test_guests_are_marked_where_the_reader_has_signed_in() -> None:
    guest, zoe = (Message("lobby", 1, "e1-1", User(id_, "Zoe"), PLACE[4], "hi") for id_ in ("g_1", "zoe"))
    for message_, marks, shown in (
        (guest, True, "#1 Zoe (guest): hi"),
        (zoe, True, "#1 Zoe: hi"),
        (guest, False, "#1 Zoe: hi"),
    ):
        assert render.message_lines(message_, Style(colours=False, marks_guests=marks)).endswith(shown)


def test_words_of_every_script_and_emoji_are_kept() -> None:
    text = "grüße مرحبا 日本 👩\u200d🚀 می\u200cرم tout !"
    assert render.printable(text) == text


def test_what_looks_blank_is_a_space_at_which_a_line_may_break() -> None:
    """A sentence of such characters was one word, and where it passed the edge it looked like the line of another user.

    Where the terminal broke it, `12:00  #3 Boss: new password` stood at the beginning of a row.
    """
    for blank in "\u00a0\u202f\u3000\u2800\u3164\u115f\u1160\uffa0\U0001d159":
        shown = render.message_lines(message(f"what?{blank}{blank}12:00{blank}Boss"), Style(colours=False))
        assert render.wrapped(shown, 26, indent=7).split("\n")[1:] == ["      12:00 Boss"], ascii(blank)


def test_lines_break_between_words() -> None:
    for text, rows in [
        ("one two three four", ["one two", "  three", "  four"]),
        ("seven 7 x", ["seven 7", "  x"]),
        ("    seven x", ["    seven", "  x"]),
        ("one  two   six", ["one  two", "  six"]),
        ("1 aVeryLongWord 2 3", ["1 aVeryLongWord", "  2 3"]),
        ("one sevenxx", ["one sevenxx"]),
        ("· sevenxx", ["· sevenxx"]),
        ("ab sevenx", ["ab", "  sevenx"]),
        ("a\n  code b c", ["a", "  code b", "  c"]),
        ("\x1b[2mone\x1b[0m two \x1b[1mthree\x1b[0m", ["\x1b[2mone\x1b[0m two", "  \x1b[1mthree\x1b[0m"]),
        ("aVeryLongWordOf21cell a b", ["aVeryLongWordOf21cell", "  a b"]),  # its last row has room for them
        ("👍🏽👍🏽 a b", ["👍🏽👍🏽", "  a b"]),  # many terminals show the parts of an emoji side by side
        ("日本 語日本", ["日本 語", "  日本"]),
        ("日本語日本語日本語 a b", ["日本語日", "  本語日", "  本語 a", "  b"]),
        ("日本語だ。はい", ["日本語", "  だ。は", "  い"]),
        ("日本 「語」日", ["日本", "  「語」", "  日"]),
        ("see日本語", ["see日本", "  語"]),
        ("「」。、", ["「」。、"]),
        ("한국말을 합니다", ["한국말을", "  합니다"]),
        ("", [""]),
    ]:
        assert render.wrapped(text, 8, indent=2).split("\n") == rows


def test_spaces_at_the_end_of_a_line_take_linear_time() -> None:
    """With quadratic time, 8,000 spaces stop a terminal for 3 s; the spaces here would take days."""
    assert render.wrapped("a" + " " * 1_000_000, 8, indent=2) == "a"


def test_a_narrow_terminal_has_room_for_words_beside_the_indentation() -> None:
    assert render.wrapped("one two", 6, indent=7).split("\n") == ["one", " two"]


def test_an_impossible_time_is_shown_unchanged() -> None:
    assert render.local_time(message("x", time="soon\x1b"), "%H:%M") == "soon\\x1b"
    beginning = "0001-01-01T00:00:00+23:59"  # in UTC this is before year 1
    assert render.local_time(message("x", time=beginning), "%H:%M") == beginning


def test_each_event_has_its_sentence() -> None:
    sentences: list[tuple[Event, str]] = [
        (Connected(ANN), "connected as Ann"),
        (Connected(User("u_c", "")), "connected as ?"),
        (Entered("ops", 3, resumed=False), "in ops, 3 here"),
        (Entered("ops", None, resumed=True), "back in ops"),
        (Gap("ops", None), "some messages of ops are gone for good and not shown"),
        (Complaint("ops", "forbidden", "out\x1b"), "the server says: ops: out\\x1b"),
        (Complaint(None, "forbidden", "you may not write"), "the server says: you may not write"),
        (Postponed("ops", "rate_limited", "slowly", 2.0), "slowly; it will be sent by itself"),
        (
            Reconnecting("cannot connect: Connection refused", 1.29),
            "cannot connect: Connection refused; reconnecting in 1.3 s…",
        ),
        (Reconnecting("gone", 0.49), "gone; reconnecting…"),  # the first of many waits, told of once
    ]
    for event, words in sentences:
        assert render.status(event) == words


def test_members_are_named_and_the_others_counted() -> None:
    assert render.members(Members("ops", (BOB, User("u_c", ""), ANN), 3)) == "3 in ops: ?, Ann, Bob"
    assert render.members(Members("ops", (ANN,), 600)) == "600 in ops: Ann and 599 more"


def test_what_is_unread_is_told_of_rooms_that_are_not_entered() -> None:
    room = RoomSummary("ops", "e1-61", 1200, 3)
    for unread, is_entered, row in (
        (Unread(0, 1200, 2), False, "  ops: 1,200 messages and changes, 3 here, 1,200 unread, 2 for you"),
        (Unread(0, 1200, 2), True, "* ops: 1,200 messages and changes, 3 here"),
        (Unread(1200), False, "  ops: 1,200 messages and changes, 3 here"),
        (None, False, "  ops: 1,200 messages and changes, 3 here"),
    ):
        assert render.room_line(room, unread, is_entered=is_entered) == row


def test_the_reason_for_an_outage_is_shown_once() -> None:
    outages: list[tuple[Event, Event]] = [
        (Reconnecting("gone", 1.0), Connected(ANN)),
        (Postponed("ops", "unavailable", "the disk is full", 1.0), message("it has room again")),
    ]
    brief = Postponed("ops", "rate_limited", "slowly", 0.9)
    for event, end in outages:
        narrator = render.Narrator()
        said = [bool(narrator.words(each)) for each in (event, brief, event, Gap("ops", None), event, end, event)]
        assert said == [True, False, False, True, False, end == Connected(ANN), True]


def test_a_refusal_is_shown_once_whatever_the_time_to_wait() -> None:
    """A job of cron over its rate wrote a line for nearly each line that it sent."""
    narrator = render.Narrator()
    waits = (Postponed("ops", "rate_limited", f"too many messages; try again in {wait} s", 1.5) for wait in (0.8, 1.0))
    assert [bool(narrator.words(wait)) for wait in waits] == [True, False]


def test_the_present_state_of_a_message() -> None:
    for shown, words in [
        (message("hi"), "#1 Ann: hi"),
        (message("hi", edited=True, reactions={"👍": 2, "🎉": 1}), "#1 Ann: hi  👍 2 🎉 1 (edited)"),
        (message("gone?", deleted=True, edited=True), "#1 Ann: (deleted)"),
        (message("/me waves\nand\tso\tgoes"), "#1 * Ann waves\n       and so  goes"),
    ]:
        assert render.message_lines(shown, Style(colours=False)).partition("  ")[2] == words


def test_a_message_shows_its_room_and_the_message_that_it_answers() -> None:
    lines = render.message_lines(message("yes"), Style(colours=False), room="ops", quote="#3 Bob: coming?").splitlines()
    assert [line.partition("  ")[2] for line in lines] == ["ops│↳ #3 Bob: coming?", "ops│#1 Ann: yes"]
    assert render.quoted(message("x" * 100 + "\n")) == f"Ann: {'x' * 59}…"
    assert render.quoted(message("x" * 60)) == f"Ann: {'x' * 60}"


def test_a_text_that_may_have_arrived_is_perhaps_not_sent() -> None:
    """The line said "not sent", and of the same text that it might be stored."""
    assert render.unsent(error_of("unavailable", "no answer"), "lobby").startswith("perhaps not sent")
    assert render.unsent(Rejected("rejected", "you are banned here"), "lobby").startswith("perhaps not sent")
    assert render.unsent(error_of("forbidden", "sign in\x1b"), "lobby") == r"not sent to lobby: sign in\x1b"
    assert render.unsent(error_of("forbidden", "sign in")) == "not sent: sign in"
