"""Which malformed requests must be refused."""

from loadgen import expected
from loadgen.personas._malformed_http import cases


def test_every_case_of_the_table_is_played() -> None:
    played = cases("h:1", "/", "/rooms/lobby/messages", "/ws")
    assert {case for group in expected.REFUSED.values() for case in group} <= played.keys()


def test_what_is_taken_is_told_by_case() -> None:
    answers = {
        "two lengths: answered 201": 3,
        "two lengths: closed": 9,
        "the same length twice: answered 201": 4,  # may be taken
        "no Host: answered 200": 2,
        "no Host: answered 304": 1,
        "answered 400": 90,
    }
    assert expected.accepted(answers) == {"two lengths": 3, "no Host": 3}
    assert expected.accepted({"answered 400": 100, "two lengths: closed": 4}) == {}
