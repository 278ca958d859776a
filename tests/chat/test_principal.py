"""Guests: the same person everywhere, and nothing kept."""

import re

from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat.principal import NUMBER_BITS, TOKEN_MAX, author, guest, new_token, number_of

SECRET = b"0123456789abcdef"
NUMBERS = st.integers(0, (1 << NUMBER_BITS) - 1)


def test_tokens_are_each_new_and_fit_a_client() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) == 22 <= TOKEN_MAX for token in tokens)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_token_is_one_person_under_one_secret(token: str) -> None:
    number = number_of(token, SECRET)
    assert 0 <= number < 1 << NUMBER_BITS
    assert number == number_of(token, SECRET)
    assert number not in (number_of(token, b"another log"), number_of(token + "x", SECRET))


def test_no_two_of_many_share_a_number() -> None:
    assert len({number_of(str(number), SECRET) for number in range(50_000)}) == 50_000


@given(NUMBERS, NUMBERS)
def test_a_face_is_one_number(number: int, other: int) -> None:
    face = guest(number)
    assert re.fullmatch(r"g_[0-9a-f]{15}", face.id)
    assert re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+ [1-9][0-9]", face.name)
    assert author(number) == face
    assert (guest(other).id == face.id) == (number == other)
