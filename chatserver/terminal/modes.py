"""`chatserver chat`: the modes of using a room from a terminal.

Owns: standard input and output, signals and the exit code. May not: know frames or sockets.

- interactive: a prompt below, messages above; on a terminal that is not dumb, without `--plain` and `--json`
- plain: one line a record on standard output (wrapped at a terminal), other events on standard error; lines of standard
  input are published, except commands that a person types
- json: the same, with all events on standard output, as one JSON object a line
- send: each line of standard input that is not blank is published; done when all are acknowledged
"""

import fcntl
import math
import os
import select
import shutil
import signal
import sys
import termios
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec
import trio

from chatserver.client import events, wire
from chatserver.client.chat import Chat, TransportName, connect
from chatserver.client.errors import ChatError, Rejected, Unavailable
from chatserver.client.stream import Target, split_page_url
from chatserver.exits import EXIT_CLEAN, EXIT_FAULT, complain, write_all
from chatserver.settings.spec import ConfigError
from chatserver.terminal import render
from chatserver.terminal.arguments import may_change, read_target, read_token
from chatserver.terminal.commands import said
from chatserver.terminal.identity import is_renamed, keep_cookie, kept_cookie
from chatserver.terminal.interactive import LATEST, Done, Interactive
from chatserver.terminal.screen import Screen

EXIT_BY_SIGNAL = 128  # plus the signal's number, as in shells

FIRST_ROOM = "lobby"  # the default room, as in the page
LONGEST_LINE = 1 << 20  # B; far above the server's limit, and no strain on memory
IDENTITY_EVERY = 2.0  # s between two looks at our name in other terminals, or at the file of our token
RENEWAL_PATIENCE = 5.0  # s that a new token waits for a connection before its file is looked at again
_CHUNK = 8192  # B of standard input in one read
_BACKGROUND_PAUSE = 0.5  # s until standard input is looked at again while it is another job's


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    url: str
    room: str  # empty: the one in the URL
    name: str
    token: str
    transport: TransportName
    plain: bool
    json: bool
    send: bool
    retry_for: float  # seconds


Mode = Callable[[Options, Chat, trio.Nursery], Awaitable[None]]


def run(options: Options) -> int:
    """Run `chatserver chat` and return its exit code. Raises ConfigError."""
    url, room = split_page_url(options.url)
    options = replace(options, url=url, room=options.room or room or FIRST_ROOM)
    target, token = read_target(options.url), read_token(options.token)
    if not options.retry_for >= 0:  # NaN as well
        raise ConfigError("retry-for", f"{options.retry_for:g} is no number of seconds")
    if options.send:
        mode: Mode = _send
    elif options.plain or options.json or not _is_screen():
        mode = _plain
    else:
        mode = _interactive
    return trio.run(_live, options, target, token, mode)


def _is_screen() -> bool:
    """Whether a person is at both ends, and the terminal can move the cursor."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


async def _live(options: Options, target: Target, token: str, mode: Mode) -> int:
    """Connect, run `mode` until it raises `Done` or a signal comes, and close the connection properly."""
    code = EXIT_CLEAN
    async with connect(
        options.url,
        token=token,
        name=options.name,
        cookie="" if token else kept_cookie(target, options.name),
        transport=options.transport,
        answer_timeout=options.retry_for if options.send else math.inf,
    ) as chat:
        try:
            async with trio.open_nursery() as nursery:
                if not token:
                    nursery.start_soon(_remember, chat, target, options.name)
                elif may_change(options.token):
                    nursery.start_soon(_renew, chat, options.token, token)
                await mode(options, chat, nursery)
                nursery.cancel_scope.cancel()
        except* Done as done:
            code = max(ending.code for ending in done.exceptions if isinstance(ending, Done))
        except* ChatError as failed:
            first = failed.exceptions[0]
            code = _complain(first.message if isinstance(first, ChatError) else str(first))
        except* BrokenPipeError:  # the reader of our output is gone; there is nothing left to do, unless lines are left
            code = EXIT_FAULT if options.send else code
    return code


async def _remember(chat: Chat, target: Target, name: str) -> None:
    """Store our identity for the next start, with each new name; take over a name that another terminal has stored."""
    with suppress(Unavailable):
        await chat.connected()
    if chat.user is None:
        return
    stored = chat.cookie
    try:
        keep_cookie(target, name, stored)
        while True:
            try:
                await trio.sleep(IDENTITY_EVERY)
            finally:
                if chat.cookie != stored:
                    stored = chat.cookie
                    keep_cookie(target, name, stored)
            if is_renamed(kept := kept_cookie(target, name), stored):
                chat.become(stored := kept)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}" if error.filename else error
        _say(f"you are {render.name_of(chat.user)} only until you leave: {why}")


async def _renew(chat: Chat, file: str, token: str) -> None:
    """Go on with each new token in the file that `@FILE` names, also with one that comes while another waits."""
    while True:
        await trio.sleep(IDENTITY_EVERY)
        with suppress(ConfigError), trio.move_on_after(RENEWAL_PATIENCE):  # the error: it is being written
            if (found := read_token(file)) != token:
                try:
                    await chat.authenticate(found)
                except ChatError as error:
                    _say(f"the new token in {file[1:]} is not used: {error.message}")
                token = found


async def _end_on_signal(screen: Screen | None = None, *, task_status: trio.TaskStatus[None]) -> None:
    """Raise `Done` at a signal, except that Ctrl-C only clears a line being typed."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGINT and screen is not None and screen.clear():
                continue
            raise Done(EXIT_BY_SIGNAL + number)


async def _send(options: Options, chat: Chat, nursery: trio.Nursery) -> None:
    """Publish all of standard input; raise `Done` when everything is acknowledged. An early end says what is left."""
    await nursery.start(_end_on_signal)
    nursery.start_soon(_say_trouble, chat)
    typed, code, number, done = _Input(), EXIT_CLEAN, 0, 0
    try:
        while line := await typed.line():
            number, ack = typed.number, None
            await chat.connected()  # so that without a connection it is certain that nothing is sent
            try:
                ack = await chat.publish(options.room, line)
            except (Rejected, Unavailable):
                raise
            except ChatError as error:
                code = _complain(f"line {number} is not sent: {error.message}")
            done = number
            if options.json and ack is not None:
                await _print_json(msgspec.structs.replace(ack, id=0))  # an internal id
        if typed.failure is not None:
            code = _complain(f"standard input: {typed.failure}")
    except BaseException:
        if number > done or typed.has_more():
            left = f"line {done + 1} and what follows are not sent"
            if number > done:  # also after a 429, which may answer a repetition of what is stored
                left = f"line {number} may be lost, and what follows is not sent"
            _say("nothing is sent" if chat.user is None else left)
        raise
    raise Done(code)


async def _plain(options: Options, chat: Chat, nursery: trio.Nursery) -> None:
    """Print events and publish lines, until a signal or Ctrl-D comes or the output is closed."""

    async def publish_lines() -> None:
        typed, is_person = _Input(), os.isatty(0)
        while line := await typed.line():
            text = said(line) if is_person else line
            if text is None:
                name = line.split(maxsplit=1)[0]
                _say(f"not sent: there are no commands without a prompt; Ctrl-D leaves, and /{name} says {name}")
                continue
            try:
                await chat.publish(options.room, text)
            except ChatError as error:
                _say(render.unsent(error))
        if typed.failure is None and is_person:
            raise Done(EXIT_CLEAN)  # Ctrl-D; after the end of a pipe or a file the events go on

    await nursery.start(_end_on_signal)
    narrator, for_person = render.Narrator(), os.isatty(1)
    chat.join(options.room, latest=LATEST)
    nursery.start_soon(publish_lines)
    async for event in chat.events():
        words = narrator.words(event)
        if options.json:
            await _print_json(event)
        elif isinstance(event, wire.Record):
            if (line := render.plain_line(event, for_person=for_person)) is not None:
                columns = shutil.get_terminal_size().columns
                await _print(render.wrapped(line, columns, indent=2) if for_person else line)
        elif not isinstance(event, wire.Presence):
            _say(words)
        if isinstance(event, events.Complaint) and event.room == options.room:
            raise Done(EXIT_FAULT)


async def _interactive(options: Options, chat: Chat, nursery: trio.Nursery) -> None:
    """Show messages above a prompt, until the user leaves."""
    style = render.Style(colours=not os.environ.get("NO_COLOR"), marks_guests=bool(options.token))
    with Screen(sys.stdin.fileno(), sys.stdout.fileno(), style=style) as screen:
        view = Interactive(chat, screen, options.room, nursery)
        screen.editor.complete = view.complete
        screen.note(f"connecting to {render.printable(options.url)}; /help tells what one can type")
        await nursery.start(_end_on_signal, screen)
        await view.run()


async def _say_trouble(chat: Chat) -> None:
    narrator = render.Narrator()
    async for event in chat.events():
        words = narrator.words(event)
        if not isinstance(event, wire.Connected):  # a job of cron is silent while all is well
            _say(words)


class _Input:
    """Standard input by lines, read in a thread, because a regular file cannot be waited for and a pipe may be shared.

    The thread does not use `sys.stdin`, whose lock it could still hold when the interpreter exits.
    """

    def __init__(self) -> None:
        self.number = 0  # of the line that was taken last
        self._read = b""  # behind that line
        self._is_open = True
        self.failure: str | None = None  # why it ended, if not properly

    async def line(self) -> str:
        """Return the next line that is not blank; an empty text at the end. One that is not UTF-8 fails when sent."""
        while self._is_open or self._read:
            line, end, rest = self._read.partition(b"\n")
            if self._is_open and not end and len(line) <= LONGEST_LINE:
                self._is_open = await trio.to_thread.run_sync(self._read_more, abandon_on_cancel=True)
                continue
            self.number += 1
            if len(line) > LONGEST_LINE:
                raise Done(_complain(f"line {self.number} is longer than {LONGEST_LINE:,} B"))
            self._read = rest
            if line.strip():
                return line.removesuffix(b"\r").decode("utf-8", "surrogateescape")
        return ""

    def has_more(self) -> bool:
        """Whether more input is there, as far as that can be known without waiting."""
        with suppress(OSError):
            return bool(self._read.strip()) or any(fcntl.ioctl(0, termios.FIONREAD, bytes(4)))
        return False

    def _read_more(self) -> bool:
        try:
            select.select([0], [], [])  # the process that we have it from may have made it non-blocking
            if _is_in_background():
                time.sleep(_BACKGROUND_PAUSE)
                return True
            data = os.read(0, _CHUNK)
        except BlockingIOError:  # another process has read what was there
            return True
        except OSError as error:  # nohup makes it unreadable, or its terminal is gone
            self.failure = error.strerror
            return False
        self._read += data
        return bool(data)


def _is_in_background() -> bool:
    """Whether the terminal that we read is that of another job, and a read would stop us: `chatserver chat URL &`."""
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:  # it is no terminal
        return False


async def _print_json(event: msgspec.Struct) -> None:
    await _print(msgspec.json.encode(event).decode())


async def _print(line: str) -> None:
    """Write a line in a thread: while its reader pauses, the server's pings are answered, and signals are heard.

    It does not use `sys.stdout`, which has a lock, as `_Input` says.
    """
    data = f"{line}\n".encode(sys.stdout.encoding, "backslashreplace")
    try:
        await trio.to_thread.run_sync(write_all, 1, data, abandon_on_cancel=True)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk
        raise Done(_complain(f"standard output: {error.strerror}")) from None


def _complain(message: str) -> int:
    _say(message)
    return EXIT_FAULT


def _say(words: str | None) -> None:
    if words is not None:
        complain(render.printable(words))
