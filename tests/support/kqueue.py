"""A model of kqueue(2) on real descriptors, for the tests of `Kqueue` on systems that have epoll.

Owns: what the kernels do with a socket's filters, by the man pages and the sources of FreeBSD (sys/kern/kern_event.c,
sys/kern/uipc_socket.c) and macOS (xnu, bsd/kern/). May not: know what it is used for, or have what the server does not
use: level-triggered filters, EV_DISABLE, waiting.

They differ in two facts that the server can notice, `of_macos`. NOTE_LOWAT above the size of the receive buffer means
that size on macOS: a full buffer fires. And before an event is reported macOS asks its filter again, while FreeBSD does
not ask that of a one-shot: it reports what held when the filter was last asked.
"""

import errno
import importlib.util
import os
import select
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from unittest import mock

from chatserver.net import sockets

FILTER_READ, FILTER_WRITE = -1, -2
EV_ADD, EV_DELETE, EV_ONESHOT, EV_CLEAR, EV_EOF = 0x1, 0x2, 0x10, 0x20, 0x8000
NOTE_LOWAT, NOTE_TRIGGER = 0x1, 0x01000000
#: EVFILT_USER of macOS, and of FreeBSD.
FILTERS_USER = (-10, -11)
#: Bytes that a socket receives until its buffer counts as full.
HIGH_WATER = 16 * 1024
_MASKS = {FILTER_READ: select.EPOLLIN | select.EPOLLRDHUP, FILTER_WRITE: select.EPOLLOUT}


@dataclass
class Kevent:
    """One change or event, with the defaults of `select.kevent`."""

    ident: int
    filter: int = FILTER_READ
    flags: int = EV_ADD
    fflags: int = 0
    data: int = 0
    udata: int = 0


class Kqueue:
    """See the module. Built on one epoll, which is readable when an event may wait, and an eventfd for EVFILT_USER."""

    of_macos = True

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._triggered = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._triggered, select.EPOLLIN)
        self._user: Kevent | None = None
        self.notes: dict[tuple[int, int], Kevent] = {}
        self._active: set[tuple[int, int]] = set()
        self.fileno = self._epoll.fileno

    @property
    def closed(self) -> bool:
        return self._epoll.closed

    def close(self) -> None:
        if not self.closed:
            os.close(self._triggered)
            self._epoll.close()

    def control(self, changes: Iterable[Kevent] | None, most: int, timeout: float | None = None) -> list[Kevent]:
        """Apply changes, then report at most so many events. Raises OSError for a change that fails."""
        assert most == 0 or timeout == 0, "the model does not wait"
        for change in changes or ():
            self._apply(change)
        found: list[Kevent] = []
        while len(found) < most and (ready := self._epoll.poll(0, most - len(found))):
            for descriptor, _ in ready:
                found += self._report(descriptor, most - len(found))
        return found

    # -- changes ----------------------------------------------------------------------------------------------------

    def _apply(self, change: Kevent) -> None:
        if change.filter in FILTERS_USER:
            self._apply_user(change)
            return
        if change.filter not in _MASKS:
            raise OSError(errno.EINVAL, "no such filter")
        os.fstat(change.ident)  # EBADF
        key = change.ident, change.filter
        note = self._note(key)
        if change.flags & EV_DELETE:
            if note is None:
                raise OSError(errno.ENOENT, "there is no such event")
            self._drop(key)
        elif note is None:
            assert change.flags & (EV_ONESHOT | EV_CLEAR), "the model has no level-triggered filters"
            assert change.flags & EV_ADD, "ENOENT"
            self.notes[key] = change
            self._watch(change.ident)
        else:
            if self._evaluate(note) is not None:
                self._active.add(key)  # and it stays active; its flags stay those of the first EV_ADD
            note.fflags, note.data, note.udata = change.fflags, change.data, change.udata
            self._watch(change.ident)

    def _apply_user(self, change: Kevent) -> None:
        if self._user is None:
            self._user = change
        if change.fflags & NOTE_TRIGGER:
            os.eventfd_write(self._triggered, 1)

    def _note(self, key: tuple[int, int]) -> Kevent | None:
        """The filter of a descriptor, unless the descriptor was closed since: closing it removes its filters."""
        descriptor, _ = key
        try:
            self._epoll.modify(descriptor, self._mask(descriptor))
        except FileNotFoundError:
            for name in _MASKS:
                self._forget((descriptor, name))
        return self.notes.get(key)

    def _mask(self, descriptor: int) -> int:
        wanted = sum(mask for name, mask in _MASKS.items() if (descriptor, name) in self.notes)
        return wanted | select.EPOLLET  # each arrival is looked at once, as a filter is asked at each

    def _watch(self, descriptor: int) -> None:
        try:
            self._epoll.modify(descriptor, self._mask(descriptor))
        except FileNotFoundError:
            self._epoll.register(descriptor, self._mask(descriptor))

    def _drop(self, key: tuple[int, int]) -> None:
        descriptor, _ = key
        self._forget(key)
        if any((descriptor, name) in self.notes for name in _MASKS):
            self._watch(descriptor)  # the other filter of the descriptor fires by itself
        else:
            self._epoll.unregister(descriptor)

    def _forget(self, key: tuple[int, int]) -> None:
        self.notes.pop(key, None)
        self._active.discard(key)

    # -- events -----------------------------------------------------------------------------------------------------

    def _report(self, descriptor: int, room: int) -> list[Kevent]:
        if descriptor == self._triggered:
            assert self._user is not None
            os.eventfd_read(descriptor)
            return [Kevent(self._user.ident, self._user.filter, self._user.flags)]
        found: list[Kevent] = []
        for name in _MASKS:
            key = descriptor, name
            note = self.notes.get(key)
            if note is None:
                continue
            event = self._evaluate(note)
            if event is None and key in self._active and not self.of_macos:
                event = Kevent(descriptor, name, note.flags, udata=note.udata)
            if event is None:
                self._active.discard(key)
            elif len(found) == room:
                self._watch(descriptor)  # it is reported by the next call
            else:
                found.append(event)
                self._active.discard(key)
                if note.flags & EV_ONESHOT:
                    self._drop(key)
        return found

    def _evaluate(self, note: Kevent) -> Kevent | None:
        """Ask a filter: the event that it reports now."""
        poll = select.poll()
        poll.register(note.ident, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
        now = dict(poll.poll(0)).get(note.ident, 0)
        if now & select.POLLNVAL:
            self._forget((note.ident, note.filter))  # closed, and the socket is open under another number
            return None
        error = errno.ECONNRESET if now & select.POLLERR else 0  # so_error; SO_ERROR would take it from the reader
        gone = now & (select.POLLERR | select.POLLHUP)
        event = Kevent(note.ident, note.filter, note.flags, udata=note.udata)
        if note.filter == FILTER_READ:
            event.data = _unread(note.ident)
            ended, fires = bool(gone or now & select.POLLRDHUP), bool(now & select.POLLIN)
            if note.fflags & NOTE_LOWAT:
                fires = event.data >= (min(note.data, HIGH_WATER) if self.of_macos else note.data)
        else:
            ended, fires = bool(gone), bool(now & select.POLLOUT)
        if ended:
            event.flags |= EV_EOF
            event.fflags = error
        return event if ended or fires else None


def _unread(descriptor: int) -> int:
    try:
        return sockets.unread(descriptor)
    except OSError:
        return 0  # a listening socket


def on_macos() -> ModuleType:
    """The module `chatserver.net.readiness` as it is on macOS, over the model."""
    spec = importlib.util.find_spec("chatserver.net.readiness")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "platform", "darwin"), mock.patch.dict(sys.modules, select=provided()):
        spec.loader.exec_module(module)
    return module


def filters_of(readiness: object) -> dict[tuple[int, int], Kevent] | None:
    """The filters of a `Kqueue`; None for epoll."""
    queue = getattr(readiness, "_queue", None)
    return queue.notes if isinstance(queue, Kqueue) else None


def install() -> None:
    """Let all servers of this process use it. To be called before anything imports the module."""
    assert "chatserver.net.readiness" not in sys.modules
    sys.modules["chatserver.net.readiness"] = on_macos()


def provided() -> ModuleType:
    """The module `select` as Python has it where there is a kqueue."""
    module = ModuleType("select")
    module.__dict__.update(
        kqueue=Kqueue, kevent=Kevent, KQ_FILTER_READ=FILTER_READ, KQ_FILTER_WRITE=FILTER_WRITE, KQ_EV_ADD=EV_ADD,
        KQ_EV_DELETE=EV_DELETE, KQ_EV_ONESHOT=EV_ONESHOT, KQ_EV_CLEAR=EV_CLEAR, KQ_EV_EOF=EV_EOF,
        KQ_NOTE_LOWAT=NOTE_LOWAT,
    )  # fmt: skip
    return module
