"""Users who sign in, out, and whose sign-in ends, in the page."""

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from tests.e2e.browser import LOOK_AWAY, wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server, serving
from tests.e2e.signed_in import banner, serving_tokens, sign_in
from tests.support.key_provider import provider
from tests.support.tokens import jwk, token

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For tests that use rooms and users of their own."""
    with serving_tokens(tmp_path_factory.mktemp("signed-in")) as running:
        yield running


def test_a_message_waits_for_the_user_who_wrote_it(server: Server, window: OpenWindow) -> None:
    """A sign-in ran out while a message was pending: after a reload it went out in the name of a guest."""
    ann, room = window(is_played=True), "ends"
    sign_in(ann, server, "eva")
    ann.open(server, room=room)
    expect(ann.page.locator("#me")).to_contain_text("Eva")
    ann.lose_connection()
    ann.say("by Eva")
    ann.page.context.clear_cookies()
    ann.find_connection()
    ann.page.reload()
    ann.expect_live("ws")
    expect(ann.page.locator("#me")).not_to_contain_text("Eva")
    ann.say("by a guest")
    expect(ann.texts).to_have_text(["by a guest"])
    expect(ann.pending).to_have_attribute("data-state", "held")
    expect(ann.page.locator("#pending .author")).to_have_text("Eva")
    expect(ann.page.locator("#pending .problem")).to_contain_text("until Eva signs in")
    sign_in(ann, server, "eva")
    ann.page.reload()
    ann.expect_texts(["by a guest", "by Eva"])
    assert [each["user"]["id"] == "eva" for each in server.messages(room)] == [False, True]


@pytest.mark.parametrize("what", ["sign-out", "sign-in", "lost"])
def test_a_message_that_a_sign_out_or_a_sign_in_overtakes(server: Server, window: OpenWindow, what: str) -> None:
    """Over HTTP it went out in the name of the user whom the browser had by then.

    If the answer was lost too, the message was stored as the new user's and taken for one of the user before.
    """
    ann, room, overtaken = window(is_played=True), f"overtaken-{what}", list[str]()
    if what == "sign-out":
        sign_in(ann, server, "ida")
    ann.open(server, transport="poll", room=room)
    ann.expect_live("poll")

    def overtake(route: Route) -> None:
        if route.request.method != "POST" or overtaken:
            return route.continue_()
        overtaken.append(route.request.url)
        if what == "sign-out":
            ann.page.context.clear_cookies()
        else:
            sign_in(ann, server, "ida")
        if what != "lost":
            return route.continue_()
        ann.page.request.post(route.request.url, data=route.request.post_data_json)
        return route.abort()

    ann.page.route(f"**/rooms/{room}/messages", overtake)
    ann.say("by Ida")
    if what == "sign-in":
        ann.expect_texts(["by Ida"])
        expect(ann.page.locator("#me")).to_contain_text("Ida")
    else:
        expect(ann.pending).to_have_attribute("data-state", "held")
        assert server.messages(room) == []
    assert overtaken


@pytest.mark.parametrize("is_reloaded", [False, True])
def test_a_message_of_a_guest_is_not_sent_again_as_another_user(
    server: Server, window: OpenWindow, *, is_reloaded: bool
) -> None:
    """It was, if the guest signed in before the acknowledgement came: a key belongs to one user.

    So it was after a sign-in on another page and a reload, which forgot who had sent it.
    """
    ann, room = window(is_played=True), f"once-{is_reloaded}".lower()

    def accept(route: WebSocketRoute) -> None:
        there = route.connect_to_server()
        there.on_message(lambda text: None if json.loads(text)["type"] in {"ack", "message"} else route.send(text))

    ann.accept = accept
    ann.open(server, room=room)
    ann.say("once")
    wait_until(ann.page, lambda: len(server.messages(room)) == 1)
    if is_reloaded:
        sign_in(ann, server, "una")
        ann.page.reload()
    else:
        ann.page.click("#me")
        ann.page.click("#account summary")
        ann.page.fill("#account-token", token(sub="una", name="Una"))
        ann.page.press("#account-token", "Enter")
    expect(ann.page.locator("#me")).to_contain_text("Una")
    expect(ann.pending).to_have_attribute("data-state", "held")
    ann.page.get_by_role("button", name="Discard").click()
    expect(ann.pending).to_have_count(0)
    assert [message["text"] for message in server.messages(room)] == ["once"]


def test_a_signed_in_user_has_the_name_of_the_token(server: Server, window: OpenWindow) -> None:
    """The name cannot be edited, since an edit would be ignored. A guest takes the draft along, and no other user.

    The guest stayed in the list of people for `--presence-grace`.
    """
    ann, name = window(), "Ann" + "e" * 37
    for room in ("named-desk", "named"):
        ann.open(server, room=room)
    ann.page.fill("#text", "a draft")
    ann.page.click("#me")
    fill_in = "(token) => { document.querySelector('#account-token').value = token; }"
    ann.page.evaluate(fill_in, token(sub="u_pam", name="Pam"))  # a password manager, in a field that is not in sight
    ann.page.fill("#account-name", "Nan")
    ann.page.press("#account-name", "Enter")
    expect(ann.page.locator("#me")).to_contain_text("Nan")
    ann.page.click("#me")
    expect(ann.page.get_by_label("Name")).to_be_visible()
    ann.page.click("#account summary")
    ann.page.fill("#account-token", token(sub="u_ann", name=name))
    ann.page.press("#account-token", "Enter")
    expect(ann.page.locator("#me")).to_contain_text(name)
    expect(ann.page.locator("#people .name")).to_have_text([name])
    for is_reloaded in (False, True):
        if is_reloaded:
            ann.page.reload()
        ann.expect_live()
        expect(ann.page.locator("#me")).to_have_attribute("title", f"You are {name}: sign in or out")
        expect(ann.page.locator("#text")).to_have_value("a draft")
        ann.page.click("#me")
        expect(ann.page.locator("#account-title")).to_have_text(f"You are {name}")
        assert ann.page.locator("#account-title").evaluate("title => title.scrollWidth <= title.clientWidth")
        expect(ann.page.get_by_label("Name")).to_be_hidden()
        expect(ann.page.get_by_role("button", name="Save")).to_be_hidden()
        ann.page.press("#account", "Escape")
    ann.page.click("#me")
    ann.page.click("#account summary")
    ann.page.press("#account-token", "Enter")
    expect(ann.page.locator("#account-problem")).to_contain_text("paste a token")
    ann.page.route("**/rooms", lambda route: route.fulfill(json={"rooms": []}))
    ann.page.fill("#account-token", token(sub="u_ben", name="Ben"))
    ann.page.press("#account-token", "Enter")
    expect(ann.page.locator("#me")).to_contain_text("Ben")
    expect(ann.page.locator("#rooms a")).to_have_count(2)
    expect(ann.page.locator("#text")).to_have_value("")
    ann.page.fill("#text", "another draft")
    ann.page.click("#me")
    ann.page.click("#account-out")
    ann.confirm("It ends your sign-in on all devices.")
    # The page is loaded again: before it knows the guest, a click has no effect.
    expect(ann.page.locator("#me")).to_have_attribute("title", re.compile("^You are .*: change name"))
    expect(ann.page.locator("#me")).not_to_contain_text("Ben")
    expect(ann.page.locator("#text")).to_have_value("")
    ann.page.click("#me")
    expect(ann.page.get_by_label("Name")).to_be_visible()


def test_a_sign_in_by_another_page_of_the_site_counts_in_all_tabs(server: Server, window: OpenWindow) -> None:
    """A tab of a guest had the connection of all tabs, so that all of them stayed that guest."""
    ann = window()
    ann.open(server, room="signs-in")
    sign_in(ann, server, "uma")
    other = ann.page.context.new_page()
    other.goto(f"{server.url}/#signs-in")
    for tab in (other, ann.page):
        expect(tab.locator("#me")).to_contain_text("Uma")


@pytest.mark.parametrize("transport", ["ws", "sse", "poll"])
def test_after_a_sign_out_elsewhere_the_user_may_go_on_as_a_guest(
    server: Server, window: OpenWindow, transport: str
) -> None:
    """Over HTTP the page went on in the name of a guest, who was told to nobody.

    Over long-poll the room that was followed last got no message any more. What was written meanwhile was refused over
    WebSocket, and waited for its user over HTTP. While the banner said something else, the reason was never shown.
    """
    ann, sub = window(), f"ida-{transport}"
    sign_in(ann, server, sub)
    ann.open(server, transport=transport, room=f"left-behind-{transport}")
    ann.go(f"left-open-{transport}")
    ann.say(f"by {sub}")
    ann.expect_texts([f"by {sub}"])
    ann.page.evaluate("location.hash = 'no room!'")
    expect(banner(ann)).to_contain_text("cannot be a room")
    signed_in = {"Authorization": f"Bearer {token(sub=sub, name='Ida')}"}
    urlopen(Request(f"{server.url}/session", method="DELETE", headers=signed_in)).close()
    expect(ann.page.locator("#banner")).to_contain_text("You are disconnected: signed out.")
    expect(ann.page.locator("#me")).to_contain_text("Ida")
    ann.say("meanwhile")
    expect(ann.pending).to_have_attribute("data-state", "held")
    ann.page.click("#reconnect")
    ann.expect_live(transport)
    expect(ann.page.locator("#banner")).to_be_hidden()
    expect(ann.page.locator("#me")).not_to_contain_text("Ida")
    server.publish(f"left-open-{transport}", "hello")
    expect(ann.texts.last).to_have_text("hello")
    expect(ann.pending).to_have_attribute("data-state", "held")


@pytest.mark.parametrize("transport", ["ws", "poll"])
def test_a_user_who_signs_in_again_is_connected_in_all_tabs(server: Server, window: OpenWindow, transport: str) -> None:
    """The other tabs stayed disconnected: the browser tells them of a changed user only, and this was the same one."""
    ann, sub = window(), f"ora-{transport}"
    sign_in(ann, server, sub)
    ann.open(server, transport=transport, room=f"again-{transport}")
    expect(ann.page.locator("#me")).to_contain_text("Ora")
    ann.page.evaluate("localStorage.removeItem('chat.me')")  # the other tab waits for the server to tell it
    other = ann.page.context.new_page()
    other.goto(ann.page.url)
    expect(other.locator("#me")).to_contain_text("Ora")
    signed_in = {"Authorization": f"Bearer {token(sub=sub)}"}
    urlopen(Request(f"{server.url}/session", method="DELETE", headers=signed_in)).close()
    for tab in (ann.page, other):
        expect(tab.locator("#banner")).to_contain_text("You are disconnected: signed out.")
    ann.page.click("#me")
    ann.page.click("#account-by-token summary")
    ann.page.fill("#account-token", token(sub=sub, name=sub.title(), iat=int(time.time()) + 2))
    ann.page.press("#account-token", "Enter")
    server.publish(f"again-{transport}", "hello")
    for tab in (ann.page, other):
        expect(tab.locator("#messages .text")).to_have_text(["hello"])
        expect(tab.locator("#banner")).to_be_hidden()


def test_a_page_that_is_shown_after_a_sign_out_elsewhere_waits_for_the_user(server: Server, window: OpenWindow) -> None:
    """It came back by itself, as a guest with another name, and had not been seen to be disconnected."""
    ann = window()
    sign_in(ann, server, "ela")
    ann.open(server, room="shown")
    urlopen(Request(f"{server.url}/session", method="DELETE", headers={"Authorization": f"Bearer {token(sub='ela')}"}))
    expect(banner(ann)).to_contain_text("You are disconnected: signed out.")
    with ann.page.expect_response("**/session"):
        ann.page.evaluate(LOOK_AWAY, False)
    expect(ann.page.locator("#connection-text")).to_have_text("disconnected")
    expect(banner(ann)).to_be_visible()
    bearer = {"Authorization": f"Bearer {token(sub='ela', name='Ela', iat=int(time.time()) + 2)}"}
    assert ann.page.request.post(f"{server.url}/session", headers=bearer, data={}).ok  # by another page of the site
    ann.page.evaluate(LOOK_AWAY, False)
    ann.expect_live()
    expect(banner(ann)).to_be_hidden()
    expect(ann.page.locator("#me")).to_contain_text("Ela")


def test_without_a_websocket_the_page_says_that_a_sign_in_has_expired(server: Server, window: OpenWindow) -> None:
    """It said `signed out`, which the user had not done."""
    ann = window(has_clock=True)
    sign_in(ann, server, "eda", seconds=600)
    ann.open(server, transport="sse", room="expired")
    ann.page.clock.fast_forward(601_000)
    ann.expect_live("sse")
    ann.page.context.clear_cookies()  # as the browser does with a cookie that has expired
    ann.page.clock.fast_forward(60_000)  # the stream is silent for too long, and a survey is due
    expect(banner(ann)).to_contain_text("You are disconnected: the sign-in has expired.")


def test_a_renewed_sign_in_goes_on_in_an_open_page(server: Server, window: OpenWindow) -> None:
    """Another page had renewed the cookie, and this one was disconnected at the end of the token it had begun with."""
    sockets: list[WebSocketRoute] = []

    def accept(route: WebSocketRoute) -> None:
        sockets.append(route)
        route.connect_to_server()

    def wait_for_sockets(number: int) -> None:
        wait_until(ann.page, lambda: len(sockets) == number)

    ann, seconds = window(is_played=True), itertools.count(600, 600)
    ann.accept = accept
    sign_in(ann, server, "una", seconds=next(seconds))
    ann.open(server, room="renewed")
    # As the server does: the session of the socket is what it was when the socket was opened.
    ends: dict[str, Callable[[], None]] = {
        "sign-in is about to end": lambda: sockets[-1].send('{"type": "expiring", "seconds": 30}'),
        "disconnected: expired": lambda: sockets[-1].close(code=4503, reason="expired"),
    }
    for told, end in ends.items():
        for _ in range(2):
            opened = len(sockets)
            sign_in(ann, server, "una", seconds=next(seconds))
            end()
            wait_for_sockets(opened + 1)
            ann.expect_live("ws")
        expect(banner(ann)).to_be_hidden()
        ann.say("still Una")
        expect(ann.texts.last).to_have_text("still Una")
        opened = len(sockets)
        end()  # not renewed
        expect(banner(ann)).to_contain_text(told)
        assert len(sockets) == opened
    assert [each["user"]["id"] for each in server.messages("renewed")] == ["una"] * 2


@pytest.mark.parametrize("transport", ["ws", "poll"])
def test_a_user_stays_signed_in_when_the_provider_is_away_at_a_restart(
    tmp_path: Path, window: OpenWindow, transport: str
) -> None:
    """Until the keys were fetched, the user counted as a guest, whose cookie replaced the sign-in for good."""
    with provider() as keys, serving(tmp_path, flags=["--token-jwks", keys.url]) as server:
        keys.publish(jwk("ES256", kid="one"))
        server.read_keys_again()
        bearer = {"Authorization": f"Bearer {token('ES256', kid='one')}"}
        ann = window()
        wait_until(ann.page, lambda: ann.page.request.post(f"{server.url}/session", headers=bearer, data={}).ok)
        ann.open(server, transport=transport)
        expect(ann.page.locator("#me")).to_contain_text("Ann")
        keys.status, asked = 503, keys.asked
        server.stop()
        server.start()
        wait_until(ann.page, lambda: keys.asked > asked)
        page = ann.page
        with page.expect_websocket() if transport == "ws" else page.expect_response(lambda each: each.status == 401):
            ann.expect_away()
        keys.status = 200
        server.read_keys_again()
        ann.expect_live(transport)
        expect(ann.page.locator("#me")).to_contain_text("Ann")


def test_a_guest_with_the_name_of_a_user_is_marked_as_a_guest(server: Server, window: OpenWindow) -> None:
    """Anybody may choose a name; the page said nowhere which of two Zoes had signed in."""
    zoe, other = window(), window(is_played=True)
    sign_in(zoe, server, "zoe")
    other.page.request.post(f"{server.url}/session", data={"name": "Zoe"})
    for each in (zoe, other):
        each.open(server, room="two-zoes")
        each.say("it is me")
    heads = other.page.locator(".message .head")
    expect(heads.nth(0).locator(".author")).to_have_text("Zoe")
    expect(heads.locator(".guest:visible")).to_have_count(1)
    expect(heads.nth(1).locator(".guest")).to_be_visible()
    expect(other.page.locator("#people li").filter(has_text="guest")).to_have_count(1)


def test_guests_are_marked_for_a_user_whom_a_proxy_signs_in(tmp_path: Path, window: OpenWindow) -> None:
    """Guests are visible as such where tokens are taken, and these pages took none. Among guests nobody is marked."""
    with serving(tmp_path, flags=["--user-header", "X-User", "--trusted-proxy", "127.0.0.1"]) as server:
        guest, zoe = window(), window(is_played=True)
        guest.open(server, transport="poll", room="two-zoes")
        guest.page.request.post(f"{server.url}/session", data={"name": "zoe"})
        guest.say("it is me")
        zoe.page.set_extra_http_headers({"X-User": "zoe"})
        zoe.open(server, transport="poll", room="two-zoes")
        zoe.say("no, it is me")
        zoe.expect_texts(["it is me", "no, it is me"])
        expect(zoe.page.locator(".message .guest:visible")).to_have_count(1)
        guest.expect_texts(["it is me", "no, it is me"])
        expect(guest.page.locator(".message .guest:visible")).to_have_count(0)
