"""WebKit over WebDriver (https://www.w3.org/TR/webdriver2/), since Playwright drives only builds of its own.

Owns: a display without a screen, the driver, and the one window of its browser. May not: know the chat.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any

from tests.e2e.browser import LOOK, START_PATIENCE, find_browser
from tests.e2e.webdriver import Person
from tests.support.ports import steady_port


class WebKitPerson(Person):
    """The window of a new browser, with cookies of its own."""

    def __init__(self, driver: HTTPConnection) -> None:
        self._driver = driver
        self._session = ""
        self._session = "/" + self._do("POST", "", capabilities={})["sessionId"]

    def _do(self, method: str, command: str, **parameters: Any) -> Any:
        """Send a command, and return its result."""
        self._driver.request(method, f"/session{self._session}{command}", json.dumps(parameters))
        answer = self._driver.getresponse()
        value = json.load(answer)["value"]
        assert answer.status == HTTPStatus.OK, (command, value)
        return value

    def open(self, url: str) -> None:
        self._do("POST", "/url", url=url)

    def back(self) -> None:
        self._do("POST", "/back")

    def find(self, expression: str) -> Any:
        return self._do("POST", "/execute/sync", script=f"return {expression}", args=[])

    def perform(self, keyboard: dict[str, Any]) -> None:
        self._do("POST", "/actions", actions=[keyboard])


@contextmanager
def _running(*command: str, environment: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[str]]:
    """A process, which is killed at the end together with those that it has started."""
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):  # it has ended, and so have they
                os.killpg(process.pid, signal.SIGKILL)


def _wait_until_open(driver: subprocess.Popen[str], port: int) -> None:
    until = time.monotonic() + START_PATIENCE / 1000
    while driver.poll() is None and time.monotonic() < until:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(LOOK / 1000)
    raise AssertionError("the driver does not listen")


@contextmanager
def running_webkit() -> Iterator[WebKitPerson]:
    path, server, port = find_browser("WebKitWebDriver"), find_browser("Xvfb"), steady_port()
    with _running(server, "-displayfd", "1", "-screen", "0", "1100x800x24", "-nolisten", "tcp") as display:
        assert display.stdout is not None
        # Where dbus-launch is installed, the browser would start a session bus with services that outlive it.
        screen = {"DISPLAY": f":{display.stdout.readline().strip()}", "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
        # Named `local`, it wants to listen on ::1 too, which many containers do not have.
        with _running(path, "--host=127.0.0.1", f"--port={port}", environment=screen) as driver:
            _wait_until_open(driver, port)
            with closing(HTTPConnection("127.0.0.1", port, timeout=START_PATIENCE / 1000)) as line:
                yield WebKitPerson(line)
