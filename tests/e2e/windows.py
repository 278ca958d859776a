"""The windows of the browser tests, used again by later tests.

Owns: which window a test gets. May not: know what a test does in it.
"""

from collections import defaultdict
from typing import Any

from playwright.sync_api import Browser

from tests.e2e.browser import HEIGHT, WIDTH, Window


class Windows:
    """Windows that later tests use again. The first page of a new one costs half as much again: its cache is empty."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._free: defaultdict[str, list[Window]] = defaultdict(list)
        self._kinds: dict[Window, str] = {}

    def take(self, *, width: int = WIDTH, height: int = HEIGHT, **options: Any) -> Window:
        """A fresh window; the options are those of `Window`."""
        kind = repr(sorted(options.items()))
        free = self._free[kind]
        window = free.pop() if free else Window(self._browser, width=WIDTH, height=HEIGHT, **options)
        window.page.set_viewport_size({"width": width, "height": height})  # not of tabs opened later
        self._kinds[window] = kind
        return window

    def give_back(self, window: Window) -> None:
        kind = self._kinds.pop(window)
        if window.forget():
            self._free[kind].append(window)
        else:
            window.close()
