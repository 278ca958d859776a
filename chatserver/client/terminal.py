"""`chatserver chat`: the three ways to use a room from a terminal.

Owns: standard input and output, signals and the exit code. May not: know frames or sockets.

- interactive: a prompt below, messages above; when both ends are a terminal and `--plain` is not given
- plain: one line a message on standard output, what happens on standard error; lines typed are published
- send: each line of standard input is published; done when all are acknowledged
"""

import io
import math
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import NoReturn

import trio

from chatserver.client import events, render
from chatserver.client.identity import keep_cookie, kept_cookie
from chatserver.client.link import Client, RejectedError, connect
from chatserver.client.screen import Screen
from chatserver.client.stream import BadUrlError, Target, parse_target
from chatserver.client.wire import User

EXIT_DONE, EXIT_FAILED, EXIT_BAD_URL = 0, 1, 2
EXIT_BY_SIGNAL = 128  # plus its number, as shells have it

LINES_AHEAD = 100  # published and not acknowledged, before more of standard input is read
LEAVE_PATIENCE = 3.0  # s for the last words to be acknowledged when the user leaves
LONGEST_LINE = 1 << 20  # B; far above what a server takes, far below what memory minds

_SEE_HELP = "/help tells what one can type"
_HELP = "/who tells who is here, /join ROOM goes to another room, /quit leaves, // starts a line with a slash"

Happenings = AsyncGenerator[tuple[events.Event, str | None], None]
Mode = Callable[[Client, Happenings, trio.Nursery], Awaitable[None]]


class _Done(Exception):  # noqa: N818  (no error)
    """Leave the room; carries the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(url: str, *, room: str, plain: bool, send: bool, retry_for: float) -> int:
    """Run `chatserver chat` and return its exit code; `retry_for` is in seconds."""
    try:
        target = parse_target(url)
    except BadUrlError as error:
        return _complain(f"URL: {error}", EXIT_BAD_URL)
    if send:
        return trio.run(_live, target, [], partial(_send, room, retry_for))
    if plain or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return trio.run(_live, target, [room], partial(_plain, room))
    return trio.run(_live, target, [room], partial(_interactive, room, target))


async def _live(target: Target, rooms: list[str], mode: Mode) -> int:
    """Connect, do what `mode` does until it raises `_Done` or a signal comes, and leave politely."""
    code = EXIT_DONE
    async with connect(str(target), rooms=rooms, cookie=kept_cookie(target)) as client:
        try:
            async with aclosing(_happenings(client, target)) as happenings, trio.open_nursery() as nursery:
                await mode(client, happenings, nursery)
        except* _Done as done:
            (ending,) = done.exceptions[:1]
            assert isinstance(ending, _Done)
            code = ending.code
        except* RejectedError as rejected:
            code = _complain(str(rejected.exceptions[0]), EXIT_FAILED)
        except* BrokenPipeError:  # the reader of our output has gone; there is nothing left to do
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


async def _happenings(client: Client, target: Target) -> Happenings:
    """Yield each event with what to say about it; remember who we are; say why we are offline once, not at each try."""
    why = ""
    async for event in client:
        words = render.status(event)
        if isinstance(event, events.Reconnecting):
            words, why = (words if event.why != why else None), event.why
        elif isinstance(event, events.Connected):
            why = ""
            try:
                keep_cookie(target, client.cookie)
            except OSError as error:
                words = f"{words}, but only until you leave: {error}"
        yield event, words


async def _end_on_signal(screen: Screen | None = None, *, task_status: trio.TaskStatus[None]) -> None:
    """Raise `_Done` at a signal; but Ctrl-C with something typed only clears that."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGINT and screen is not None and screen.clear():
                continue
            raise _Done(EXIT_BY_SIGNAL + number)


async def _send(room: str, retry_for: float, client: Client, happenings: Happenings, nursery: trio.Nursery) -> None:
    """Publish all of standard input; raise `_Done` when everything is acknowledged, or time is up."""
    numbers: dict[str, int] = {}  # of the line, by the key under which it was published
    places = trio.Semaphore(LINES_AHEAD)
    patience = trio.CancelScope()
    all_published = False
    code = EXIT_DONE

    def finish_if_done() -> None:
        patience.deadline = trio.current_time() + retry_for if numbers else math.inf
        if all_published and not numbers:
            raise _Done(code)

    async def publish_lines() -> None:
        nonlocal all_published
        async with aclosing(_input_lines()) as lines:
            async for number, line in lines:
                await places.acquire()
                numbers[client.publish(room, line)] = number
                if patience.deadline == math.inf:
                    patience.deadline = trio.current_time() + retry_for
        all_published = True
        finish_if_done()

    await nursery.start(_end_on_signal)
    nursery.start_soon(publish_lines)
    with patience:
        async for event, words in happenings:
            _say(words)
            if isinstance(event, events.Acknowledged | events.Refused):
                if isinstance(event, events.Refused):
                    code = EXIT_FAILED
                    _say(f"that was line {numbers[event.key]}")
                del numbers[event.key]
                places.release()
                finish_if_done()
    first = next(iter(numbers.values()))
    why = f"no acknowledgement for {retry_for:g} s: line {first} and what follows may be lost"
    raise _Done(_complain(why, EXIT_FAILED))


async def _plain(room: str, client: Client, happenings: Happenings, nursery: trio.Nursery) -> None:
    """Print messages and publish lines, until a signal comes or nobody reads."""

    async def publish_lines() -> None:
        async for _, line in _input_lines():
            client.publish(room, line)

    await nursery.start(_end_on_signal)
    nursery.start_soon(publish_lines)
    async for event, words in happenings:
        if isinstance(event, events.Received):
            sys.stdout.write(render.plain_line(event.message) + "\n")
            sys.stdout.flush()
        elif not isinstance(event, events.PresenceChanged):
            _say(words)
        _end_if_unwelcome(event, room)


async def _interactive(
    name: str, target: Target, client: Client, happenings: Happenings, nursery: trio.Nursery
) -> None:
    """Show messages above a prompt, until the user leaves."""
    with Screen(sys.stdin.fileno(), sys.stdout.fileno(), colours="NO_COLOR" not in os.environ) as screen:
        room = Room(client, name, screen)
        room.prompt()
        screen.note(f"connecting to {target}; {_SEE_HELP}")
        await nursery.start(_end_on_signal, screen)
        nursery.start_soon(room.keep_shape)
        nursery.start_soon(room.take_lines)
        async for event, words in happenings:
            room.show(event, words)
            _end_if_unwelcome(event, room.name)


class Room:
    """What the interactive mode shows of one room, and what it does with lines typed."""

    def __init__(self, client: Client, name: str, screen: Screen) -> None:
        self.name = name
        self._client = client
        self._screen = screen
        self._online = False
        self._me: User | None = None
        self._day = ""
        self._all_acknowledged = trio.Event()  # set when nothing is left to be acknowledged

    def show(self, event: events.Event, words: str | None) -> None:
        """Print an event, and what it changes in the prompt."""
        if isinstance(event, events.Connected):
            self._online, self._me = True, event.user
        elif isinstance(event, events.Reconnecting):
            self._online = False
        elif isinstance(event, events.Entered) and event.room != self.name:  # after /join
            self._client.leave(self.name)
            self.name = event.room
        self.prompt()
        if not self._client.unacknowledged:
            self._all_acknowledged.set()
        if isinstance(event, events.Received):
            if (day := render.local_time(event.message, "%A %-d %B %Y")) != self._day:
                self._day = day
                self._screen.note(day)
            self._screen.print(render.pretty_lines(event.message, colours=self._screen.colours))
        elif words is not None and not self._is_our_own_coming(event):
            self._screen.note(words)
        else:
            self._screen.draw()

    def _is_our_own_coming(self, event: events.Event) -> bool:
        return isinstance(event, events.PresenceChanged) and event.joined == (self._me,) and not event.left

    def prompt(self) -> None:
        """Say in the prompt what is not as usual."""
        waiting = self._client.unacknowledged
        facts = ([] if self._online else ["offline"]) + ([f"{waiting} to send"] if waiting else [])
        self._screen.prompt = f"{self.name}{' (' + ', '.join(facts) + ')' if facts else ''}> "

    async def take_lines(self) -> None:
        """Publish what is typed; raise `_Done` when the user wants to leave."""
        while True:
            for text in await self._screen.typed():
                if text is None:
                    await self._leave()
                elif text.startswith("/") and not text.startswith("//"):
                    await self._obey(text.split())
                elif text.strip():
                    self._client.publish(self.name, text.removeprefix("/"))
                    self.prompt()
                    self._screen.draw()

    async def _obey(self, command: list[str]) -> None:
        match command:
            case ["/quit"]:
                await self._leave()
            case ["/help"]:
                self._screen.note(_HELP)
            case ["/who" | "/join", *_] if not self._online:
                self._screen.note("there is no connection")
            case ["/who"]:
                self._client.ask_members(self.name)
            case ["/join", room]:
                self._client.join(room)
            case _:
                self._screen.note(f"no such command; {_SEE_HELP}")

    async def keep_shape(self) -> None:
        """Draw the prompt again when the window changes, and take the keys again after Ctrl-Z and fg."""
        with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGCONT) as signals:
            async for number in signals:
                if number == signal.SIGCONT:
                    self._screen.take_over()
                self._screen.draw()

    async def _leave(self) -> NoReturn:
        """Give what was typed last a moment to be acknowledged."""
        with trio.move_on_after(LEAVE_PATIENCE):
            if self._client.unacknowledged:
                self._all_acknowledged = trio.Event()
                await self._all_acknowledged.wait()
        if waiting := self._client.unacknowledged:
            self._screen.note(f"{waiting} not acknowledged and perhaps not sent")
        raise _Done(EXIT_FAILED if waiting else EXIT_DONE)


async def _input_lines() -> AsyncGenerator[tuple[int, str], None]:
    """Yield the lines of standard input that are not blank, with their numbers from 1.

    They are read in a thread, since a regular file cannot be waited for and a pipe may be shared; and not
    through `sys.stdin`, whose lock a thread that still waits would hold when the interpreter exits.
    """
    number = 0
    with suppress(OSError):  # standard input is closed, or its terminal is gone
        file = io.BufferedReader(io.FileIO(0, closefd=False))
        while line := await trio.to_thread.run_sync(file.readline, LONGEST_LINE + 1, abandon_on_cancel=True):
            number += 1
            text = line.removesuffix(b"\n").removesuffix(b"\r")
            if len(text) > LONGEST_LINE:
                raise _Done(_complain(f"line {number} is longer than {LONGEST_LINE:,} B", EXIT_FAILED))
            if text.strip():
                yield number, text.decode("utf-8", "replace")


def _end_if_unwelcome(event: events.Event, room: str) -> None:
    """Raise `_Done` when the command's room does not let us in, which has been said."""
    if isinstance(event, events.Complaint) and event.room == room:
        raise _Done(EXIT_FAILED)


def _complain(message: str, code: int) -> int:
    _say(message)
    return code


def _say(words: str | None) -> None:
    if words is not None:
        sys.stderr.write(f"chatserver: {words}\n")
