"""Users with tokens in the browser tests, and a server that takes these.

May not: assert anything about the chat.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator

from tests.e2e.browser import Window
from tests.e2e.servers import Server, serving
from tests.support.tokens import secret_file, token


@contextmanager
def serving_tokens(folder: Path, *, log: str = "") -> Iterator[Server]:
    with serving(folder, log=log, flags=["--token-key", secret_file(folder), "--presence-grace", "300"]) as running:
        yield running


def sign_in(person: Window, server: Server, sub: str, *, seconds: int = 3600, **chat: Any) -> None:
    """Sign in by a cookie."""
    said = token(sub=sub, name=sub.title(), exp=int(time.time()) + seconds, chat=chat or None)
    bearer = {"Authorization": f"Bearer {said}"}
    assert person.page.request.post(f"{server.url}/session", headers=bearer, data={}).ok


def banner(person: Window) -> Locator:
    return person.page.locator("#banner")
