"""What the rules of the machine draw: who, what, how much of it, and how long.

Owns: the strategies, and how likely each choice is. May not: act.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from chatserver.log.sanctions import EVERYWHERE, Penalty
from tests.fuzz import grammar


class Chosen(NamedTuple):
    """A connected peer: of those who believe to speak WebSocket (or HTTP, or either: None), by its place modulo."""

    frames: bool | None
    number: int


ASKERS, MEMBERS, ANYBODY = (st.builds(Chosen, st.just(which), st.integers(0, 15)) for which in (False, True, None))
#: Most peers come from one address, the others from one each.
SOURCES = st.sampled_from(("127.0.1.1", "127.0.1.1", "127.0.1.1", "127.0.2.1", "127.0.2.2"))
EDITS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 3), st.sampled_from(grammar.BYTES_OF_NOTE)), max_size=3)
#: How many of the waiting bytes are sent; None is all.
CUTS = st.one_of(st.none(), st.none(), st.integers(1, 40), st.integers(1, 5000))
#: How many bytes are received at a time.
SIPS = st.one_of(st.just(1 << 20), st.integers(1, 300), st.integers(1, 20_000))
#: Valid samples are more likely, since an invalid one ends its connection.
REQUESTS, FRAMES = (
    st.one_of(st.sampled_from(list(right)), st.sampled_from(list(right)), st.sampled_from(list(wrong)))
    for right, wrong in ((grammar.RIGHT_REQUESTS, grammar.WRONG_REQUESTS), (grammar.RIGHT_FRAMES, grammar.WRONG_FRAMES))
)
BUSY_REQUESTS, BUSY_FRAMES = st.sampled_from(grammar.BUSY_REQUESTS), st.sampled_from(grammar.BUSY_FRAMES)
HEADERS, FORWARDED = st.sampled_from(list(grammar.HEADERS)), st.sampled_from((None, *grammar.FORWARDED))
#: Messages from each peer when all publish, and seconds that the log takes.
TIMES, DELAYS = st.sampled_from((1, 3, 12)), st.sampled_from((0.0, 0.0, 0.3, 1.5, 6.0))
JOINS = st.sampled_from(("join lobby", "join all", "join lobby from the beginning", "join den from the beginning"))
#: What the peers that are there at the beginning are in the middle of.
UNDER_WAY = st.lists(st.sampled_from(list(grammar.UNDER_WAY)), unique=True, min_size=4, max_size=6)
#: What a moderator does, and where; None is a kick.
SANCTIONS, PLACES = st.sampled_from((None, *Penalty)), st.sampled_from((*grammar.ROOMS, EVERYWHERE, EVERYWHERE))
#: Characters of a message.
SIZES = st.sampled_from((1, 900, 8000))
#: Whether peers speak the protocol that they should not: that ends their connections.
FOREIGN = st.sampled_from((False, False, False, True))


# -- what happens to the peers that are in the middle of something ----------------------------------------------------

#: Their networks, and how many they are at most.
FIRST_NETWORKS, FIRST = ("127.0.2.0", "127.0.2.1", "127.0.2.2"), 6
Acts = list[tuple[str, dict[str, Any]]]


def _to_all(rule: str, frames: bool, **drawn: object) -> Acts:
    return [(rule, {"puppet": Chosen(frames, number), **drawn}) for number in range(FIRST)]


def _sanctions(kind: Penalty | None, rooms: Iterable[str] = (EVERYWHERE,)) -> Acts:
    return [
        ("sanction", {"kind": kind, "network": network, "room": room}) for network in FIRST_NETWORKS for room in rooms
    ]


#: Rules that bring them into further states.
PREPARATIONS: dict[str, Acts] = {
    "nothing": [],
    "time, until pings are sent": [("wait", {"seconds": 3.2})],
    "half a message": [
        *_to_all("ask", False, what="publish long", edits=[], cut=9),
        *_to_all("tell", True, what="say something long", edits=[], cut=9),
    ],
    "faults to come": [("plant", {"where": where}) for where in ("park", "resume")],
    "a slow log": [("upset_the_log", {"delay": 6.0, "reads": 0, "commits": 0})],
    "congestion": [
        ("publish_together", {"room": room, "count": 20, "times": 12, "delay": 0.3, "failing": 0})
        for room in grammar.ROOMS
    ],
    "much to read": [("publish", {"room": room, "count": 60, "size": 900}) for room in grammar.ROOMS],
}
#: A rule for one of them.
FATES: dict[str, Acts] = {
    "it stays": [],
    "a few bytes read": [("hear", {"most": 300, "polite": True})],
    "all read": [("hear", {"most": 1 << 20, "polite": True})],
    "all read from now on": [("attend", {"greedy": True})],
    "the rest sent": [("go_on", {"cut": None})],
    "FIN": [("end", {"farewell": False, "early": False})],
    "FIN too early": [("end", {"farewell": False, "early": True})],
    "close_notify and FIN": [("end", {"farewell": True, "early": False})],
    "a close": [("leave", {"abort": False})],
    "a reset": [("leave", {"abort": True})],
    "a reset between two steps": [("lie_in_wait", {"rounds": 1, "abort": True})],
    "bytes that are not TLS": [("scrawl", {})],
}
#: Rules for all of them.
STRIKES: dict[str, Acts] = {
    "nothing": [],
    "time, until most deadlines have passed": [("wait", {"seconds": 2.2})],
    "a stall": [("stall", {"seconds": 12.0})],
    "bans": _sanctions(Penalty.BAN),
    "bans, of which the first fails": [("plant", {"where": "end"}), *_sanctions(Penalty.BAN)],
    "mutes": _sanctions(Penalty.MUTE),
    "kicks": _sanctions(None, grammar.ROOMS),
    "a sign-out": [("sign_out", {})],
    "much to read": PREPARATIONS["much to read"],
    "a flood": [
        ("say_together", {"request": "events, and then much", "frames": "a flood of questions", "foreign": False})
    ]
    * 2,
    "much that is unfinished": [
        ("ask_as_newcomer", {"source": "127.0.1.1", "small": False, "greedy": False, "what": what, "cut": None})
        for what in (*("most of a body",) * 3, "most of a long head")
    ],
}
