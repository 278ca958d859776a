"""Duplicate fields, compared with the standard library, and the bound on the search."""

import json
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.protocol.bodies import EditBody, KeyBody, PublishBody, ReadBody, SessionBody, decode_publish
from chatserver.protocol.client_messages import ClientMessage, decode
from chatserver.protocol.duplicates import MAX_OTHER_BYTES, MAX_OTHER_COLONS, refuse_duplicates
from chatserver.protocol.errors import MessageError
from chatserver.protocol.moderation import KickBody, SanctionBody
from tests.support.errors import error_of

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
_NAMES = st.sampled_from(("id", "text", "room", "x", "é", '"', "\\", "\n")) | st.text(max_size=3)
_SPACE = st.sampled_from(("", " ", "\n\t"))


def spelled(name: str, how: int) -> str:
    """A name as JSON: plain, in ASCII, or with each character escaped."""
    if how == 2:
        return '"' + "".join(f"\\u{unit:04x}" for unit in memoryview(name.encode("utf-16-le")).cast("H")) + '"'
    return json.dumps(name, ensure_ascii=bool(how))


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, bool]:
    """An object as JSON, and whether it has a duplicate field."""
    names = draw(st.lists(_NAMES.filter(lambda name: name.isprintable()), max_size=6))
    fields = []
    for name in names:
        space, value = draw(_SPACE), json.dumps(draw(_VALUES), ensure_ascii=draw(st.booleans()))
        fields.append(f"{space}{spelled(name, draw(st.integers(0, 2)))}{space}:{space}{value}{space}")
    # An escape makes the search run, whatever the names are.
    last = ['"y":"\\u0061"'] if "y" not in names else []
    return "{" + ",".join(fields + last) + "}", len(set(names)) != len(names)


@given(objects())
def test_a_duplicate_is_found_however_it_is_spelled(sample: tuple[str, bool]) -> None:
    text, twice = sample
    if not twice:
        refuse_duplicates(text)
        refuse_duplicates(text.encode())
        return
    with pytest.raises(MessageError, match="sent twice"):
        refuse_duplicates(text)


def test_objects_without_duplicates_pass() -> None:
    refuse_duplicates('{"x":{"id":1,"id":2}}')  # the content of an unknown field is not read
    refuse_duplicates('{"text":"\\"id\\": and \\"id\\" are only said"}')


def test_only_unknown_fields_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page sends `as_user` with every message: one with a URL took 15 us more."""
    monkeypatch.setattr(json, "loads", None)
    bodies = (PublishBody, EditBody, KeyBody, SessionBody, ReadBody, SanctionBody, KickBody)
    for struct in (*get_args(ClientMessage), *bodies):
        fields = dict.fromkeys(struct.__struct_fields__, "a:b")
        refuse_duplicates(json.dumps(fields))
    with pytest.raises(TypeError):
        refuse_duplicates('{"else":"a:b"}')


def test_the_search_is_bounded() -> None:
    """7,000 keys with an escape would take 1.8 ms. Colons in known fields do not count, as in a text full of them."""
    many = ",".join(f'"{number}":1' for number in range(MAX_OTHER_COLONS - 1))
    refuse_duplicates('{"text":"\\u0061' + ":" * 8000 + '",' + many + "}")
    escaped = ",".join(f'"\\u0061{number}":1' for number in range(MAX_OTHER_COLONS))
    refuse_duplicates("{" + escaped + "}")
    with pytest.raises(MessageError, match="over 128 fields"):
        refuse_duplicates("{" + escaped + ',"b":2}')
    deep = '{"x":' + "[" * 500 + "]" * 500
    refuse_duplicates(deep + "}")
    with pytest.raises(MessageError, match="8,192 bytes of fields"):
        refuse_duplicates(deep + " " * MAX_OTHER_BYTES + "}")
    refuse_duplicates('{"id":1' + " " * MAX_OTHER_BYTES + "}")
    refuse_duplicates('{"x":' + "9" * 5_000 + ',"y":"\\u003a"}')


def test_any_number_of_copies_of_a_field_is_refused() -> None:
    """A wrong count of the fields that are not at their defaults would let one number of copies pass."""
    for fields in (
        '"type":"ping"',
        '"type":"join","room":"a"',
        '"type":"join","room":"a","after":null',
        '"type":"history","room":"a"',
        '"type":"publish","room":"a","text":"hi"',
        '"type":"react","room":"a","offset":1,"emoji":"\U0001f44d","on":true',
    ):
        decode("{" + fields + ',"id":1}')
        for copies in range(2, 20):
            assert "id: sent twice" in error_of(MessageError, decode, "{" + fields + ',"id":1' * copies + "}").message


_KNOWN = st.sampled_from(("type", "id", "room", "text", "key", "after", "before", "limit", "x"))
_SENT = st.sampled_from(
    ('"publish"', '"ping"', '"join"', '"leave"', '"members"', '"history"', '"a"', '"a:b"', "1", "null", '"\\u003a"')
) | (_VALUES | st.floats()).map(json.dumps)


@given(st.lists(st.tuples(_KNOWN, st.integers(0, 2), _SENT), max_size=6))
def test_no_message_with_a_field_twice_is_taken(sent: list[tuple[str, int, str]]) -> None:
    """Only as many colons as different fields prove it; no exception but MessageError is raised."""
    text = "{" + ",".join(f"{spelled(name, how)}:{value}" for name, how, value in sent) + "}"
    names = [name for name, _, _ in sent]
    takes: tuple[Callable[[], object], ...] = (
        lambda: decode(text), lambda: decode_publish("lobby", text.encode(), "application/json"),
    )  # fmt: skip
    for take in takes:
        refused = ""
        try:
            take()
        except MessageError as error:
            refused = error.message
        if not refused or "sent twice" in refused:
            assert bool(refused) == (len(set(names)) < len(names))
