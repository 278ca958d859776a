"""Reused windows: no state of one test is left for the next."""

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Server, Windows

pytestmark = pytest.mark.browser


def test_a_reused_window_has_no_state(shared_server: Server, windows: Windows) -> None:
    ann = windows.take()
    ann.open(shared_server, room="before")
    ann.say("hello")
    ann.expect_texts(["hello"])
    ann.page.fill("#text", "half a")
    ann.page.evaluate("location.hash = 'and-after'; localStorage.more = sessionStorage.more = 1")
    ann.page.context.new_page()
    ann.offline(True)
    ann.page.route("**", lambda route: route.abort())
    assert ann.page.context.cookies()
    windows.give_back(ann)
    ben = windows.take(width=900)
    assert ben is ann
    assert ben.page.context.cookies() == []
    assert ben.page.context.pages == [ben.page]
    found = "[localStorage.length, sessionStorage.length, history.length, innerWidth]"
    assert ben.page.evaluate(found) == [0, 0, 1, 900]
    ben.open(shared_server, room="before")
    expect(ben.page.locator("#messages .own")).to_have_count(0)
    ben.expect_texts(["hello"])
    windows.give_back(ben)
