"""Sanctions: what they forbid, where and for how long, and which users are expelled."""

import pytest

from chatserver.chat import moderation as moderation_module
from chatserver.chat.moderation import Enforcement, Moderation
from chatserver.chat.policy import Action, Rights, rights_of
from chatserver.chat.principal import Principal, guest, number_behind
from chatserver.log.sanctions import EVERYWHERE, Penalty, Sanction

READ, WRITE, MODERATE = Action.READ, Action.WRITE, Action.MODERATE
HERE, THERE = "192.0.2.1", "192.0.2.2"
ANN, BOB = Principal(1, HERE), Principal(2, THERE)
START = 1_000_000


class Moderator(Principal, gc=False, frozen=True, eq=False):
    """A moderator of these rooms, or of all."""

    rooms: tuple[str, ...] = ()

    @property
    def rights(self) -> Rights:
        return rights_of("moderator", tuple((room, "rw") for room in self.rooms) or None)


class House:
    """The table of sanctions, its clock, and what it does to open connections."""

    def __init__(self) -> None:
        self.now = START
        self.asked: list[Enforcement] = []
        self.it = Moderation(b"s" * 16, apply=self.asked.append, wall_ms=lambda: self.now)
        self._last = 0

    def enforce(
        self, whom: Principal | str, kind: Penalty = Penalty.BAN, room: str = "lobby", *, seconds: int = 0,
        reason: str = "", id_: int = 0,
    ) -> Sanction:  # fmt: skip
        """A sanction for a principal, or for a network."""
        self._last += 1
        user, network = (whom.face.id, "") if isinstance(whom, Principal) else ("", whom)
        until = self.now + seconds * 1000 if seconds else 0
        made = Sanction(room, kind, user, network, until, reason, "u_mod", "Mod", self.now, id=id_ or self._last)
        self.it.enforce(made)
        return made

    def refusal(self, who: Principal, action: Action) -> tuple[str, float | None]:
        found = self.it.check(who, action, "lobby")
        assert found is not None
        return found.sentence, found.seconds_left

    def in_force(self, room: str) -> list[int]:
        """The ids of a room's sanctions, the newest first."""
        return [each.id for each in reversed(self.it.in_force.values()) if each.room == room]

    def allowed(self, who: Principal, room: str = "lobby") -> list[Action]:
        counted = dict(self.it.refused)
        allowed = [action for action in Action if self.it.sanction_on(who, action, room) is None]
        assert self.it.refused == counted, "a check without an attempt counts no refusal"
        return allowed


@pytest.fixture
def house() -> House:
    return House()


def test_a_mute_forbids_writing_only(house: House) -> None:
    house.enforce(ANN, Penalty.MUTE)
    assert house.allowed(ANN) == [READ, MODERATE]
    assert house.allowed(ANN, "ops") == list(Action)
    assert house.allowed(BOB) == list(Action)
    assert [(each.kind, each.concerns(ANN), each.concerns(BOB)) for each in house.asked] == [
        (Penalty.MUTE, True, False)
    ]


def test_a_ban_forbids_everything_in_its_room_or_in_all(house: House) -> None:
    for room, elsewhere in (("lobby", list(Action)), (EVERYWHERE, [])):
        house.enforce(ANN, room=room)
        assert [house.allowed(ANN, each) for each in ("lobby", "ops", EVERYWHERE)] == [[], elsewhere, elsewhere]
        assert house.allowed(BOB) == list(Action)
        house.it.lift(house.in_force(room)[0])


def test_a_banned_network_bans_all_its_users_but_moderators(house: House) -> None:
    second = Moderator(3, HERE)
    house.enforce(HERE)
    assert house.allowed(ANN) == []
    assert house.allowed(second) == list(Action)
    house.enforce(second)
    assert house.allowed(second) == [], "one moderator may ban another"


def test_a_duration_is_written_in_words(house: House) -> None:
    for seconds, words in (
        (60, "60 s"), (600, "10 minutes"), (3600, "60 minutes"), (7199, "2 hours"), (86_400, "24 hours"),
        (30 * 86_400, "30 days"),
    ):  # fmt: skip
        house.enforce(ANN, Penalty.BAN, seconds=seconds)  # in place of the one before
        assert house.refusal(ANN, WRITE) == (f"you are banned in lobby for another {words}", seconds)


def test_a_sanction_ends_by_the_clock_and_tells_its_remaining_time(house: House) -> None:
    made = house.enforce(ANN, Penalty.MUTE, seconds=60, reason="spam")
    assert house.refusal(ANN, WRITE) == ("you may not write in lobby for another 60 s: spam", 60.0)
    house.now += 59_500
    assert house.refusal(ANN, WRITE) == ("you may not write in lobby for another 1 s: spam", 0.5)
    house.now += 500
    assert house.allowed(ANN) == list(Action)
    assert house.it.refused == {Penalty.MUTE: 2, Penalty.BAN: 0}
    house.now += 500
    assert house.it.refusal(made).seconds_left == 0.0, "as if it was stored late"


def test_of_several_sanctions_the_longest_is_told(house: House) -> None:
    house.enforce(ANN, Penalty.MUTE, seconds=10)
    house.enforce(ANN, Penalty.MUTE, EVERYWHERE, seconds=500)
    house.enforce(ANN, Penalty.BAN, seconds=100)
    assert [house.refusal(ANN, action)[1] for action in (WRITE, READ)] == [500.0, 100.0]
    assert house.it.check(ANN, READ, "ops") is None
    house.enforce(ANN, Penalty.BAN, EVERYWHERE)
    assert house.refusal(ANN, WRITE) == ("you are banned here", None), "a sanction without an end is the longest"


def test_a_new_sanction_replaces_an_equal_one(house: House) -> None:
    house.enforce(ANN, Penalty.MUTE, seconds=10)
    house.enforce(ANN, Penalty.MUTE, EVERYWHERE)
    later = house.enforce(ANN, Penalty.MUTE, seconds=20)
    assert house.in_force("lobby") == [later.id]
    house.enforce(ANN, Penalty.MUTE, seconds=99, id_=1)
    assert house.in_force("lobby") == [later.id], "the earlier one arrives late and is dropped"
    assert house.it.enforce(later), "its request resumes after the tables were read again"
    ban = house.enforce(ANN)
    assert house.in_force("lobby") == [ban.id, later.id]
    assert len(house.it.in_force) == 3


def test_a_lifted_sanction_is_removed(house: House) -> None:
    made = [house.enforce(ANN), house.enforce(ANN, Penalty.MUTE), house.enforce(ANN, room="ops"), house.enforce(HERE)]
    for each in made:
        house.it.lift(each.id)
        house.it.lift(each.id)
    assert house.allowed(ANN) == list(Action)
    assert (house.it.in_force, house.it._by_key) == ({}, {})


def test_expired_sanctions_are_removed_a_few_at_a_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moderation_module, "SWEEP", 3)
    for number in range(1, 8):
        house.enforce(Principal(number, HERE), seconds=10 if number % 2 else 0)
    house.it.sweep()
    assert len(house.it.in_force) == 7
    house.now += 10_000
    left = []
    for _ in range(5):
        house.it.sweep()
        left.append(len(house.it.in_force))
    assert (left[0] > 3, left[-1]) == (True, 3)
    assert all(each.until == 0 for each in house.it.in_force.values())


def test_a_renewal_keeps_changes_made_here_during_the_read(house: House) -> None:
    lifted_here, _lifted_elsewhere, kept = (house.enforce(Principal(number, HERE)) for number in (5, 6, 7))
    house.it.before_read()
    house.it.lift(lifted_here.id)
    made_and_lifted_here = house.enforce(BOB)  # it came back, for half a minute
    house.it.lift(made_and_lifted_here.id)
    made_here, made_late = (house.enforce(Principal(number, HERE)) for number in (8, 9))
    made_elsewhere = House().enforce(ANN, id_=9)
    house.asked.clear()
    read = [lifted_here, kept, made_and_lifted_here, made_here, made_elsewhere]  # then the last was made
    assert len(list(house.it.renew(read))) == len(read) + 5, "one step for each in the log, and for each in force"
    assert set(house.it.in_force) == {kept.id, made_here.id, made_late.id, made_elsewhere.id}
    assert [each.concerns(ANN) for each in house.asked] == [True]
    house.it.lift(kept.id)
    assert house.it._changed is None, "changes are remembered during a read only"


def test_sanctions_and_kicks_are_applied_to_open_connections(house: House) -> None:
    house.enforce(ANN)
    house.enforce(HERE, room=EVERYWHERE)
    house.it.kick(BOB.face.id, "ops", "")
    everybody = ANN, BOB, Moderator(3, HERE), Moderator(4, HERE, ("lobby",)), Moderator(ANN.number, THERE)
    places = "lobby", "ops", EVERYWHERE
    found = [
        [[place for place in places if each.concerns(who) and each.applies(who, place)] for who in everybody]
        for each in house.asked
    ]
    assert found == [
        [["lobby"], [], [], [], ["lobby"]],
        [["lobby", "ops", EVERYWHERE], [], [], ["ops"], []],
        [[], ["ops"], [], [], []],
    ]
    assert [each.kind for each in house.asked] == [Penalty.BAN, Penalty.BAN, None]
    assert house.it.check(BOB, READ, "ops") is None, "a kicked user may return"


def test_a_guest_is_known_by_its_number_and_others_by_their_id() -> None:
    secret = b"s" * 16
    assert number_behind(guest(12345).id, secret) == 12345
    numbers = {number_behind(name, secret) for name in ("u_ann", "u_bob", "g_12345", "g_00000000001zzzz")}
    assert len(numbers) == 4
    assert number_behind("u_ann", secret) != number_behind("u_ann", b"t" * 16)
