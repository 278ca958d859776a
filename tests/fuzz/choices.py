"""What the rules of the machine draw: who, what, how much of it, and how long.

Owns: the strategies, and how likely each choice is. May not: act.
"""

from typing import NamedTuple

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
UNDER_WAY = st.lists(st.sampled_from(list(grammar.UNDER_WAY)), unique=True, min_size=2, max_size=6)
#: What a moderator does, and where; None is a kick.
SANCTIONS, PLACES = st.sampled_from((None, *Penalty)), st.sampled_from((*grammar.ROOMS, EVERYWHERE, EVERYWHERE))
#: Characters of a message.
SIZES = st.sampled_from((1, 900, 8000))
#: Whether peers speak the protocol that they should not: that ends their connections.
FOREIGN = st.sampled_from((False, False, False, True))
