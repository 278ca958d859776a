"""Firefox over WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), since Playwright drives only builds of its own.

Owns: the browser's process, its profile and one session. May not: know the chat.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.e2e.browser import START_PATIENCE, find_browser
from tests.e2e.webdriver import Person

#: Without a display Firefox reports a touch screen, where Enter begins a new line. A mouse points (2) and hovers (4).
POINTER = "".join(f'user_pref("ui.{which}PointerCapabilities", 6);\n' for which in ("primary", "all"))
#: No page of news in the first window, and no process in reserve: a sixth of the CPU. Ten pictures a second: a tenth.
LEAN = """
    user_pref("browser.startup.page", 0);
    user_pref("browser.newtabpage.enabled", false);
    user_pref("dom.ipc.processPrelaunch.enabled", false);
    user_pref("layout.frame_rate", 10);
"""


class Firefox:
    """A session with a running browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._commands = 0

    def do(self, method: str, **params: Any) -> Any:
        """Send a command, and return its result."""
        self._commands += 1
        self._socket.send(json.dumps({"id": self._commands, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=START_PATIENCE / 1000))
            if message.get("id") == self._commands:
                assert message["type"] == "success", (method, message)
                return message["result"]


class FirefoxPerson(Person):
    """A window with cookies of its own."""

    def __init__(self, firefox: Firefox, url: str) -> None:
        self._do = firefox.do
        jar = self._do("browser.createUserContext")["userContext"]
        self._window = self._do("browsingContext.create", type="window", userContext=jar)["context"]
        self._do("browsingContext.navigate", context=self._window, url=url, wait="complete")

    def find(self, expression: str) -> Any:
        target = {"context": self._window}
        found = self._do("script.evaluate", expression=expression, target=target, awaitPromise=False)
        return found.get("result", {}).get("value")

    def perform(self, keyboard: dict[str, Any]) -> None:
        self._do("browsingContext.activate", context=self._window)
        self._do("input.performActions", context=self._window, actions=[keyboard])


@contextmanager
def running_firefox(profile: Path) -> Iterator[Firefox]:
    path = find_browser("firefox-esr", "firefox")
    profile.mkdir()
    (profile / "user.js").write_text(POINTER + LEAN)
    flags = ("--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", str(profile))
    with subprocess.Popen([path, *flags], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            told = next(filter(None, (re.search(r"ws://\S+", line) for line in process.stderr)))
            patience = START_PATIENCE / 1000
            with connect(f"{told[0]}/session", max_size=None, open_timeout=patience, ping_interval=None) as socket:
                firefox = Firefox(socket)
                firefox.do("session.new", capabilities={})
                yield firefox
        finally:
            process.kill()
