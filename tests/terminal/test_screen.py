import os
import select
import termios
from collections.abc import Iterator
from threading import Thread

import pytest

from chatserver.terminal.render import Style
from chatserver.terminal.screen import Screen


class Window:
    """A screen in a pseudo-terminal."""

    def __init__(self, outside: int, inside: int) -> None:
        self.screen = Screen(inside, inside, style=Style(colours=False))
        self._outside = outside
        self._inside = inside

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self._outside, (24, columns))

    def make_non_blocking(self) -> None:
        os.set_blocking(self._inside, False)

    def drawn(self) -> str:
        """The output that redraws the prompt."""
        self.screen.draw()
        return self.shown()

    def shown(self) -> str:
        return os.read(self._outside, 1_000).decode()


@pytest.fixture
def window() -> Iterator[Window]:
    outside, inside = os.openpty()
    yield Window(outside, inside)
    os.close(outside)
    os.close(inside)


def test_a_text_too_long_for_a_narrow_terminal_ends_with_a_mark(window: Window) -> None:
    """Otherwise the prompt is cut, `lobby (offli`, and the typed text follows it at once in eight columns."""
    window.resize(20)
    window.screen.prompt = "lobby (offline, 1 to send)> "
    assert window.drawn() == "\r \x1b[J\rlobby (…> "
    window.screen.prompt = "日本語日本語日本語> "
    assert window.drawn() == "\r \x1b[J\r日本語…> "
    window.screen.change_note("Ann and Bob joined · 2 here")
    assert window.shown().startswith("\r \x1b[J\r· Ann and Bob join…\r\n")


def test_only_what_is_new_in_the_line_is_written(window: Window) -> None:
    """A screen reader of the console says all that is written: with each key the whole line, and the prompt twice."""
    window.screen.print("17:26  #1 Ann: hi")
    assert window.shown().endswith("hi\r\n> ")
    window.screen.draw()
    window.screen.editor.feed(b"a")
    assert window.drawn() == "a", "and nothing for a line that is as it was"
    window.screen.editor.feed(b"b\x01")
    assert window.drawn() == "b\r> "


def test_a_prompt_in_the_first_row_is_not_erased_as_a_whole_screen(window: Window) -> None:
    """tmux and PuTTY keep an erased screen: after Ctrl-L each key left a copy of the prompt in their scroll-back."""
    shown = window.drawn()
    assert "\x1b[J" in shown
    assert "\r\x1b[J" not in shown, "the cursor is not in the first column"


def test_a_prompt_wrapped_by_a_narrower_window_is_erased_whole(window: Window) -> None:
    """Otherwise its first rows stay each time that the window becomes narrower."""
    window.screen.prompt = "日本語> "
    window.screen.change_note("Ann joined · 2 here")
    window.shown()
    window.resize(7)
    assert window.drawn().startswith("\x1b[1A\r \x1b[J\r"), (
        "`日本語` leaves a column free, so that `> ` is in the next row"
    )
    window.screen.change_note("Bob joined")
    assert window.shown().startswith("\x1b[3A\r \x1b[J\r"), "the note has three rows"
    window.screen.give_back()
    window.shown()
    assert window.drawn().startswith("\r \x1b[J\r"), "no row of the prompt is on the screen"


def test_a_slow_terminal_that_another_program_made_non_blocking_gets_all(window: Window) -> None:
    """The client ended with a traceback, and left a terminal without echo."""
    window.make_non_blocking()
    text = "x" * 10_000
    writer = Thread(target=window.screen.print, args=(text,), daemon=True)
    writer.start()
    shown = ""
    while text not in shown:
        shown += window.shown()
    writer.join()


def test_ctrl_s_does_not_stop_the_client() -> None:
    """Its next line waited for Ctrl-Q, and the connection with it: the user was out of the room, SIGTERM unheard."""
    outside, inside = os.openpty()
    with Screen(inside, inside, style=Style(colours=False)):
        os.write(outside, b"\x13")
        may_write = select.select([], [inside], [], 0)[1]
        os.write(outside, b"\x11")  # else a failure would not end
    assert may_write
    assert termios.tcgetattr(inside)[0] & termios.IXON, "the shell has it again"
    os.close(outside)
    os.close(inside)


def test_a_terminal_that_is_gone_is_left_without_an_error() -> None:
    """Closing the window ended the client with a traceback of three errors, and with code 1 instead of SIGHUP's 129."""
    outside, inside = os.openpty()
    with Screen(inside, inside, style=Style(colours=False)) as screen:
        os.close(outside)
        screen.take_over()  # at the SIGCONT that the kernel sends after SIGHUP
        screen.note("nobody sees this")
    os.close(inside)


async def test_a_terminal_that_is_gone_is_the_end_of_input() -> None:
    """Otherwise the client reads nothing from it again and again, for ever."""
    outside, inside = os.openpty()
    screen = Screen(inside, inside, style=Style(colours=False))
    os.close(outside)
    assert await screen.typed() == [None]
    os.close(inside)
