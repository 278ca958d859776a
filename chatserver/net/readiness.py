"""Which descriptors are ready: epoll, or kqueue where there is no epoll.

Owns: the one kernel object that all parked connections are registered in. May not: know what a connection is.

Level-triggered. One-shot and edge-triggered were measured and cost the same for a handshake; level-triggered cannot
lose an event. The kernel object is itself a descriptor that becomes readable when any of its members is ready, so one
trio task can wait for all of them. Closing a descriptor removes it, on both systems; there is nothing to unregister.
"""

import select
import sys
from typing import Protocol

#: Interest and events, in epoll's own numbers so that epoll's results need no translation.
READ = 0x001
WRITE = 0x004
BROKEN = 0x008 | 0x010  # EPOLLERR, EPOLLHUP: reported whether asked for or not


class Readiness(Protocol):
    """The interface that both have."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def add(self, descriptor: int, interest: int) -> None:
        """Begin to report a descriptor."""

    def change(self, descriptor: int, interest: int, before: int) -> None:
        """Report other events from now on."""

    def ready(self, limit: int) -> list[tuple[int, int]]:
        """At most `limit` pairs of descriptor and events, without waiting."""

    def close(self) -> None:
        """Give the kernel object back."""


class Epoll:
    """Linux."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fileno = self._epoll.fileno
        self.add = self._epoll.register
        self.close = self._epoll.close

    def change(self, descriptor: int, interest: int, before: int) -> None:
        """Report other events from now on."""
        self._epoll.modify(descriptor, interest)

    def ready(self, limit: int) -> list[tuple[int, int]]:
        """At most `limit` pairs of descriptor and events, without waiting."""
        return self._epoll.poll(0, limit)


if sys.platform != "linux":

    class Kqueue:
        """macOS and the BSDs: one filter for each direction, a hang-up is a flag on either."""

        def __init__(self) -> None:
            self._kqueue = select.kqueue()
            self.fileno = self._kqueue.fileno
            self.close = self._kqueue.close

        def add(self, descriptor: int, interest: int) -> None:
            """Begin to report a descriptor."""
            self.change(descriptor, interest, 0)

        def change(self, descriptor: int, interest: int, before: int) -> None:
            """Report other events from now on."""
            changes = []
            for bit, name in ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE)):
                if (interest ^ before) & bit:
                    flag = select.KQ_EV_ADD if interest & bit else select.KQ_EV_DELETE
                    changes.append(select.kevent(descriptor, name, flag))
            if changes:
                self._kqueue.control(changes, 0, 0)

        def ready(self, limit: int) -> list[tuple[int, int]]:
            """At most `limit` pairs of descriptor and events, without waiting."""
            return [
                (event.ident, READ if event.filter == select.KQ_FILTER_READ else WRITE)
                for event in self._kqueue.control(None, limit, 0)
            ]


def open_readiness() -> Readiness:
    """The best one this system has."""
    if sys.platform == "linux":
        return Epoll()
    else:  # noqa: RET505  mypy reads the two branches of a platform check, not what follows it
        return Kqueue()
