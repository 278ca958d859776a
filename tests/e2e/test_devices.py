"""A user who has signed in on two devices."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect
from websockets.sync.client import connect

from tests.e2e.browser import wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server, serving
from tests.e2e.signed_in import sign_in
from tests.support.tokens import secret_file

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("devices")
    with serving(folder, flags=["--token-key", secret_file(folder), "--publish-rate", "0"]) as running:
        yield running


def test_a_new_browser_has_the_rooms_of_the_user_and_knows_what_is_unread(server: Server, window: OpenWindow) -> None:
    """It had the lobby, and all in the room that it opened counted as read, on all devices. The open room was below the
    edge of the list that then came. A room of which it had no message yet was a blank page without a connection.
    """
    desk, phone = window(), window(height=480, is_played=True)
    for each in (desk, phone):
        sign_in(each, server, "ann")
    for room in ("plans", "cake"):
        server.publish(room, "old")
        desk.open(server, room=room)
        desk.expect_texts(["old"])
    for room in ("a", "b", "c", "d", "e"):
        server.publish(room, "old")
        assert desk.page.request.put(f"{server.url}/rooms/{room}/read", data={"offset": 1}).ok
    unread = f"{server.url}/unread"
    wait_until(desk.page, lambda: {"plans", "cake"} <= desk.page.request.get(unread).json()["rooms"].keys())
    desk.page.goto("about:blank")
    for room in ("plans", "cake"):
        server.publish(room, *(f"news {number}" for number in range(40)))
    phone.open(server, room="plans")
    expect(phone.page.locator("li", has=phone.page.locator(".divider"))).to_contain_text("news 0")
    for room in ("plans", "cake"):
        expect(phone.page.locator(f"#rooms a[href='#{room}'] .badge")).to_have_text("40 unread")
    expect(phone.page.locator("#rooms [aria-current]")).to_be_in_viewport(ratio=1)
    expect(phone.page.locator("#rooms a[href='#a']")).to_have_text("a1 person here")  # it is followed, from its end on
    phone.lose_connection()
    phone.go("a")
    expect(phone.page.get_by_text("Fetching messages…")).to_be_visible()
    phone.find_connection()
    phone.expect_texts(["old"])


def test_on_another_device_the_edits_of_a_message_are_one_unread_message(server: Server, window: OpenWindow) -> None:
    """Each record that was not loaded counted as one."""
    phone = window()
    sign_in(phone, server, "bea")
    server.publish("drafts", "old")
    assert phone.page.request.put(f"{server.url}/rooms/drafts/read", data={"offset": 1}).ok
    with connect(f"ws{server.url.removeprefix('http')}/ws") as bot:
        bot.send('{"type": "publish", "id": 0, "room": "drafts", "text": "a draft"}')
        for number in range(1, 81):
            bot.send(f'{{"type": "edit", "id": {number}, "room": "drafts", "offset": 2, "text": "draft {number}"}}')
        next(answer for answer in map(json.loads, bot) if answer.get("id") == 80)
    phone.open(server)
    expect(phone.page.locator("#rooms a[href='#drafts'] .badge")).to_have_text("1 unread")
    expect(phone.page).to_have_title("(1) #lobby · chat")


def test_of_too_many_rooms_a_new_browser_has_those_with_mentions_and_finds_the_others(
    tmp_path: Path, window: OpenWindow
) -> None:
    """It had those read last. Of two thousand rooms with forty mentions it showed no mention.

    A room of which the user knew a few letters was not found, if two hundred others had been written to since.
    """
    read = {"read": 1, "unread": 0, "mentions": 0}
    marked = {
        "new": read,
        "old": read,
        "older": read,
        "called": read | {"unread": 1, "mentions": 1},
    }  # as the server sorts
    with serving(tmp_path, flags=["--max-rooms-per-connection", "4"]) as server:
        server.publish("called", "hello", "@you")
        ann = window()
        for path, answer in (("rooms", []), ("unread", marked)):
            ann.page.route(f"**/{path}", partial(Route.fulfill, json={"rooms": answer}))
        ann.open(server)
        expect(ann.page.locator("#rooms .name")).to_have_text(["called", "lobby", "new"])
        expect(ann.page.locator("#rooms .mentioned")).to_have_count(1)
        ann.search("older")
        expect(ann.page.locator("#switcher-list b")).to_have_text(["#older"])
