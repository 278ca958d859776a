"""The two meters: how often something may be done, and how many bytes may be kept.

Owns: the arithmetic, nothing else. May not: read a clock, know what is metered, refuse anything itself.

Times are those of any monotonic clock: whole microseconds for a TokenBucket, seconds for KeyedBuckets.
"""

from collections.abc import Callable, Hashable
from itertools import islice
from typing import Generic, TypeVar

MICROSECOND = 1e-6  # s

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class TokenBucket:
    """The generic cell rate algorithm (ITU-T I.371; Brandur Leach, "Rate Limiting, Cells, and GCRA").

    A holder's whole state is the time at which its bucket is full again, 0 at first. `rate` is in tokens a second,
    `burst` in tokens; a rate of 0 is no limit. `interval` and `span` are the microseconds of a token and of the burst.
    """

    __slots__ = ("_now", "_shared", "interval", "span")

    def __init__(self, rate: float, *, burst: float) -> None:
        self.interval = max(1, round(1 / rate / MICROSECOND)) if rate else 0
        self.span = round(burst * self.interval)
        self._now = -1
        self._shared: dict[int, int] = {}

    def spend(self, state: int, now: int, cost: float = 1) -> int:
        """The state after `cost` more tokens."""
        if not self.interval:
            return 0
        state = max(now, state) + int(self.interval * cost)
        # Equal states of one moment are one object: thousands of polls that were parked together share it.
        if now != self._now:
            self._now = now
            self._shared.clear()
        return self._shared.setdefault(state, state)

    def over(self, state: int, now: int, *, patience: float = 0) -> bool:
        """Whether more than the burst, and `patience` tokens on top, has been spent."""
        return state - now > self.span + patience * self.interval

    def wait(self, state: int, now: int, cost: float = 1) -> float:
        """Seconds until `cost` more tokens would not be over."""
        return max(0.0, (state + self.interval * cost - now - self.span) * MICROSECOND)

    def at_rest(self, state: int, now: int) -> int:
        """The state of a silent holder: 0, which takes no memory, once its bucket is full."""
        return state if state > now else 0


#: Keys of one limit, 2 MB, and how many of them one sweep looks at, in 0.25 ms.
MAX_KEYS, SWEPT = 10_000, 1_000


def sweep(table: dict[Key, Value], is_over: Callable[[Value], bool]) -> None:
    """Forget those of the first SWEPT entries that are over; the others of these are looked at last again."""
    for key in list(islice(table, SWEPT)):
        value = table.pop(key)
        if not is_over(value):
            table[key] = value
    if not table:
        table.clear()  # an emptied dict keeps the memory of its largest size


class KeyedBuckets(Generic[Key]):
    """One bucket for each key that spent lately; `sweep` forgets the full ones.

    When there are MAX_KEYS, the older half is forgotten and has a whole burst again: a rate for each key stops no flood
    of that many keys anyway.
    """

    __slots__ = ("_states", "bucket")

    def __init__(self, rate: float, *, burst: float) -> None:
        self.bucket = TokenBucket(rate, burst=burst)
        self._states: dict[Key, int] = {}

    def take(self, key: Key, now: float) -> float:
        """Spend one token and return 0.0, or spend nothing and return the seconds until there is one."""
        bucket, moment = self.bucket, int(now / MICROSECOND)
        spent = max(moment, self._states.get(key, 0)) + bucket.interval
        if spent - moment > bucket.span:
            return (spent - moment - bucket.span) * MICROSECOND
        self._keep(key, spent)
        return 0.0

    def give_back(self, key: Key) -> None:
        """Undo a `take` that was granted just now."""
        self._states[key] -= self.bucket.interval

    def wait(self, key: Key, now: float) -> float:
        """Seconds until there is a token for this key; nothing is spent."""
        return self.bucket.wait(self._states.get(key, 0), int(now / MICROSECOND))

    def lower(self, key: Key, level: float, now: float) -> None:
        """Count what was spent elsewhere: the bucket is full again in `level` seconds, or later."""
        if level > 0:
            self._keep(key, max(self._states.get(key, 0), int((now + level) / MICROSECOND)))

    def _keep(self, key: Key, state: int) -> None:
        if len(self._states) >= MAX_KEYS and key not in self._states:
            self._states = dict(islice(self._states.items(), MAX_KEYS // 2, None))
        self._states[key] = state

    def sweep(self, now: float) -> None:
        moment = int(now / MICROSECOND)
        sweep(self._states, lambda state: state <= moment)

    def __len__(self) -> int:
        return len(self._states)


class ByteBudget:
    """The bytes that all holders keep together, and their limit; each holder knows what it keeps itself.

    A limit for each holder does not bound 20,000 of them.
    """

    __slots__ = ("most", "used")

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def add(self, size: int) -> None:
        """Charge bytes that a holder keeps from now on; less than 0: that it keeps no longer."""
        self.used += size

    @property
    def over(self) -> bool:
        return self.used > self.most


class FairByteBudget(ByteBudget):
    """A byte budget that networks share.

    The first `free` bytes of each holder are not charged, so that a flood of long items does not hit the holders of
    short ones, and an item as long as the limit has room for its head. Beyond the limit a network may still keep its
    equal share, so that one network's flood does not hit the others. Each newcomer's share is smaller than the one
    before: `n` networks keep at most 1 + 1/2 + ... + 1/n times the limit.
    """

    __slots__ = ("_charged", "_free", "_networks")

    def __init__(self, most: int, *, free: int = 0) -> None:
        super().__init__(most)
        self._free = free
        self._charged: dict[object, tuple[int, str]] = {}  # what each holder keeps, and its network
        self._networks: dict[str, int] = {}  # what the holders of each network keep

    def resize(self, holder: object, size: int, network: str = "") -> bool:
        """Charge a holder what it keeps now. False means that it is too much: the holder must shrink or be released.

        A holder counts for the network of its first charge until it is released.
        """
        charge = max(size - self._free, 0)
        before, network = self._charged.get(holder, (0, network))
        kept = self._networks.get(network, 0)
        if charge != before:
            self.add(charge - before)
            kept += charge - before
            self._networks[network] = kept
            if charge:
                self._charged[holder] = charge, network
            else:
                del self._charged[holder]
            if not kept:
                del self._networks[network]
        return not charge or charge < before or self.used <= self.most or kept * len(self._networks) <= self.most

    def release(self, holder: object) -> None:
        """Stop charging a holder; harmless the second time."""
        if self._charged:  # mostly nobody is charged
            self.resize(holder, 0)

    def __len__(self) -> int:
        return len(self._charged)
