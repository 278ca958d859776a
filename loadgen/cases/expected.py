"""Requests that a server must refuse because a proxy may read them differently: request smuggling.

Owns: the cases of `malformed-http` that a server must refuse according to RFC 9112. May not: send them. Other cases may
be accepted or refused: a folded field, the same length twice, a bare LF at a line's end.
"""

from collections.abc import Iterable, Mapping
from typing import Final

#: Cases by the section that requires the refusal.
REFUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "RFC 9112 section 3.2, Host": ("no Host", "two Hosts", "Host with a path", "Host with a user", "Host with a space"),
    "RFC 9112 section 5.1, field names": (
        "field name with a space", "field name with a NUL", "space before the colon",
        "space before the colon of chunked",
    ),
    "RFC 9112 section 6.3, lengths": (
        "two lengths", "negative length", "length with a sign", "hexadecimal length", "length in words",
    ),
    "RFC 9112 section 6.3, a length beside chunks ought to be an error": ("length and chunks", "chunks and length"),
    "RFC 9112 section 6.1, codings": (
        "chunked twice", "chunked, but not last", "nearly chunked", "unknown coding",
    ),
    "RFC 9112 section 7.1, chunks": (
        "chunk size in words", "chunk size with 0x", "negative chunk size", "chunk longer than its size",
        "chunk size ended by a bare LF", "chunk ended by two other bytes",
    ),
}  # fmt: skip

#: Answers that may come before the request's faults are looked at, or without looking. (501 refuses a coding.)
_NOT_THERE: Final = frozenset((401, 403, 404, 405, 410))

_MUST_BE_REFUSED: Final = frozenset(case for cases in REFUSED.values() for case in cases)

_CHUNKS: Final = frozenset(REFUSED["RFC 9112 section 7.1, chunks"])

#: A request that is well-formed but incomplete. A server that accepts it reads no bodies (lighttpd, for a file), so its
#: answers say nothing about chunks.
NO_CHUNKS: Final = "chunks that never come"


def accepted(answers: Mapping[str, int]) -> dict[str, int]:
    """Count the cases that were accepted and must not be, from the answers to a malformed crowd."""
    found: dict[str, int] = {}
    must_be_refused = _MUST_BE_REFUSED - _unread(answers)
    for answer, number in answers.items():
        case, _, status = answer.rpartition(": answered ")
        if case in must_be_refused and status.isdecimal() and int(status) < 400:
            found[case] = found.get(case, 0) + number
    return found


def _unread(answers: Iterable[str]) -> frozenset[str]:
    """The cases of which no answer tells anything, as the server reads no bodies."""
    return _CHUNKS if any(answer.startswith(f"{NO_CHUNKS}: answered ") for answer in answers) else frozenset()


def tells_nothing(case: str, status: int) -> bool:
    """Whether a request that must be refused was answered as a well-formed one for what is not there."""
    return case in _MUST_BE_REFUSED and status in _NOT_THERE


def then_closed(case: str) -> str:
    """How a close behind the answer is booked: it refuses a bad chunk (Go), as nothing after that is a request."""
    return " and closed" if case in _CHUNKS else ""


def unseen(answers: Mapping[str, int]) -> str:
    """The cases with such answers, each with the statuses, unless the case was accepted as well."""
    statuses: dict[str, set[str]] = {}
    unread = _unread(answers)
    for case, _, status in (answer.rpartition(": answered ") for answer in answers):
        number = status.partition(" ")[0]
        if number.isdecimal() and (case in unread or tells_nothing(case, int(number))):
            statuses.setdefault(case, set()).add(status)
    seen = accepted(answers)
    return ", ".join(f"{case}: {'/'.join(sorted(statuses[case]))}" for case in sorted(statuses) if case not in seen)
