"""`chatserver chat`: the three ways to use a room from a terminal.

Owns: standard input and output, signals and the exit code. May not: know frames or sockets.

- interactive: a prompt below, messages above; when both ends are a terminal and `--plain` is not given
- plain: one line a message on standard output, what happens on standard error; lines typed are published
- send: each line of standard input is published; done when all are acknowledged
"""

import math
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import trio

from chatserver.client import events, render, screen
from chatserver.client.conversation import RejectedError
from chatserver.client.editor import Quit
from chatserver.client.link import Client, connect
from chatserver.client.stream import BadUrlError, parse_target
from chatserver.client.wire import User

EXIT_DONE, EXIT_FAILED, EXIT_BAD_URL = 0, 1, 2
EXIT_BY_SIGNAL = 128  # plus its number, as shells have it

LINES_AHEAD = 100  # published and not acknowledged, before more of standard input is read
LEAVE_PATIENCE = 3.0  # s for the last words to be acknowledged when the user leaves
LONGEST_LINE = 1 << 20  # B; far above what a server takes, far below what memory minds
READ_SIZE = 65_536

_HELP = "/quit leaves, // starts a line with a slash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    url: str
    room: str
    plain: bool
    send: bool
    retry_for: float  # s without a new acknowledgement after which `send` gives up


class _Done(Exception):  # noqa: N818  (no error)
    """Leave the room; carries the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(options: Options) -> int:
    """Run `chatserver chat` and return its exit code."""
    try:
        parse_target(options.url)
    except BadUrlError as error:
        return _complain(f"URL: {error}", EXIT_BAD_URL)
    if options.send:
        return trio.run(_life, options, _send)
    if options.plain or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return trio.run(_life, options, _plain)
    return trio.run(_life, options, _interactive)


Mode = Callable[[Client, Options, trio.Nursery], Awaitable[None]]


async def _life(options: Options, mode: Mode) -> int:
    """Connect, do what `mode` does until it raises `_Done` or a signal comes, and leave politely."""
    rooms = [] if options.send else [options.room]
    code = EXIT_DONE
    async with connect(options.url, rooms=rooms) as client:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(_end_on_signal)
                await mode(client, options, nursery)
        except* _Done as done:
            (ending,) = done.exceptions[:1]
            assert isinstance(ending, _Done)
            code = ending.code
        except* RejectedError as rejected:
            code = _complain(str(rejected.exceptions[0]), EXIT_FAILED)
        except* TooLongError as too_long:
            code = _complain(str(too_long.exceptions[0]), EXIT_FAILED)
        except* BrokenPipeError:  # the reader of our output has gone; there is nothing left to do
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


async def _end_on_signal(*, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            raise _Done(EXIT_BY_SIGNAL + number)


async def _send(client: Client, options: Options, nursery: trio.Nursery) -> None:
    """Publish all of standard input; raise `_Done` when everything is acknowledged, or time is up."""
    numbers: dict[str, int] = {}  # of the line, by the key under which it was published
    places = trio.Semaphore(LINES_AHEAD)
    patience = trio.CancelScope()
    lines = LineReader()
    all_published = False  # not lines.at_end: the last line may still wait for its place
    refused = 0

    def finish_if_done() -> None:
        patience.deadline = trio.current_time() + options.retry_for if numbers else math.inf
        if all_published and not numbers:
            raise _Done(EXIT_FAILED if refused else EXIT_DONE)

    async def publish_lines() -> None:
        nonlocal all_published
        while (line := await lines.next()) is not None:
            if line.strip():
                await places.acquire()
                numbers[client.publish(options.room, line)] = lines.number
                if patience.deadline == math.inf:
                    patience.deadline = trio.current_time() + options.retry_for
        all_published = True
        finish_if_done()

    nursery.start_soon(publish_lines)
    with patience:
        async for event in client:
            _tell(event)
            if isinstance(event, events.Acknowledged | events.Refused):
                if isinstance(event, events.Refused):
                    refused += 1
                    _say(f"that was line {numbers[event.key]}")
                del numbers[event.key]
                places.release()
                finish_if_done()
    first = next(iter(numbers.values()))
    why = f"no acknowledgement for {options.retry_for:g} s: line {first} and what follows may be lost"
    raise _Done(_complain(why, EXIT_FAILED))


async def _plain(client: Client, options: Options, nursery: trio.Nursery) -> None:
    """Print messages and publish lines, until a signal comes or nobody reads."""

    async def publish_lines() -> None:
        lines = LineReader()
        while (line := await lines.next()) is not None:
            if line.strip():
                client.publish(options.room, line)

    nursery.start_soon(publish_lines)
    async for event in client:
        if isinstance(event, events.Received):
            sys.stdout.write(render.plain_line(event.message) + "\n")
            sys.stdout.flush()
        elif not isinstance(event, events.PresenceChanged):
            _tell(event)
        _end_if_unwelcome(event)


async def _interactive(client: Client, options: Options, nursery: trio.Nursery) -> None:
    """Show messages above a prompt, until the user leaves."""
    colours = "NO_COLOR" not in os.environ
    with screen.opened(sys.stdin.fileno(), sys.stdout.fileno(), colours=colours) as shown:
        room = Room(client, options.room, shown)
        room.prompt()
        shown.note(f"connecting to {parse_target(options.url)}; {_HELP}")
        nursery.start_soon(room.keep_shape)
        nursery.start_soon(room.take_lines)
        async for event in client:
            room.show(event)
            _end_if_unwelcome(event)


class Room:
    """What the interactive mode shows of one room, and what it does with lines typed."""

    def __init__(self, client: Client, name: str, shown: screen.Screen) -> None:
        self._client = client
        self._name = name
        self._screen = shown
        self._online = False
        self._me: User | None = None
        self._day = ""
        self._all_acknowledged = trio.Event()  # set when nothing is left to be acknowledged

    def show(self, event: events.Event) -> None:
        """Print an event, and what it changes in the prompt."""
        if isinstance(event, events.Connected):
            self._online, self._me = True, event.user
        elif isinstance(event, events.Reconnecting):
            self._online = False
        self.prompt()
        if not self._client.unacknowledged:
            self._all_acknowledged.set()
        if isinstance(event, events.Received):
            if (day := render.day(event.message)) != self._day:
                self._day = day
                self._screen.note(day)
            self._screen.print(render.pretty_lines(event.message, colours=self._screen.colours))
        elif (words := render.status(event)) and not self._is_our_own_coming(event):
            self._screen.note(words)
        else:
            self._screen.draw()

    def _is_our_own_coming(self, event: events.Event) -> bool:
        return isinstance(event, events.PresenceChanged) and event.joined == (self._me,) and not event.left

    def prompt(self) -> None:
        """Say in the prompt what is not as usual."""
        waiting = self._client.unacknowledged
        facts = ([] if self._online else ["offline"]) + ([f"{waiting} to send"] if waiting else [])
        self._screen.prompt = f"{self._name}{' (' + ', '.join(facts) + ')' if facts else ''}> "

    async def take_lines(self) -> None:
        """Publish what is typed; raise `_Done` when the user wants to leave."""
        while True:
            for asked in await self._screen.typed():
                if isinstance(asked, Quit) or asked.text.strip() == "/quit":
                    await self._leave()
                text = asked.text
                if text.startswith("/") and not text.startswith("//"):
                    self._screen.note(f"no such command; {_HELP}")
                elif text.strip():
                    self._client.publish(self._name, text.removeprefix("/"))
                    self.prompt()
                    self._screen.draw()

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


class TooLongError(Exception):
    """A line above LONGEST_LINE: not text, most likely."""


class LineReader:
    """Lines of standard input, read in a thread: a regular file cannot be waited for, a pipe may be shared.

    It reads with `os.read`: a thread that waits inside `sys.stdin` holds its lock, and the interpreter would
    abort at exit.
    """

    def __init__(self) -> None:
        self.number = 0  # of the line that `next` returned last
        self.at_end = False
        self._buffer = bytearray()

    async def next(self) -> str | None:
        """Return the next line without its end, or None after the last."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0 and not self.at_end:
            searched = len(self._buffer)
            if searched > LONGEST_LINE:
                raise TooLongError(f"line {self.number + 1} is longer than {LONGEST_LINE:,} B")
            data = await trio.to_thread.run_sync(_read_input, abandon_on_cancel=True)
            self._buffer += data
            self.at_end = not data
        if end < 0 and not self._buffer:
            return None
        line = bytes(self._buffer if end < 0 else self._buffer[:end])
        del self._buffer[: len(line) + 1]
        self.number += 1
        return line.decode("utf-8", "replace").removesuffix("\r")


def _read_input() -> bytes:
    try:
        return os.read(0, READ_SIZE)
    except OSError:  # closed, or the terminal is gone: the end of input
        return b""


def _end_if_unwelcome(event: events.Event) -> None:
    """A room that does not let us in is the end of a command that is about one room."""
    if isinstance(event, events.Complaint) and event.room is not None:
        raise _Done(_complain(render.status(event) or "", EXIT_FAILED))


def _tell(event: events.Event) -> None:
    if (words := render.status(event)) is not None:
        _say(words)


def _complain(message: str, code: int) -> int:
    _say(message)
    return code


def _say(words: str) -> None:
    sys.stderr.write(f"chatserver: {words}\n")
