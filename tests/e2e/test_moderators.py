"""A moderator in the page, and the users concerned."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from tests.e2e.browser import HEIGHT, ONLINE, WIDTH, Window, wait_until
from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server
from tests.e2e.signed_in import banner, serving_tokens, sign_in
from tests.support.tokens import token

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For tests that use rooms and users of their own."""
    with serving_tokens(tmp_path_factory.mktemp("moderated")) as running:
        yield running


def moderate(moderator: Window, name: str, action: str, *, reason: str = "") -> None:
    """Press a button in the menu of a person, and confirm."""
    moderator.page.get_by_role("button", name=f"Moderate {name}").click()
    moderator.page.locator("#person-menu").get_by_role("button", name=action).click()
    if reason:
        moderator.page.fill("#question-reason", reason)
        moderator.page.keyboard.press("Enter")
    else:
        moderator.confirm(f"{name} in #")


def mo_and_ann(server: Server, window: OpenWindow, room: str) -> tuple[Window, Window]:
    """A moderator and a user, both in the room."""
    mo, ann = window(), window()
    sign_in(mo, server, "mo", role="moderator")
    sign_in(ann, server, "ann")
    for each in (mo, ann):
        each.open(server, room=room)
    return mo, ann


def come_back(person: Window) -> None:
    banner(person).get_by_role("button", name="Come back").click()


def test_a_moderator_deletes_mutes_kicks_and_bans(server: Server, window: OpenWindow) -> None:
    mo, ann = mo_and_ann(server, window, "bar")
    mo.page.get_by_role("button", name="Moderate Ann").click()
    mo.page.get_by_role("button", name="Delete messages").click()
    expect(mo.page.locator("#toast")).to_have_text("No message of this user is loaded here.")
    mo.page.keyboard.press("Escape")
    ann.say("buy pills")
    mo.expect_texts(["buy pills"])
    expect(ann.page.get_by_role("button", name="Moderate Mo")).to_have_count(0)
    mo.delete("pills")
    ann.expect_texts(["This message was deleted."])

    ann.say("a word")
    mo.expect_texts(["This message was deleted.", "a word"])
    moderate(mo, "Ann", "Mute for 10 minutes", reason="that was an advertisement")
    expect(mo.page.locator("#toast")).to_have_text("Ann may not write for 10 minutes.")
    said = ann.page.locator("#read-only")
    expect(said).to_contain_text("you may not write in bar for another 10 minutes: that was an advertisement.")
    expect(ann.page.locator("#text")).to_be_hidden()
    moderate(mo, "Ann", "Lift the mute")
    expect(mo.page.locator("#toast")).to_have_text("Ann may write again.")
    ann.page.reload()
    ann.say("another word")
    for each in (mo, ann):
        each.expect_texts(["This message was deleted.", "a word", "another word"])

    moderate(mo, "Ann", "Kick out", reason="again")
    expect(banner(ann)).to_contain_text("You are out of #bar: a moderator has taken you out of this room: again;")
    expect(mo.page.locator("#people li")).to_have_count(1)
    expect(ann.page.locator("#people li")).to_have_count(0)
    expect(ann.page.locator("#rooms a[href='#bar'] .count")).to_have_text("out")
    mo.say("while she is out")
    come_back(ann)
    expect(banner(ann)).to_be_hidden()
    expect(ann.texts.last).to_have_text("while she is out")
    expect(mo.page.locator("#people li")).to_have_count(2)

    moderate(mo, "Ann", "Ban for 1 hour")
    expect(banner(ann)).to_contain_text("You are out of #bar: you are banned in bar for another 60 minutes.")
    come_back(ann)
    ann.say("let me in")
    expect(ann.page.locator("#pending .problem")).to_contain_text("you are banned in bar")
    expect(banner(ann)).to_contain_text("You are out of #bar: you are banned")
    ann.open(server, room="garden")  # all other rooms are unchanged
    ann.say("quiet here")
    ann.expect_texts(["quiet here"])


def test_a_menu_loses_no_press_and_is_closed_when_the_room_changes(server: Server, window: OpenWindow) -> None:
    """It drew its buttons anew when it was told what is in force, and one that is replaced before the release of the
    mouse gets no click. That of a person in one room deleted this person's messages in the next one, and said that it
    was the first.
    """
    mo, ann = mo_and_ann(server, window, "wing-a")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    mo.page.route("**/sanctions?*", hold)
    mo.page.get_by_role("button", name="Moderate Ann").click()
    wait_until(mo.page, lambda: len(held) == len(("wing-a", "*")))
    mo.page.get_by_role("button", name="Kick out").hover()
    mo.page.mouse.down()
    for route in held:
        route.continue_()
    mo.page.wait_for_timeout(150)
    mo.page.mouse.up()
    expect(mo.page.locator("#question-text")).to_contain_text("kick out")
    mo.page.keyboard.press("Escape")
    mo.page.unroute_all()
    mo.go("wing-b")
    menu = mo.page.locator("#room-menu")
    mo.page.click("#room-menu-button")
    expect(menu).to_be_visible()
    mo.page.press("#notify", "Alt+ArrowDown")  # opens its list, as everywhere
    expect(mo.page.locator("#room-title")).to_have_text("wing-b")
    mo.page.focus("#leave")
    mo.page.keyboard.press("Alt+ArrowDown")
    expect(menu).to_be_hidden()
    expect(mo.page.locator("#text")).to_be_focused()
    mo.go("wing-a")
    ann.say("a word")
    mo.expect_texts(["a word"])
    mo.page.set_viewport_size({"width": 390, "height": HEIGHT})
    mo.page.click("#show-people")
    moderate = mo.page.get_by_role("button", name="Moderate Ann")
    moderate.press("Enter")
    expect(mo.page.locator("#person-menu")).to_be_visible()
    mo.page.keyboard.press("Escape")  # closed the drawer behind it as well, and the focus was lost
    expect(mo.page.locator("#person-menu")).to_be_hidden()
    expect(mo.page.locator("#shade.open")).to_have_count(1)
    expect(moderate).to_be_focused()
    mo.page.keyboard.press("Escape")
    expect(moderate).to_be_hidden()
    mo.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    mo.act("a word", "Moderate the author")
    expect(mo.page.locator("#person-menu")).to_be_visible()
    mo.page.keyboard.press("Alt+ArrowDown")
    expect(mo.page.locator("#person-menu")).to_be_hidden()
    mo.page.go_back()
    mo.act("a word", "Delete")
    mo.page.go_back()
    expect(mo.page.locator("#question")).to_be_hidden()


def test_no_menu_or_deletion_is_about_a_message_of_a_new_log(window: OpenWindow, tmp_path: Path) -> None:
    """It reacted to, or deleted, the message that has the old one's number in the new log."""
    asked: list[str] = []

    def hold_first(route: WebSocketRoute) -> None:
        passed = route.connect_to_server()

        def hear(frame: str | bytes) -> None:
            if '"delete"' in str(frame) and not asked:
                asked.append(str(frame))
            else:
                passed.send(frame)

        route.on_message(hear)

    with serving_tokens(tmp_path, log="memory:") as server:
        mo = window(is_played=True)

        def begin_anew(*texts: str) -> None:
            server.kill()
            server.start()
            server.publish("anew", *texts)
            mo.page.evaluate(ONLINE)  # it need not wait until it tries again
            mo.expect_texts(texts)

        sign_in(mo, server, "mo", role="moderator")
        server.publish("anew", "one", "two")
        mo.accept = hold_first
        mo.open(server, room="anew")
        mo.act("two", "React")
        expect(mo.page.locator("#reaction-picker")).to_be_visible()
        begin_anew("spam", "more spam")
        expect(mo.page.locator("#reaction-picker")).to_be_hidden()

        mo.act("more spam", "Moderate the author")
        mo.page.get_by_role("button", name="Delete messages").click()
        mo.confirm("delete the 2 latest messages")
        wait_until(mo.page, lambda: asked)
        begin_anew("good", "news")
        expect(mo.page.locator("#toast")).to_have_text("Not all were deleted: the server began a new log")
        assert [each["text"] for each in server.messages("anew")] == ["good", "news"]


def test_a_moderator_deals_with_a_troll_who_has_left(server: Server, window: OpenWindow) -> None:
    """Only those in the room had the menu, it was about one room, and each message had to be deleted by itself."""
    mo = window()
    sign_in(mo, server, "mo", role="moderator")
    troll = {"Authorization": f"Bearer {token(sub='u_tom', name='Tom')}"}

    def post(text: str) -> bool:
        return mo.page.request.post(f"{server.url}/rooms/raided/messages", headers=troll, data={"text": text}).ok

    by_mo = {"Authorization": f"Bearer {token(sub='mo', chat={'role': 'moderator'})}"}

    def sanction(room: str, **what: str) -> None:
        assert mo.page.request.post(f"{server.url}/rooms/{room}/sanctions", headers=by_mo, data=what).ok

    for number in range(45):  # more than the server lets a user delete at once, or write
        wait_until(mo.page, partial(post, f"spam {number}"))
    mo.open(server, room="raided")
    mo.say("what is this")
    expect(mo.page.locator("#people li")).to_have_count(1)
    mo.act("what is this", "Copy text")
    assert "Moderate the author" not in mo.page.get_by_role("toolbar", name="Message").inner_text()
    mo.act("spam 44", "Moderate the author")
    expect(mo.page.get_by_role("dialog", name="Tom in #raided")).to_be_visible()  # else axe misses a landmark
    mo.page.get_by_role("button", name="Delete messages").click()
    expect(mo.page.locator("#question")).to_be_visible()
    mo.page.keyboard.press("Escape")  # nothing is deleted
    expect(mo.page.locator("#question")).to_be_hidden()
    mo.act("spam 44", "Moderate the author")
    mo.page.get_by_role("button", name="Delete messages").click()
    mo.confirm("Tom in #raided: delete the 45 latest messages for everybody?")
    expect(mo.page.locator("#toast")).to_have_text("The 45 latest messages of Tom in #raided are deleted.")
    assert [each["text"] for each in server.messages("raided") if each.get("text")] == ["what is this"]

    assert post("more spam")
    mo.act("more spam", "Moderate the author")
    mo.page.get_by_role("button", name="Ban from all rooms for 1 hour").click()
    mo.confirm("Tom in #raided: ban from all rooms for 1 hour?")
    expect(mo.page.locator("#toast")).to_have_text("Tom is banned from all rooms for an hour.")
    sanction("another", kind="ban", user="u_tom")
    garden = f"{server.url}/rooms/garden/messages"
    assert mo.page.request.get(garden, headers=troll).status == 403
    mo.act("more spam", "Moderate the author")
    expect(mo.page.get_by_role("button", name="Lift the ban in all rooms")).to_be_visible()
    expect(mo.page.get_by_role("button", name="Ban for 1 hour", exact=True)).to_be_visible()  # the one is elsewhere
    mo.page.get_by_role("button", name="Lift the ban in all rooms").click()
    mo.confirm("Tom in #raided: lift the ban in all rooms?")
    expect(mo.page.locator("#toast")).to_have_text("Tom may come back.")
    assert mo.page.request.get(garden, headers=troll).ok

    # Of users who are not here and have no message, only a list of sanctions can say that they are banned.
    # A user who has left was named by an id there, though the page shows the name beside the messages.
    sanction("raided", kind="ban", user="u_eve")
    sanction("raided", kind="mute", user="u_tom")
    sanction("*", kind="mute", network="192.0.2.1")
    for button in ("Lift the ban of u_eve", "Lift the mute of Tom", "Lift the mute in all rooms of 192.0.2.1"):
        mo.page.click("#room-menu-button")
        mo.page.get_by_role("button", name="Mutes and bans").click()
        mo.page.get_by_role("dialog", name="Mutes and bans in #raided").get_by_role("button", name=button).click()
        mo.confirm(f"Mutes and bans in #raided: {button[0].lower()}{button[1:]}?")
        expect(mo.page.locator("#toast")).to_contain_text(f"{button.split()[-1]} may ")
    mo.page.click("#room-menu-button")
    mo.page.get_by_role("button", name="Mutes and bans").click()
    expect(mo.page.locator("#toast")).to_have_text("Nobody is muted or banned in #raided.")


def test_a_banned_user_is_back_when_the_ban_ends(server: Server, window: OpenWindow) -> None:
    """The banner said "for another 60 minutes" until its button was pressed, days later as well."""
    ann = window(has_clock=True)
    sign_in(ann, server, "ada")
    ann.open(server, room="pier")
    bearer = {"Authorization": f"Bearer {token(sub='mo', chat={'role': 'moderator'})}"}
    for place, where in (("pier", "in pier"), ("*", "here")):
        sanctions = f"{server.url}/rooms/{place}/sanctions"
        ban = ann.page.request.post(sanctions, headers=bearer, data={"kind": "ban", "user": "ada", "seconds": 3600})
        expect(banner(ann)).to_contain_text(f"you are banned {where} for another 60 minutes")
        assert ann.page.request.delete(f"{sanctions}/{ban.json()['id']}", headers=bearer).ok
        ann.page.clock.fast_forward(3_700_000)
        expect(banner(ann)).to_be_hidden()
        ann.expect_live()
        ann.say(f"back from {place}")
        expect(ann.texts.last).to_have_text(f"back from {place}")


def test_a_moderator_of_some_rooms_is_shown_as_one_in_these_only(server: Server, window: OpenWindow) -> None:
    mo, ann = window(), window()
    sign_in(mo, server, "sam", role="moderator", rooms={"team-*": "rw", "plaza": "r"})
    sign_in(ann, server, "ann")
    for room, count in (("team-a", 1), ("plaza", 0)):
        for each in (mo, ann):
            each.open(server, room=room)
        expect(mo.page.locator("#people li")).to_have_count(2)
        expect(mo.page.get_by_role("button", name="Moderate Ann")).to_have_count(count)
        ann.say("hello")
        mo.texts.last.hover()
        author = mo.page.get_by_role("toolbar", name="Message").get_by_role("button", name="Moderate the author")
        expect(author).to_have_count(count)
        if count:
            author.click()
            expect(mo.page.get_by_role("button", name="Kick out")).to_be_visible()
            expect(mo.page.get_by_role("button", name="Ban from all rooms")).to_have_count(0)
            mo.page.keyboard.press("Escape")


@pytest.mark.parametrize("transport", ["ws", "sse", "poll"])
def test_a_user_who_was_expelled_stays_out_and_is_told_why_and_other_rooms_go_on(
    server: Server, window: OpenWindow, transport: str
) -> None:
    bob, den, hall = window(is_played=True), f"nook-{transport}", f"hall-{transport}"
    for room in (hall, den):
        bob.open(server, transport=transport, room=room)
        bob.say("hello")
        bob.expect_texts(["hello"])
    user = bob.page.request.get(f"{server.url}/session").json()["user"]["id"]
    bearer = {"Authorization": f"Bearer {token(sub='mo', chat={'role': 'moderator'})}"}

    def kicked() -> bool:  # a poll is found only while it is held
        answer = bob.page.request.post(f"{server.url}/rooms/{den}/kick", headers=bearer, data={"user": user})
        return bool(answer.json()["ended"])

    wait_until(bob.page, kicked)
    expect(banner(bob)).to_contain_text(f"You are out of #{den}: a moderator has taken you out of this room")
    bob.lose_connection()
    bob.find_connection()
    bob.expect_live(transport, is_out=True)
    server.publish(den, "still without him")
    expect(bob.page.locator(f"#rooms a[href='#{den}'] .count")).to_have_text("out")
    server.publish(hall, "not in the open room")
    expect(bob.page.locator(f"#rooms a[href='#{hall}']")).to_contain_text("1 unread")
    if transport != "ws":
        asked = bob.page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
        assert [each for each in asked if "/poll?" in each and hall in each], "by a poll, not by the list of rooms"
    come_back(bob)
    expect(banner(bob)).to_be_hidden()
    bob.expect_live(transport)
    server.publish(den, "welcome back")
    bob.expect_texts(["hello", "still without him", "welcome back"])

    sanctions = f"{server.url}/rooms/{den}/sanctions"
    assert bob.page.request.post(sanctions, headers=bearer, data={"kind": "mute", "user": user}).ok
    if transport != "poll":  # whose answer has no place for it
        expect(bob.page.locator("#read-only")).to_contain_text(f"you may not write in {den}")
    ban = {"kind": "ban", "user": user, "seconds": 600, "reason": "noise"}
    assert bob.page.request.post(sanctions, headers=bearer, data=ban).ok
    for happened in (f"You are out of #{den}", f"#{den} did not open"):
        expect(banner(bob)).to_contain_text(f"{happened}: you are banned in {den} for another 10 minutes")
        expect(banner(bob)).to_contain_text("noise")
        bob.expect_live(transport, is_out=True)  # not just "live"
        if happened.startswith("You"):
            bob.page.reload()
