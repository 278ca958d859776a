"""Rooms in which the user may read and not write: the page knows it before anything is written."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.e2e.browser import Window
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server, serving
from tests.e2e.signed_in import banner, sign_in
from tests.support.tokens import secret_file, token

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with tokens, and rooms where only moderators or signed-in users may write, or only the latter read."""
    folder = tmp_path_factory.mktemp("read-only")
    policies = {"news-*": ("write", "moderators"), "staff-*": ("write", "signed-in"), "vault": ("read", "signed-in")}
    lines = [f'rooms."{rooms}".{action} = "{who}"\n' for rooms, (action, who) in policies.items()]
    (folder / "rooms.toml").write_text("".join(lines))
    with serving(folder, flags=["--token-key", secret_file(folder), "--config", str(folder / "rooms.toml")]) as running:
        yield running


def field(person: Window) -> Locator:
    return person.page.locator("#text")


def expect_read_only(person: Window, why: str) -> None:
    expect(person.page.locator("#read-only")).to_contain_text(why)
    for hidden in (field(person), person.page.locator("#send")):
        expect(hidden).to_be_hidden()


def test_a_room_that_takes_no_messages_says_so(server: Server, window: OpenWindow) -> None:
    """It was found out by writing: each message stayed below the others, refused."""
    ann, room = window(), "news-today"
    sign_in(ann, server, "mo", role="moderator")
    news = f"{server.url}/rooms/{room}/messages"
    assert ann.page.request.post(news, data={"text": "the news of today"}).ok
    sign_in(ann, server, "ann")
    ann.open(server, room=room)
    expect_read_only(ann, f"you may not write in {room}.")
    ann.texts.first.hover()
    toolbar = ann.page.get_by_role("toolbar", name="Message")
    expect(toolbar.get_by_role("button")).to_have_count(2)  # to copy the text and the link
    ann.go("garden")
    expect(field(ann)).to_be_focused()
    ann.say("free here")
    ann.go(room)
    expect_read_only(ann, f"you may not write in {room}.")
    expect(ann.page.locator("#scroller")).to_be_focused()  # its keys scroll
    sign_in(ann, server, "ann", role="moderator")
    ann.page.reload()
    ann.say("more news")
    ann.expect_texts(["the news of today", "more news"])
    expect(field(ann)).to_be_visible()


def test_where_a_proxy_signs_users_in_the_page_offers_no_dialog_for_it(server: Server, window: OpenWindow) -> None:
    """It asked for a token that the server would refuse."""
    ann = window()
    ann.page.route("**/session", lambda route: route.fulfill(json={**route.fetch().json(), "tokens": False}))
    ann.open(server, transport="poll", room="staff-tea")
    expect_read_only(ann, "sign in to write in staff-tea.")
    expect(ann.page.get_by_role("button", name="Sign in", exact=True)).to_be_hidden()


def test_a_guest_signs_in_to_write(server: Server, window: OpenWindow) -> None:
    ann = window()
    ann.page.goto(f"{server.url}/#vault")
    expect(ann.page.locator("#account-problem")).to_have_text("Sign in to enter #vault.")
    ann.page.keyboard.press("Escape")
    ann.open(server, room="staff-tea")
    expect_read_only(ann, "sign in to write in staff-tea.")
    ann.page.get_by_role("button", name="Sign in", exact=True).click()
    expect(ann.page.locator("#account-problem")).to_have_text("Sign in to write in #staff-tea.")
    expect(ann.page.locator("#account")).to_have_accessible_name("Who are you? Sign in to write in #staff-tea.")
    ann.page.keyboard.type(token(sub="ina", name="Ina"))
    ann.page.keyboard.press("Enter")
    expect(field(ann)).to_be_focused()  # the button that opened the dialog is gone
    ann.say("by Ina")
    ann.expect_texts(["by Ina"])
    expect(field(ann)).to_have_attribute("placeholder", "Message #staff-tea")  # she has chosen to be Ina


def test_a_guest_signs_in_to_enter(server: Server, window: OpenWindow) -> None:
    """The banner went on telling that the room did not open."""
    ann = window()
    ann.page.goto(f"{server.url}/#vault")
    expect(ann.page.locator("#account-problem")).to_have_text("Sign in to enter #vault.")
    expect(banner(ann)).to_contain_text("#vault did not open")
    ann.page.keyboard.type(token(sub="ina", name="Ina"))
    ann.page.keyboard.press("Enter")
    ann.expect_live()
    expect(banner(ann)).to_be_hidden()


@pytest.mark.parametrize("transport", ["ws", "poll"])
def test_a_mute_takes_the_field_away_and_keeps_the_draft(server: Server, window: OpenWindow, transport: str) -> None:
    """Over long-poll nobody is told of a mute; the first refused message is."""
    ann, room, user = window(is_played=True), f"loud-{transport}", f"eve-{transport}"
    sign_in(ann, server, user)
    with ann.page.expect_response(f"**/rooms/{room}"):  # the page asks once what the user may do here
        ann.open(server, transport=transport, room=room)
    ann.say("buy pills")
    ann.expect_texts(["buy pills"])
    field(ann).fill("more pi")
    sanctions = f"{server.url}/rooms/{room}/sanctions"
    moderator = {"Authorization": f"Bearer {token(sub='mo', chat={'role': 'moderator'})}"}
    mute = {"kind": "mute", "user": user, "seconds": 600}
    muted = ann.page.request.post(sanctions, headers=moderator, data=mute)
    assert muted.ok
    if transport == "poll":
        ann.act("buy pills", "Edit")
        ann.say("buy more pills")
        expect(ann.page.locator("#toast")).to_contain_text(f"Not changed: you may not write in {room}")
        ann.say("more pills")
        expect(ann.page.locator("#pending .problem")).to_contain_text([f"ou may not write in {room} for another"] * 2)
    expect_read_only(ann, f"you may not write in {room} for another 10 minutes.")
    if transport == "poll":
        ann.page.reload()
        expect_read_only(ann, f"you may not write in {room} for another 10 minutes.")
    expect(ann.page.locator("#banner")).to_be_hidden()  # it once said the same
    assert ann.page.request.delete(f"{sanctions}/{muted.json()['id']}", headers=moderator).ok
    if transport == "ws":
        expect(field(ann)).to_be_hidden()
        ann.lose_connection()
        ann.find_connection()
        expect(field(ann)).to_have_value("more pi")
    else:
        ann.page.reload()
        expect(field(ann)).to_be_visible()
        for _ in range(2):
            ann.page.get_by_role("button", name="Send again").first.click()
        ann.expect_texts(["buy more pills edited", "more pills"])
