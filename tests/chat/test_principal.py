"""Principals: a guest is one person everywhere and is not stored; other users take little memory."""

import math
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat import principal
from chatserver.chat.policy import OPEN, Access, Action, Policies, rights_of
from chatserver.chat.principal import (
    NUMBER_BITS,
    NamedGuest,
    Principal,
    SignedIn,
    User,
    author,
    guest,
    named_token,
    new_token,
    number_of,
    opened,
    pack,
    under,
    user_number,
)
from chatserver.settings.rooms import Audience, RoomPolicy

SECRET = b"0123456789abcdef"
NUMBERS = st.integers(0, (1 << NUMBER_BITS) - 1)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_token_is_one_person_under_one_secret(token: str) -> None:
    number = number_of(token, SECRET)
    assert 0 <= number < 1 << NUMBER_BITS
    assert number == number_of(token, SECRET)
    assert number not in (number_of(token, b"another log"), number_of(token + "x", SECRET))


@given(NUMBERS, NUMBERS)
def test_a_face_is_one_number(number: int, other: int) -> None:
    face = guest(number)
    assert re.fullmatch(r"g_[0-9a-f]{15}", face.id)
    assert re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+ [1-9][0-9]", face.name)
    assert author(number) == face
    assert (guest(other).id == face.id) == (number == other)


# -- names ------------------------------------------------------------------------------------------------------------


#: Characters that `isprintable` accepts.
PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")


@given(st.text(PRINTABLE, min_size=1, max_size=40))
def test_a_name_is_kept_in_the_token_only(name: str) -> None:
    base = new_token()
    token = named_token(base, name, SECRET)
    assert re.fullmatch(r"[A-Za-z0-9_~-]{46,260}", token), "fit for a cookie and a header"
    assert opened(token, SECRET) == (base, name)
    assert opened(base, SECRET) == (base, None)


def test_a_name_not_sealed_by_this_log_is_ignored() -> None:
    base = new_token()
    token = named_token(base, "Ann", SECRET)
    other = named_token(new_token(), "Bob", SECRET)
    said, seal = token.rpartition("~")[::2]
    forged = [
        named_token(base, "Ann", b"another log"),
        f"{said}~{other.rpartition('~')[2]}",
        f"{other.rpartition('~')[0]}~{seal}",
        f"{token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
    ]
    forged.append(f"{said}~ü")  # as in the `User-Agent` of a client without a token
    assert [opened(each, SECRET)[1] for each in forged] == [None] * len(forged)
    assert opened(forged[0], SECRET)[0] == base


def test_ids_of_guests_and_of_others_never_meet() -> None:
    assert user_number("g_1", SECRET) != number_of("g_1", SECRET)


# -- kinds ------------------------------------------------------------------------------------------------------------


def signed_in(user: User, expires: float | None = None) -> SignedIn:
    return SignedIn(user_number(user.id, SECRET), "here", pack(user, expires), rights_of(None, None))


def test_each_kind_has_a_face_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principal, "wall", lambda: 10.0)
    bare, named = Principal(5, "here"), NamedGuest(5, "here", "Ann")
    ann = signed_in(User("u_1", "Ånn "), 12.25)
    assert [each.is_guest for each in (bare, named, ann)] == [True, True, False]
    ends = [each.seconds_left for each in (bare, named, ann, signed_in(User("u", "n")))]
    assert ends == [math.inf, math.inf, 2.25, math.inf]
    assert (named.face, ann.face) == (User("g_000000000000005", "Ann"), User("u_1", "Ånn "))
    assert [each.author == each.face for each in (bare, named, ann)] == [True] * 3
    assert len({bare.label, named.label, ann.label, NamedGuest(5, "here", "Bob").label}) == 4
    assert ann.label == signed_in(User("u_1", "Ånn "), 99.0).label


def test_server_wide_rights_cost_an_idle_connection_nothing() -> None:
    """A guest takes 32 bytes; any other user at most 100 more, name and id included."""
    access = Access(Policies([("staff", RoomPolicy(read=Audience.GRANTED))]))
    guest_, named, member = under(Principal, access), under(NamedGuest, access), under(SignedIn, access)
    assert under(Principal, OPEN) is Principal
    bare = guest_(1, "here")
    assert [bare.may(action, room) for action in Action for room in ("staff", "lobby")] == [
        False, True, True, True, False, False,
    ]  # fmt: skip
    assert sys.getsizeof(bare) == sys.getsizeof(Principal(1, "here")) == 32
    ann = named(1, "here", "Ann Example-Smith")
    bob = member(1, "here", pack(User("u_1234567890", "Bob Example-Smith"), 1.0), rights_of(None, None))
    assert (ann.access, bob.access) == (access, access)
    for each, own in ((ann, ann.name), (bob, bob.packed)):
        assert rounded(sys.getsizeof(each)) + rounded(sys.getsizeof(own)) - 32 <= 100


def rounded(size: int) -> int:
    """The bytes that the allocator uses for `size` bytes."""
    return -(-size // 16) * 16
