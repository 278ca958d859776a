"""The page in Firefox: what two people do first, and a server that goes away."""

from pathlib import Path

import pytest

from tests.e2e.firefox import FirefoxPerson, running_firefox
from tests.e2e.servers import Server
from tests.e2e.webdriver import CONTROL, ENTER, PHASE, SHIFT, TAB, UP, shows

pytestmark = pytest.mark.browser


def test_two_people_talk_in_firefox(server: Server, tmp_path: Path) -> None:
    with running_firefox(tmp_path / "profile") as firefox:
        ann, ben = (FirefoxPerson(firefox, server.url) for _ in range(2))
        for each in (ann, ben):
            each.wait_for(f"{PHASE} === 'live'")
        ann.press("hello ben", ENTER)
        ben.wait_for(shows("hello ben"))
        ann.wait_for("document.querySelector('#pending').hidden")
        ann.press(UP, ", again", ENTER)
        ben.wait_for(shows("hello ben, again"))
        # Firefox gave each item of a list the alignment of the list, also to a text from right to left.
        assert ben.find("getComputedStyle(document.querySelector('#messages .text p')).textAlign") == "start"
        ben.press(SHIFT + TAB, "+")
        ben.wait_for("document.querySelector('#reaction-picker:popover-open')")
        ben.press(ENTER)
        for each in (ann, ben):
            each.wait_for(shows("👍 1", ".chip"))
        ann.press(CONTROL + "k", "again")
        ann.wait_for("document.querySelector('#switcher mark')")
        ann.press(ENTER)
        ann.wait_for("document.querySelector('.message.found')")

        server.kill()
        for each in (ann, ben):
            each.wait_for(f"{PHASE} !== 'live'")
        ann.press("still here", ENTER)
        ann.wait_for(shows("still here", "#pending .text"))
        server.start()
        ben.wait_for(shows("still here"))
        ann.wait_for("document.querySelector('#pending').hidden")
