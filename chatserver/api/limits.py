"""How often somebody may publish, and be in rooms in which nothing was ever said.

Owns: the two rules, the same for every transport. May not: answer.
"""

from collections.abc import Callable

from chatserver.chat.principal import Principal
from chatserver.meters import MICROSECOND, KeyedBuckets
from chatserver.settings.fields import Settings

#: Seconds' worth of the rate that may be used in one burst: people paste three lines and then think.
BURST_SECONDS = 2.0
#: Users who may publish at full rate from one network. Being somebody else costs nothing, a new connection or another
#: cookie is enough, so a user's rate alone would bound nobody. 300 people behind one address have 3 a second each.
NETWORK_SHARE = 50


class PublishLimit:
    """A user's rate, and for all users of one network `NETWORK_SHARE` times that."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        rate = settings.publish_rate
        self._limited = rate > 0
        burst = max(rate * BURST_SECONDS, 1.0)
        self._users: KeyedBuckets[int] = KeyedBuckets(rate, burst=burst)
        self._networks: KeyedBuckets[str] = KeyedBuckets(rate * NETWORK_SHARE, burst=burst * NETWORK_SHARE)
        self._clock = clock

    def take(self, principal: Principal) -> float:
        """Count one. 0.0 when both allow it, else the seconds until the one that does not would."""
        if not self._limited:
            return 0.0
        now = int(self._clock() / MICROSECOND)
        return self._users.take(principal.number, now) or self._networks.take(principal.network, now)

    def sweep(self) -> None:
        """Forget the users and networks whose allowance is whole."""
        now = int(self._clock() / MICROSECOND)
        self._users.sweep(now)
        self._networks.sweep(now)

    def __len__(self) -> int:
        return len(self._users) + len(self._networks)


class EmptyRoomQuota:
    """Rooms in which nothing was ever said that one connection may be in, or one poll may name.

    Names are free: a hundred of them, made up, are a hundred rooms to keep, thirty times what a connection costs. The
    number is the same for everybody, always: what an honest client may do does not depend on strangers.
    """

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_empty_rooms

    def allows(self, count: int) -> bool:
        """Whether so many are allowed."""
        return count <= self._most

    @property
    def refusal(self) -> str:
        """What a client is told that wants more."""
        return f"{self._most} rooms in which nobody has written are all that one may be in: write in one first"
