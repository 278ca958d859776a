"""The table of sign-outs: the last one of each person counts, and those without effect are dropped."""

from collections.abc import Iterable
from itertools import islice

import pytest

from chatserver.chat.signed_out import SignedOut
from chatserver.log.signouts import SignOut


class Table(SignedOut):
    """A table that notes whose connections it ends."""

    def __init__(self) -> None:
        self.ended: list[int] = []
        super().__init__(end=self.ended.append, wall_ms=lambda: 0)

    def kept(self, *numbers: int) -> list[int]:
        """Those of these persons whose tokens of the first second are invalid."""
        return [number for number in numbers if not self.holds(number, 0.5)]


def out(number: int, second: int, *, until: int = 1 << 40, guest: bool = False) -> SignOut:
    return SignOut(number, guest=guest, time=1000 * second, until=until)


def test_entries_without_effect_are_dropped() -> None:
    table = Table()
    for number, until in enumerate((10, 10_000, 10_000)):
        table.note(out(number, number + 1, until=until))
    assert table.ended == [0, 1, 2]
    assert table.kept(0, 1, 2) == [1, 2]
    assert [table.holds(2, issued) for issued in (0.0, 3.0, 3.001)] == [False, False, True]
    last = table.last_of(1)
    assert not table.again_since(last, 1)
    table.note(out(1, 20))
    assert table.again_since(last, 1)
    table.note(out(3, 21))
    assert table.kept(1, 2, 3) == [1, 3], "a later sign-out does not keep the expired one of another person"
    assert not table.again_since(out(2, 3), 2)


def test_a_sign_out_that_is_noted_late_leaves_no_token_valid_and_ends_connections() -> None:
    table = Table()
    table.note(out(1, 20, until=30_000))
    last = table.last_of(1)
    table.note(out(1, 10, until=20_000))
    assert not table.holds(1, 15.0)
    assert table.again_since(last, 1)
    assert table.ended == [1, 1]
    table.note(out(2, 21))
    assert not table.holds(1, 15.0), "it lasts as long"


def test_of_guests_only_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other users all are kept, so that no revoked token is valid again; there may be so many."""
    monkeypatch.setattr("chatserver.chat.signed_out.MAX_GUESTS", 2)
    monkeypatch.setattr("chatserver.chat.signed_out.MAX_USERS", 3)
    table = Table()
    for second, number in enumerate((1, 2, 1, 3), start=1):
        table.note(out(number, second, guest=True))
    for number in (11, 12):
        table.note(out(number, 5))
    assert table.kept(1, 2, 3, 11, 12) == [1, 3, 11, 12]
    assert table.takes(13)
    table.note(out(13, 6))
    assert [table.takes(number) for number in (13, 14)] == [True, False]
    table.wall_ms = lambda: 1 << 41
    assert any(table.takes(14) for _ in range(3)), "the others have expired, and are removed a few at a time"


def test_of_the_tables_in_the_log_only_news_end_connections() -> None:
    table = Table()
    table.restore([out(1, 5), out(2, 5)])
    for each in (out(1, 5), out(1, 4), out(2, 6), out(3, 1)):
        table.renew(each)
    assert table.ended == [2, 3]
    assert [table.holds(1, second) for second in (4.5, 5.5)] == [False, True]


def test_a_sign_out_visits_few_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Visiting all at each thousandth would take 2 ms of the loop for each thousand that are kept."""
    looked: list[SignOut] = []

    def few(values: Iterable[SignOut], most: int) -> Iterable[SignOut]:
        looked.extend(found := list(islice(values, most)))
        return found

    monkeypatch.setattr("chatserver.chat.signed_out.islice", few)
    table = Table()
    for second in range(3000):
        table.note(out(second, second, until=1000 * second + 100_000))
    assert len(looked) <= 2 * 3000
    assert sum(not table.holds(number) for number in range(3000)) == 100, "expired entries are removed"
