"""The meaning of an answer, or of the end of a connection: come back later, not served here, done.

Owns: the statuses and close codes of each kind, and the names under which ends are booked. May not: judge.
"""

from typing import Final

#: Statuses that mean "not now" rather than "you made a mistake".
TURNED_AWAY: Final = frozenset((429, 503))

#: The same as close codes: service restart, try again later (IANA's registry).
CLOSED_FOR_NOW: Final = frozenset((1012, 1013))

#: Close codes of a planned end: done, going away, service restart. The client comes back at once.
PLANNED: Final = frozenset((1000, 1001, 1012))

#: A server may plan when a connection ends: a client that comes back at once has lost nothing. If one client meets that
#: more often than this, it is no plan, and the client's time goes into handshakes.
LEAST_LIFE_SECONDS: Final = 10.0

#: Answers that mean that the server does not offer what was asked for, or not to us or not here, so that it cannot be
#: attacked there.
NOT_SERVED: Final = frozenset(
    f"answered {status}" for status in (301, 302, 303, 307, 308, 401, 403, 404, 405, 407, 410, 421, 426, 501)
)

#: The answer of a page to a handshake: no WebSocket is served there.
NO_WEBSOCKET: Final = frozenset(("answered 200",))

#: The reason when the server closed a connection in good order; any other end is named after its error.
CLOSED: Final = "closed"

#: The reasons of operations without an answer. The first was sent; a crowd's clients add what they waited for. The
#: second waited for the answers before it for more than half of its time: late rather than failed, because no answer
#: took that long.
UNANSWERED: Final = "no answer in time"
NO_TURN: Final = "no turn in time: the answers before it were slow"

#: Booked for an attacker that does not read, when the server need not wait: the kernels' buffers hold its answers.
ALL_WRITTEN: Final = "all answers written"
