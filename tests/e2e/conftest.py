"""Fixtures of the browser tests: one Chromium and its windows for all, a server for each."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.e2e.browser import HEIGHT, WIDTH, Window, running_chromium
from tests.e2e.servers import Server, serving
from tests.e2e.windows import Windows

#: Tests that visit one page: a reload joins all their rooms, and takes half as much again with forty of them.
MOST_VISITS = 20
OpenWindow = Callable[..., Window]
Run = Callable[..., Any]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with running_chromium() as chromium:
        yield chromium


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as running:
        yield running


@pytest.fixture(scope="package")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that use rooms of their own and do not stop it."""
    flags = ["--publish-rate", "0", "--max-empty-rooms", "100"]  # windows that stay open are in the rooms of many tests
    with serving(tmp_path_factory.mktemp("shared"), flags=flags) as running:
        yield running


@pytest.fixture(scope="module")
def run(browser: Browser, shared_server: Server) -> Iterator[Run]:
    """Run the body of a function with the exports of a module of the page as `m`, and an argument as `a`."""
    with _running(browser, shared_server) as run:
        yield run


@pytest.fixture
def run_alone(browser: Browser, shared_server: Server) -> Iterator[Run]:
    """The same in a browser of its own, without modules and locks of other tests."""
    with _running(browser, shared_server) as run:
        yield run


@contextmanager
def _running(browser: Browser, server: Server) -> Iterator[Run]:
    page = browser.new_page()
    page.goto(f"{server.url}/healthz")
    yield lambda module, body, argument=None: page.evaluate(
        f"async (a) => {{ const m = await import('/{module}'); {body} }}", argument
    )
    page.close()


@pytest.fixture(scope="package")
def windows(browser: Browser) -> Windows:
    return Windows(browser)


@pytest.fixture
def window(windows: Windows, request: pytest.FixtureRequest) -> Iterator[OpenWindow]:
    """Open windows, in a room of the shared server if one is given. Errors in their consoles fail the test.

    `first` is a script that runs before those of each page.
    """
    opened: list[Window] = []

    def open_one(*, room: str = "", transport: str | None = None, first: str = "", **options: Any) -> Window:
        opened.append(fresh := windows.take(**options))
        if first:
            fresh.run_first(first)
        if room:
            fresh.open(request.getfixturevalue("shared_server"), transport=transport, room=room)
        return fresh

    yield open_one
    complaints = [each.complaints for each in opened]
    for each in opened:
        windows.give_back(each)
    assert complaints == [[] for _ in opened]


@pytest.fixture(scope="package")
def _open_windows(windows: Windows) -> Iterator[dict[str, list[Window]]]:
    """By their options, without the size."""
    kept: defaultdict[str, list[Window]] = defaultdict(list)
    yield kept
    for each in chain.from_iterable(kept.values()):
        windows.give_back(each)


@pytest.fixture
def visit(
    windows: Windows, shared_server: Server, _open_windows: dict[str, list[Window]], request: pytest.FixtureRequest
) -> Iterator[OpenWindow]:
    """Like `window`, in a page that an earlier test left open: to go to a room is a fifth of the work.

    For a test that needs nothing but a room of its own. The user, the list of rooms and the unread counts are those of
    earlier tests; after a failure they are new. A test ends with a page that is connected and has nothing to send.
    """
    visitors: list[tuple[str, Window]] = []
    failures = request.session.testsfailed

    def visit_one(*, room: str, width: int = WIDTH, height: int = HEIGHT, **options: Any) -> Window:
        kind = repr(sorted(options.items()))
        if _open_windows[kind]:
            visitor = _open_windows[kind].pop()
            visitor.tidy_up()
            visitor.page.set_viewport_size({"width": width, "height": height})
            visitor.go(room)
        else:
            visitor = windows.take(width=width, height=height, **options)
            visitor.open(shared_server, room=room)
        visitor.visits += 1
        visitors.append((kind, visitor))
        return visitor

    yield visit_one
    complaints = [each.complaints for _, each in visitors]
    for kind, each in visitors:
        if any(complaints) or request.session.testsfailed > failures or each.visits == MOST_VISITS:
            windows.give_back(each)
        else:
            _open_windows[kind].append(each)
    assert complaints == [[] for _ in visitors]
