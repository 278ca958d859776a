"""How often a user may do something, and how often all who share an address.

Owns: one number for each user, and each address, who did it lately. May not: read a clock or say no itself; it says
how long to wait. Know what an address is.

The generic cell rate algorithm (ITU-T I.371; Brandur Leach, "Rate Limiting, Cells, and GCRA"): a token bucket whose
whole state is the time at which the bucket will be full again. Users whose bucket is full are forgotten by `sweep`.
"""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

#: Seconds' worth of the rate that may be used in one burst: people paste three lines and then think.
BURST_SECONDS = 2.0
#: Users who may publish at full rate from one address. Being somebody else costs nothing, a new connection or another
#: cookie is enough, so a user's rate alone would bound nobody. 300 people behind one address have 3 a second each.
ADDRESS_SHARE = 50

Key = TypeVar("Key", bound=Hashable)


class RateLimit(Generic[Key]):
    """At most `rate` a second each, with bursts of two seconds' worth; 0 means no limit."""

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate if rate > 0 else 0.0
        self._full_at: dict[Key, float] = {}

    def take(self, key: Key, now: float) -> float:
        """Count one. 0.0 when it is allowed, else the seconds until it would be."""
        if not self._interval:
            return 0.0
        full_at = max(self._full_at.get(key, now), now)
        wait = full_at + self._interval - now - max(BURST_SECONDS, self._interval)
        if wait > 1e-9:
            return wait
        self._full_at[key] = full_at + self._interval
        return 0.0

    def sweep(self, now: float) -> None:
        """Forget whoever has their whole allowance back."""
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}

    def __len__(self) -> int:
        return len(self._full_at)


class PublishLimit:
    """A user's rate, and for all users of one network `ADDRESS_SHARE` times that; 0 means no limit.

    `network` gives what an address is counted under.
    """

    def __init__(self, rate: float, *, network: Callable[[str], str]) -> None:
        self._users: RateLimit[int] = RateLimit(rate)
        self._networks: RateLimit[str] = RateLimit(rate * ADDRESS_SHARE)
        self._network = network

    def take(self, user: int, address: str, now: float) -> float:
        """Count one. 0.0 when both allow it, else the seconds until the one that does not would."""
        return self._users.take(user, now) or self._networks.take(self._network(address), now)

    def sweep(self, now: float) -> None:
        """Forget whoever has their whole allowance back."""
        self._users.sweep(now)
        self._networks.sweep(now)

    def __len__(self) -> int:
        return len(self._users) + len(self._networks)
