"""Which descriptors are ready: epoll, or kqueue where there is no epoll.

Owns: the two kernel objects that all parked connections are registered in. May not: know what a connection is.

Level-triggered. One-shot and edge-triggered were measured and cost the same for a handshake; level-triggered cannot
lose an event. The kernel object is itself a descriptor that becomes readable when any of its members is ready, so one
trio task can wait for all of them. Closing a descriptor removes it, on both systems; there is nothing to unregister.

Two objects, because the kernel hands out what is ready in the order in which it became so: whoever is in would stand
behind a flood of newcomers. Those who may wait are in the second one, which is itself a member of the first.
"""

import select
import sys
from typing import Protocol

#: Interest and events, in epoll's own numbers so that epoll's results need no translation.
READ = 0x001
WRITE = 0x004
BROKEN = 0x008 | 0x010  # EPOLLERR, EPOLLHUP: reported whether asked for or not
ENDED = 0x2000  # EPOLLRDHUP, of an event only: there is a FIN, maybe behind bytes
#: Part of an interest, never of an event: this one may wait. No bit of epoll's, and one of a small number, of which the
#: interpreter has one object for everybody.
LATER = 0x20
#: The same of one that is read next when its turn comes: until then the kernel is asked for nothing.
TURN = 0x40
#: What epoll is asked for, by interest: whoever is read is also watched for its FIN.
_ASKED = tuple(
    0 if interest & TURN else interest & (READ | WRITE) | (ENDED if interest & READ else 0)
    for interest in range((READ | WRITE | LATER | TURN) + 1)
)


class Readiness(Protocol):
    """The interface that both have."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def add(self, descriptor: int, interest: int) -> None:
        """Begin to report a descriptor."""

    def change(self, descriptor: int, interest: int, before: int) -> None:
        """Report other events from now on, or let it wait, or wait no longer."""

    def ready(self, limit: int) -> list[tuple[int, int]]:
        """At most `limit` pairs of descriptor and events, without waiting, of those who come first."""

    def later(self, limit: int) -> list[tuple[int, int]]:
        """The same, of those who may wait."""

    def close(self) -> None:
        """Give the kernel objects back."""


class Epoll:
    """Linux."""

    def __init__(self) -> None:
        self._first = select.epoll()
        self._later = select.epoll()
        self._first.register(self._later, READ)
        self.fileno = self._first.fileno

    def add(self, descriptor: int, interest: int) -> None:
        """Begin to report a descriptor."""
        (self._later if interest & LATER else self._first).register(descriptor, _ASKED[interest])

    def change(self, descriptor: int, interest: int, before: int) -> None:
        """Report other events from now on, or let it wait, or wait no longer."""
        mine = self._later if interest & LATER else self._first
        if (interest ^ before) & LATER:
            (self._later if before & LATER else self._first).unregister(descriptor)
            mine.register(descriptor, _ASKED[interest])
        else:
            mine.modify(descriptor, _ASKED[interest])

    def ready(self, limit: int) -> list[tuple[int, int]]:
        """At most `limit` pairs of descriptor and events, without waiting."""
        return self._first.poll(0, limit)

    def later(self, limit: int) -> list[tuple[int, int]]:
        """The same, of those who may wait."""
        return self._later.poll(0, limit)

    def close(self) -> None:
        """Give the kernel objects back."""
        self._later.close()
        self._first.close()


if sys.platform != "linux":

    class Kqueue:
        """macOS and the BSDs: one filter for each direction, a hang-up is a flag on either."""

        def __init__(self) -> None:
            self._first = select.kqueue()
            self._later = select.kqueue()
            self._tell(self._first, self._later.fileno(), READ, 0)
            self.fileno = self._first.fileno

        def add(self, descriptor: int, interest: int) -> None:
            """Begin to report a descriptor."""
            self._tell(self._later if interest & LATER else self._first, descriptor, interest, 0)

        def change(self, descriptor: int, interest: int, before: int) -> None:
            """Report other events from now on, or let it wait, or wait no longer."""
            if (interest ^ before) & LATER:
                self._tell(self._later if before & LATER else self._first, descriptor, 0, before)
                before = 0
            self._tell(self._later if interest & LATER else self._first, descriptor, interest, before)

        def _tell(self, queue: select.kqueue, descriptor: int, interest: int, before: int) -> None:
            changes = []
            asked, before = _ASKED[interest], _ASKED[before]
            for bit, name in ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE)):
                if (asked ^ before) & bit:
                    flag = select.KQ_EV_ADD if asked & bit else select.KQ_EV_DELETE
                    changes.append(select.kevent(descriptor, name, flag))
            if changes:
                queue.control(changes, 0, 0)

        def ready(self, limit: int) -> list[tuple[int, int]]:
            """At most `limit` pairs of descriptor and events, without waiting."""
            return self._events(self._first, limit)

        def later(self, limit: int) -> list[tuple[int, int]]:
            """The same, of those who may wait."""
            return self._events(self._later, limit)

        def _events(self, queue: select.kqueue, limit: int) -> list[tuple[int, int]]:
            return [
                (
                    event.ident,
                    (READ if event.filter == select.KQ_FILTER_READ else WRITE)
                    | (ENDED if event.flags & select.KQ_EV_EOF else 0),
                )
                for event in queue.control(None, limit, 0)
            ]

        def close(self) -> None:
            """Give the kernel objects back."""
            self._later.close()
            self._first.close()


def open_readiness() -> Readiness:
    """The best one this system has."""
    if sys.platform == "linux":
        return Epoll()
    else:  # noqa: RET505  mypy reads the two branches of a platform check, not what follows it
        return Kqueue()
