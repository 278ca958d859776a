"""What the tests of Firefox and of WebKit have in common: the user of a window, and expressions to wait for.

May not: know a browser, or its protocol.
"""

import time
from typing import Any, Protocol

from tests.e2e.browser import LOOK, PATIENCE

#: Keys without a character, as WebDriver numbers them.
SHIFT, CONTROL, TAB, ENTER, ESCAPE, UP = "\ue008", "\ue009", "\ue004", "\ue007", "\ue00c", "\ue013"
PHASE = "document.querySelector('#connection')?.dataset.phase"


def shows(text: str, within: str = "#messages .text") -> str:
    """An expression in the page: whether one of these elements has this text."""
    return f"[...document.querySelectorAll('{within}')].some((each) => each.textContent.includes('{text}'))"


class Person(Protocol):
    """The user of a window."""

    def find(self, expression: str) -> Any:
        """The value of an expression in the page."""

    def perform(self, keyboard: dict[str, Any]) -> None:
        """Let WebDriver perform the actions of a keyboard in this window."""

    def wait_for(self, expression: str) -> None:
        """Wait until an expression in the page is true."""
        until = time.monotonic() + PATIENCE / 1000
        while self.find(f"Boolean({expression})") is not True:
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(LOOK / 1000)

    def press(self, *keys: str) -> None:
        """Type texts and keys; of a text that begins with Shift or Control all keys are held together."""
        actions = []
        for text in keys:
            for held in [text] if text[0] in (SHIFT, CONTROL) else text:
                actions += [{"type": "keyDown", "value": key} for key in held]
                actions += [{"type": "keyUp", "value": key} for key in reversed(held)]
        self.perform({"type": "key", "id": "keyboard", "actions": actions})
