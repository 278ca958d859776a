"""The meaning of an answer, or of the end of a connection: come back later, not served here, done.

Owns: the statuses and close codes of each kind, when an end is one that the server planned, and the names under which
ends are booked. May not: judge.
"""

from typing import Final

from loadgen.net.timers import now

#: Statuses that mean "not now" rather than "you made a mistake".
TURNED_AWAY: Final = frozenset((429, 503))

#: The same as close codes: service restart, try again later (IANA's registry).
CLOSED_FOR_NOW: Final = frozenset((1012, 1013))

#: Close codes of a planned end: done, going away, service restart. The client comes back at once.
PLANNED: Final = frozenset((1000, 1001, 1012))

#: The last line of an event stream without chunks that ends as planned: it says when to come back. As the first line it
#: is the usual beginning, after which a server that dies may have said nothing yet.
RETRY: Final = b"retry:"

#: A server may plan when a connection ends: a client that comes back at once has lost nothing. So often in this time,
#: as one that meets the restart of a worker may be let in by the next to restart. If it happens more often, it is no
#: plan, and the client's time goes into handshakes.
MOST_PLANNED: Final = 4
PLANNED_SECONDS: Final = 30.0


def is_planned(ends: list[float]) -> bool:
    """Whether one more is still a plan, after the last such ends of the same client; if so, it is noted."""
    moment = now()
    if len(ends) == MOST_PLANNED and moment - ends[0] < PLANNED_SECONDS:
        return False
    ends[:] = [*ends, moment][-MOST_PLANNED:]
    return True


def no_page(status: int) -> str:
    return f"answered {status} without the page that others had"


#: The failure of an answer that is another page than before, such as an excuse as JSON.
OTHER_TYPE: Final = "a page of another Content-Type than before"

#: Answers that mean that the server does not offer what was asked for, or not to us or not here, so that it cannot be
#: attacked there.
NOT_SERVED: Final = frozenset(
    f"answered {status}" for status in (301, 302, 303, 307, 308, 401, 403, 404, 405, 407, 410, 421, 426, 501)
)

#: The reason when the server closed a connection in good order; any other end is named after its error.
CLOSED: Final = "closed"

#: The reasons of operations without an answer. The first was sent; a crowd's clients add what they waited for. The
#: second waited for the answers before it for more than half of its time: late rather than failed, because no answer
#: took that long.
UNANSWERED: Final = "no answer in time"
NO_TURN: Final = "no turn in time: the answers before it were slow"

#: Booked for an attacker that does not read, when the server need not wait: the kernels' buffers hold its answers.
ALL_WRITTEN: Final = "all answers written"
