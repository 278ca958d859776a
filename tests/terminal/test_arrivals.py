"""The line of users who join and leave."""

import pytest

from chatserver.client.wire import Presence, User
from chatserver.terminal.arrivals import Arrivals
from chatserver.terminal.recall import Recall

ME = User("u_Me", "Me")


def people(names: str) -> tuple[User, ...]:
    """Users by name; one with another name is written `Bob=Rob`."""
    parts = (name.partition("=") for name in names.split())
    return tuple(User(f"u_{known}", new or known) for known, _, new in parts)


@pytest.mark.parametrize(
    "story",
    [
        pytest.param([
            ("Ann Bob", "", 3, "Ann, Bob joined · 3 here"),
            ("Cy Dee", "Ann", 4, "Bob, Cy, Dee joined · 4 here"),
            ("Ann", "", 5, "4 people joined · 5 here"),
            ("", "Dee", 4, "Bob, Cy, Ann joined · 4 here"),
        ], id="one line, in which a departure cancels an arrival"),
        pytest.param([
            ("", "Dee", 4, "Dee left · 4 here"),
            ("Dee", "", 5, "5 here"),
            ("Me", "", 6, None),
            ("Cy", "Ann", 6, "Cy joined, Ann left · 6 here"),
        ], id="a departure that is over"),
        pytest.param([("Dee", "", 2, "Dee joined · 2 here"), ("", "Dee", 1, "1 here")], id="an arrival that is over"),
        pytest.param([
            ("Ann Bob", "", 6, "Ann, Bob joined · 6 here"),
            ("Cy Dee", "", 6, "4 people joined · 6 here"),
            ("Eve", "", 6, "5 people joined · 6 here"),
            ("Eve=Eva", "", 6, "Eve is now Eva", None),
            ("", "Ann Bob", 1, "Ann, Bob left · 1 here"),
            ("", "Cy Dee", 1, "4 people left · 1 here"),
        ], id="more have come than one notice names"),
        pytest.param([("", "", 9, None), ("Ann", "", 9, None)], id="nobody is named where too many come"),
        pytest.param([
            ("Ann Me Bob", "", 3, "Bob joined · 3 here"),
            ("Bob", "", 3, "Bob joined · 3 here"),
            ("Bob Cy", "", 4, "Bob, Cy joined · 4 here"),
        ], id="people who are counted already have not joined"),
        pytest.param([
            ("Bob", "", 2, "Bob joined · 2 here"),
            ("Cy Bob=Rob", "", 3, "Bob is now Rob", "Cy joined · 3 here"),
            ("Cy=Sy", "", 3, "Cy is now Sy", None),
        ], id="people with another name have not joined either"),
    ],
)  # fmt: skip
def test_arrivals_are_one_line_and_renames_a_note_each(story: list[tuple[str, str, int, str | None]]) -> None:
    arrivals = Arrivals(Recall())
    arrivals.entered("lobby", 1)
    arrivals.take(Presence("lobby", people("Me"), (), 1), me=ME, is_shown=True)
    for joined, left, members, *shown in story:
        renames, line = arrivals.take(
            Presence("lobby", people(joined), people(left), members), me=ME, is_shown=True
        )  # fmt: skip
        assert [*renames, line] == shown


def test_who_was_counted_in_the_answer_to_our_join_has_not_joined() -> None:
    arrivals = Arrivals(Recall())
    arrivals.entered("lobby", 2)
    assert arrivals.take(Presence("lobby", people("Ann Me"), (), 2), me=ME, is_shown=True) == ([], None)


def test_another_room_is_counted_and_not_shown() -> None:
    arrivals = Arrivals(Recall())
    for room, members in (("lobby", 1), ("ops", None)):
        arrivals.entered(room, members)
    for room, shown in (("lobby", "Ann joined · 2 here"), ("ops", None), ("lobby", "Ann joined · 2 here")):
        event = Presence(room, people("Ann"), (), 2)
        assert arrivals.take(event, me=ME, is_shown=room == "lobby") == ([], shown)
