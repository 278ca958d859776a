"""Users who have signed out everywhere: tokens issued to them before that are invalid.

Owns: the table that every token is checked against. May not: wait, store a sign-out, or know a connection; `end` is
called with the number of a user whose connections must end.
"""

from collections.abc import Callable, Iterable
from itertools import islice

from msgspec.structs import replace

from chatserver.log.interface import system_ms
from chatserver.log.signouts import MAX_GUESTS, SignOut

#: Sign-outs of users besides guests that are accepted, of 400 days; each is 230 bytes of memory in each process.
MAX_USERS = 1_000_000
#: Of the oldest sign-outs, how many are looked at for each new one: more than one, so that expired ones become fewer.
#: To look at all of them takes 2 ms.
EXPIRED_AT_ONCE = 2


class SignedOut:
    def __init__(
        self, *, end: Callable[[int], object] = lambda number: None, wall_ms: Callable[[], int] = system_ms
    ) -> None:
        self.wall_ms = wall_ms
        self.end = end
        self._kept: dict[int, SignOut] = {}  # the last of each person, the oldest first
        self._guests: dict[int, None] = {}  # the persons among them who are guests, likewise

    def holds(self, number: int, issued: float = 0.0) -> bool:
        """Whether a token issued to this person at this time (seconds since the Unix epoch) is still valid."""
        found = self._kept.get(number)
        return found is None or issued * 1000 > found.time

    def last_of(self, number: int) -> SignOut | None:
        """The last sign-out of this person that still makes tokens invalid."""
        return self._kept.get(number)

    def again_since(self, last: SignOut | None, number: int) -> bool:
        """Whether this person has signed out since `last_of` gave `last`."""
        found = self._kept.get(number)
        return found is not None and found is not last  # None: an old one has been dropped meanwhile

    def takes(self, number: int) -> bool:
        """Whether a sign-out of this user, who is no guest, can be remembered."""
        self._remove_expired(self.wall_ms())
        return number in self._kept or len(self._kept) - len(self._guests) < MAX_USERS

    def restore(self, sign_outs: Iterable[SignOut]) -> None:
        """Put back the sign-outs from before a restart."""
        for each in sign_outs:
            self._put(each)

    def renew(self, sign_out: SignOut) -> None:
        """Adopt a sign-out read from the log; one made in another process ends connections here."""
        found = self._kept.get(sign_out.number)
        if found is None or found.time < sign_out.time:
            self.note(sign_out)

    def note(self, sign_out: SignOut) -> None:
        """Apply a sign-out that is stored: earlier tokens are invalid, and the user's connections end."""
        self._put(sign_out)
        self.end(sign_out.number)

    def _put(self, sign_out: SignOut) -> None:
        number = sign_out.number
        found = self._kept.get(number)
        if found is not None and found.time > sign_out.time:  # made at the same time, or later by a clock behind
            sign_out = replace(sign_out, time=found.time, until=found.until)
        self._remove(number)
        self._kept[number] = sign_out
        if sign_out.guest:
            self._guests[number] = None
            if len(self._guests) > MAX_GUESTS:
                self._remove(next(iter(self._guests)))
        self._remove_expired(sign_out.time)

    def _remove_expired(self, now_ms: int) -> None:
        for each in list(islice(self._kept.values(), EXPIRED_AT_ONCE)):
            if each.until <= now_ms:
                self._remove(each.number)

    def _remove(self, number: int) -> None:
        self._kept.pop(number, None)
        self._guests.pop(number, None)
