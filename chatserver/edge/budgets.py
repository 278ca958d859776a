"""What one connection may ask of us, as a rate: budgets that cost an idle connection nothing.

Owns: the arithmetic and the sizes of the bursts. May not: answer or close; the edges do, by one rule each.

An account is one int, `Connection.spent`: the time at which the allowance will be whole again, and a count of all that
was spent, in its low bits. The algorithm is that of chat/ratelimit.py, the generic cell rate algorithm. 0 is whole, so
a connection begins with nothing stored, and accounts that are equal are one object: thousands of polls that are parked
in the same tick share it.

What a budget does when it is used up:

    requests     the connection is not read until it may ask again (phase PACED). No honest client is hurt by that:
                 a poller in a room with hundreds of messages a second gets them in larger pages
    messages     answered with `rate_limited` and the time to wait; whoever goes on all the same, for another
                 `REFUSALS`, is closed for `flood`. Control frames cannot be answered with an error: they are ignored,
                 and the end is the same
"""

import sys

from chatserver.net.wheel import TICK

#: Seconds' worth of requests that may come at once: a page with its files, a few pages of history.
REQUEST_BURST = 2.0
#: Seconds' worth of messages that may come at once. A client that comes back joins all its rooms on top of that.
MESSAGE_BURST = 10.0
#: What a refusal and a control frame cost, in messages. A bot that is a quarter too fast and heeds nothing is never
#: closed for that; a flood is over after a tenth of the work that it is to read a whole burst of it.
REFUSAL, CONTROL = 3, 3
#: Refusals after which whoever heeds none of them is closed.
REFUSALS = 64
#: The low bits of an account are the count; more than 16 million are carried into the time, where they are nothing.
_COUNT_BITS = 24
_COUNT = (1 << _COUNT_BITS) - 1
#: Parts of a tick in which time is kept: rates up to ten thousand a second are told apart.
_PART_BITS = 10
_PARTS = 1 << _PART_BITS
_NOW = _PART_BITS + _COUNT_BITS  # bits by which a tick is shifted


class Budget:
    """At most `rate` a second and `burst` at once, and `patience` with who goes on; a rate of 0 is no limit, and then
    only the count is kept.
    """

    __slots__ = ("_burst", "_flood", "_shared", "_step", "_tick")

    def __init__(self, rate: float, *, burst: float, patience: float = 0.0) -> None:
        cost = max(1, round(_PARTS / (rate * TICK))) if rate else 0
        self._step = (cost << _COUNT_BITS) + 1
        # Whatever the count is, it is less than a part of the time.
        self._burst = round(burst * cost) << _COUNT_BITS | _COUNT if rate else sys.maxsize
        self._flood = round((burst + patience) * cost) << _COUNT_BITS | _COUNT if rate else sys.maxsize
        self._tick = 0
        self._shared: dict[int, int] = {}

    def spend(self, account: int, tick: int, cost: int = 1) -> int:
        """The account after one more that costs so much."""
        now = tick << _NOW
        account = (account if account > now else now | (account & _COUNT)) + self._step * cost
        if tick != self._tick:
            self._tick = tick
            self._shared.clear()
        return self._shared.setdefault(account, account)

    def over(self, account: int, tick: int) -> bool:
        """Whether more was spent than a burst."""
        return account - (tick << _NOW) > self._burst

    def flooded(self, account: int, tick: int) -> bool:
        """Whether patience is at its end."""
        return account - (tick << _NOW) > self._flood

    def wait(self, account: int, tick: int) -> float:
        """Seconds after which whoever is told so is within the burst, the cost of telling it included."""
        parts = (account + self._step * REFUSAL - (tick << _NOW) - self._burst) / (1 << _COUNT_BITS)
        return (max(parts / _PARTS, 0.0) + 1) * TICK  # one more: part of this tick is over, and none is cut short

    def settled(self, account: int, tick: int) -> int:
        """The account of a connection that was silent: 0, and so nothing stored, once its allowance is whole."""
        return account if account > (tick + 1) << _NOW else 0


def count(account: int) -> int:
    """What was spent from an account in all, since it was last settled."""
    return account & _COUNT


def request_budget(rate: float) -> Budget:
    """The budget of one HTTP connection."""
    return Budget(rate, burst=rate * REQUEST_BURST)


def message_budget(rate: float, *, rooms: int) -> Budget:
    """The budget of one WebSocket: all that is answered or is a control frame.

    Publishes that are granted are not counted here: they have a rate of their own, that of their user.
    """
    return Budget(rate, burst=rate * MESSAGE_BURST + rooms, patience=REFUSALS * REFUSAL)
