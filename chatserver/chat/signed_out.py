"""Those who have signed out everywhere: what was made for them before does not hold any more.

Owns: the table that every token is held against. May not: wait, store a sign-out, or know a connection; `end` is told
whose are to be ended.
"""

from collections.abc import Callable, Iterable
from time import time_ns

from chatserver.log.signouts import SignOut, bounded

#: Sign-outs after which those that forbid nothing any more are looked for.
SWEEP_EVERY = 1000


class SignedOut:
    """See the module."""

    def __init__(self, *, wall_ms: Callable[[], int] = lambda: time_ns() // 1_000_000) -> None:
        self.wall_ms = wall_ms
        self.end: Callable[[int], None] = lambda number: None  # set where there are connections
        self._table: dict[int, SignOut] = {}

    def holds(self, number: int, issued: float = 0.0) -> bool:
        """Whether something holds that was made for this person at this time, in seconds since the Unix epoch."""
        found = self._table.get(number)
        return found is None or issued * 1000 > found.time

    def last_of(self, number: int) -> SignOut | None:
        """The last time that this person has signed out, of those that still forbid something."""
        return self._table.get(number)

    def restore(self, sign_outs: Iterable[SignOut]) -> None:
        """Those of before a restart."""
        self._table = {each.number: each for each in sign_outs}

    def renew(self, sign_outs: Iterable[SignOut]) -> None:
        """What the log has: those that were made elsewhere end what is open here."""
        for each in sign_outs:
            found = self._table.get(each.number)
            if found is None or found.time < each.time:
                self.note(each)

    def note(self, sign_out: SignOut) -> None:
        """It is stored: what was made before ends now."""
        self._table.pop(sign_out.number, None)
        self._table[sign_out.number] = sign_out
        if len(self._table) % SWEEP_EVERY == 0:
            self._table = bounded(self._table, sign_out.time)
        self.end(sign_out.number)
