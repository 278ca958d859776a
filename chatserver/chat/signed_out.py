"""Users who have signed out everywhere: tokens issued to them before that are invalid.

Owns: the table that every token is checked against. May not: wait, store a sign-out, or know a connection; `end` is
called with the number of a user whose connections must end.
"""

from collections.abc import Callable, Iterable
from time import time_ns

from chatserver.log.signouts import SignOut, SignOutTable


class SignedOut:
    """See the module."""

    def __init__(self, *, wall_ms: Callable[[], int] = lambda: time_ns() // 1_000_000) -> None:
        self.wall_ms = wall_ms
        self.end: Callable[[int], None] = lambda number: None  # set where there are connections
        self._table = SignOutTable()

    def holds(self, number: int, issued: float = 0.0) -> bool:
        """Whether a token issued to this person at this time (seconds since the Unix epoch) is still valid."""
        found = self._table.get(number)
        return found is None or issued * 1000 > found.time

    def last_of(self, number: int) -> SignOut | None:
        """The last sign-out of this person that still makes tokens invalid."""
        return self._table.get(number)

    def again_since(self, last: SignOut | None, number: int) -> bool:
        """Whether this person has signed out since `last_of` gave `last`."""
        found = self._table.get(number)
        return found is not None and found is not last  # None: an old one has been dropped meanwhile

    def takes(self, number: int) -> bool:
        """Whether a sign-out of this user, who is no guest, can be remembered."""
        return self._table.takes(number, self.wall_ms())

    def restore(self, sign_outs: Iterable[SignOut]) -> None:
        """Put back the sign-outs from before a restart."""
        self._table = SignOutTable(sign_outs)

    def renew(self, sign_out: SignOut) -> None:
        """Adopt a sign-out read from the log; one made in another process ends connections here."""
        found = self._table.get(sign_out.number)
        if found is None or found.time < sign_out.time:
            self.note(sign_out)

    def note(self, sign_out: SignOut) -> None:
        """Apply a sign-out that is stored: earlier tokens are invalid, and the user's connections end."""
        self._table.put(sign_out)
        self.end(sign_out.number)
