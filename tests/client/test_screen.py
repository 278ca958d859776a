import os

import pytest

from chatserver.client.render import Style
from chatserver.client.screen import Screen


def test_what_is_too_long_for_a_narrow_terminal_ends_with_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt lost its end: `lobby (offli`, and at once what was typed, for which eight columns were left."""
    monkeypatch.setenv("COLUMNS", "20")
    outside, inside = os.openpty()
    try:
        screen = Screen(inside, inside, style=Style(colours=False))
        screen.prompt = "lobby (offline, 1 to send)> "
        screen.draw()
        assert os.read(outside, 1_000).decode() == "\r\x1b[Jlobby (…> "
        screen.prompt = "日本語日本語日本語> "
        screen.draw()
        assert os.read(outside, 1_000).decode() == "\r\x1b[J日本語…> "
        screen.change_note("Ann and Bob joined · 2 here")
        assert os.read(outside, 1_000).decode().startswith("\r\x1b[J\r\x1b[J· Ann and Bob join…\r\n")
    finally:
        os.close(outside)
        os.close(inside)
