"""How often a user may do something.

Owns: one number for each user who did it lately. May not: read a clock or say no itself; it says how long to wait.

The generic cell rate algorithm (ITU-T I.371; Brandur Leach, "Rate Limiting, Cells, and GCRA"): a token bucket whose
whole state is the time at which the bucket will be full again. Users whose bucket is full are forgotten by `sweep`.
"""

#: Seconds' worth of the rate that may be used in one burst: people paste three lines and then think.
BURST_SECONDS = 2.0


class RateLimit:
    """At most `rate` a second each, with bursts of two seconds' worth; 0 means no limit."""

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate if rate > 0 else 0.0
        self._full_at: dict[int, float] = {}

    def take(self, user: int, now: float) -> float:
        """Count one. 0.0 when it is allowed, else the seconds until it would be."""
        if not self._interval:
            return 0.0
        full_at = max(self._full_at.get(user, now), now)
        wait = full_at + self._interval - now - max(BURST_SECONDS, self._interval)
        if wait > 1e-9:
            return wait
        self._full_at[user] = full_at + self._interval
        return 0.0

    def sweep(self, now: float) -> None:
        """Forget whoever has their whole allowance back."""
        self._full_at = {user: full_at for user, full_at in self._full_at.items() if full_at > now}

    def __len__(self) -> int:
        return len(self._full_at)
