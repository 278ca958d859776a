"""The page in WebKit: what a person does first, the Back button, and a server that goes away."""

import pytest

from tests.e2e.servers import Server
from tests.e2e.webdriver import CONTROL, ENTER, ESCAPE, PHASE, SHIFT, TAB, UP, shows
from tests.e2e.webkit import running_webkit

pytestmark = pytest.mark.browser

OPACITY = "getComputedStyle(document.querySelector('#actions')).opacity"
SHOWS_LOBBY = """(navigator.locks.query().then(({ held }) => {
    window.isHeld = held.some(({ name }) => name === 'chat.shown.lobby');
}), window.isHeld)"""
SELECTED = "getSelection().selectAllChildren(document.querySelector('#messages')) ?? getSelection().toString()"


def test_a_person_talks_in_webkit(server: Server) -> None:
    server.publish("lobby", "hello ann")
    with running_webkit() as ann:
        ann.open(server.url)
        ann.wait_for(f"{PHASE} === 'live'")
        ann.wait_for(shows("hello ann"))
        ann.press("hello all", ENTER)
        ann.wait_for(shows("hello all"))
        ann.wait_for("document.querySelector('#pending').hidden")
        ann.press(UP, ", again", ENTER)
        ann.wait_for(shows("hello all, again"))
        ann.press(SHIFT + TAB, "+")
        ann.wait_for("document.querySelector('#reaction-picker:popover-open')")
        ann.press(ENTER)
        ann.wait_for(shows("👍 1", ".chip"))
        # It stayed, over other messages: WebKit did not see that a selector with `:not(:has())` fits now.
        ann.wait_for(f"{OPACITY} === '1'")
        ann.press(ESCAPE)
        ann.wait_for(f"{OPACITY} === '0'")
        ann.press(CONTROL + "k", "again")
        ann.wait_for("document.querySelector('#switcher mark')")
        ann.press(ENTER)
        ann.wait_for("document.querySelector('.message.found')")
        # WebKit knows `user-select` by its old name alone: the initials of the authors were copied too.
        initials = ann.find("document.querySelector('#messages .avatar').textContent")
        assert initials not in ann.find(SELECTED).split()

        # WebKit keeps the page, and takes its locks away: the connection's, and that of the room that it shows.
        ann.open("about:blank")
        server.publish("lobby", "meanwhile")
        ann.back()
        ann.wait_for(f"{PHASE} === 'live'")
        ann.wait_for(shows("meanwhile"))
        ann.wait_for(SHOWS_LOBBY)  # else another tab may leave this room for a newer one

        server.kill()
        ann.wait_for(f"{PHASE} !== 'live'")
        ann.press("still here", ENTER)
        ann.wait_for(shows("still here", "#pending .text"))
        server.start()
        ann.wait_for(shows("still here"))
        ann.wait_for("document.querySelector('#pending').hidden")
