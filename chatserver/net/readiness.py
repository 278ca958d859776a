"""Which descriptors are ready: epoll on Linux, kqueue on macOS.

Owns: the kernel object that all parked connections are registered in. May not: know what a connection is.

One-shot: a descriptor is reported once, and then not until it is armed again. So an unarmed connection is not read, and
none that waits in the scheduler's queues is reported twice. The kernel checks a descriptor when it is armed: no event
is lost in between. The kernel object is itself readable when any of its members is ready: one trio task waits for all.
Closing a descriptor removes it, on both systems; there is nothing to unregister.
"""

import os
import select
import sys
from typing import TypeAlias

#: Interest and events, in epoll's own numbers so that epoll's results need no translation.
READ = 0x001
WRITE = 0x004
#: An event only: the peer has reset the connection (EPOLLERR).
RESET = 0x008
_ONCE = 1 << 30  # EPOLLONESHOT


class Epoll:
    """Linux; `Kqueue` has the same methods."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._waker, READ | select.EPOLLET)  # reported once for each wake, without a read
        self.fileno = self._epoll.fileno

    def add(self, descriptor: int, interest: int) -> None:
        """Register a descriptor, and arm it."""
        self._epoll.register(descriptor, interest | _ONCE)

    def arm(self, descriptor: int, interest: int) -> None:
        """Report a descriptor once more. READ also reports a FIN; with no interest only a reset is reported."""
        self._epoll.modify(descriptor, interest | _ONCE)

    def ready(self, limit: int) -> list[tuple[int, int]]:
        """At most `limit` pairs of descriptor and events, without waiting. A wake may be among them."""
        return self._epoll.poll(0, limit)

    def wake(self) -> None:
        """Make `fileno()` readable once, to wake the task that waits on it."""
        os.eventfd_write(self._waker, 1)

    def close(self) -> None:
        os.close(self._waker)
        self._epoll.close()


if sys.platform == "linux":
    Readiness: TypeAlias = Epoll
else:

    class Kqueue:
        """macOS: one filter for each direction; a reset is an end with an error, on either.

        With no interest the filter for reading waits for more bytes than any buffer has, so it fires at the end only.
        After a FIN, or when the peer has filled the buffer (macOS then fires), a reset is noticed by the deadline.
        """

        _WAKER = 0  # an identifier of EVFILT_USER, which has a name space of its own
        _USER, _TRIGGER = -10, 0x01000000  # EVFILT_USER and NOTE_TRIGGER; select does not name them
        _NEVER = (1 << 31) - 1  # bytes

        def __init__(self) -> None:
            self._queue = select.kqueue()
            flags = select.KQ_EV_ADD | select.KQ_EV_CLEAR
            self._queue.control([select.kevent(self._WAKER, self._USER, flags)], 0, 0)
            self.fileno = self._queue.fileno

        def arm(self, descriptor: int, interest: int) -> None:
            """Report a descriptor once more, or for the first time."""
            flags = select.KQ_EV_ADD | select.KQ_EV_ONESHOT
            if interest & WRITE:
                change = select.kevent(descriptor, select.KQ_FILTER_WRITE, flags, udata=WRITE)
            elif interest & READ:
                change = select.kevent(descriptor, select.KQ_FILTER_READ, flags, udata=READ)
            else:
                change = select.kevent(descriptor, select.KQ_FILTER_READ, flags, select.KQ_NOTE_LOWAT, self._NEVER)
            self._queue.control([change], 0, 0)

        add = arm

        def ready(self, limit: int) -> list[tuple[int, int]]:
            found = []
            for event in self._queue.control(None, limit, 0):
                reset = RESET if event.flags & select.KQ_EV_EOF and event.fflags else 0
                if event.filter != self._USER and (event.udata or reset):
                    found.append((event.ident, event.udata | reset))
            return found

        def wake(self) -> None:
            self._queue.control([select.kevent(self._WAKER, self._USER, fflags=self._TRIGGER)], 0, 0)

        def close(self) -> None:
            self._queue.close()

    Readiness: TypeAlias = Kqueue
