"""`/session` and names: a guest is one person on every transport."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.api.asking import JSON, cookie
from tests.support.certificates import certificate
from tests.support.peers import Answer, Body, Chatter, Peer, ask, chatter, upgrade
from tests.support.serving import Serving, serving
from tests.support.tokens import bearer


async def make(server: Serving, body: Body = b"", *, headers: Mapping[str, str] | None = None) -> Answer:
    """Send `POST /session`."""
    return await ask(server.address, "POST", "/session", body, headers=headers)


async def who(server: Serving, headers: Mapping[str, str]) -> Any:
    answer = await ask(server.address, "GET", "/session", headers=headers)
    assert answer.status == 200, answer
    assert answer.headers["cache-control"] == "no-store"
    return answer.json["user"]


async def test_a_guest_with_a_chosen_name_is_one_person_on_every_transport(server: Serving) -> None:
    made = await make(server, {"name": " Ann  Ж "})
    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    token, user = made.json["token"], made.json["user"]
    assert (user["name"], made.json["guest"], made.json["moderator"], made.json["expires"]) == ("Ann Ж", 1, 0, None)
    assert made.headers["set-cookie"] == f"chat_session={token}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax"
    for headers in (bearer(token), cookie(token), {"Authorization": f"bearer  {token}"}):
        assert await who(server, headers) == user
        said = await ask(server.address, "POST", "/rooms/lobby/messages", b"hi", headers=headers)
        assert said.json["user"] == user
        async with chatter(server.address, headers=headers) as friend:
            assert friend.hello["user"] == user
            assert friend.hello["session"] == token
            told = await friend.ask("auth", token=token)
            assert told == {"type": "authenticated", "id": told["id"], "user": user, "expires": None}
            joined = await friend.ask("join", room="lobby")
            assert {message["user"]["name"] for message in joined["messages"]} == {"Ann Ж"}
            assert (await friend.ask("members", room="lobby"))["members"] == [user]


async def test_a_guest_without_a_token_is_known_by_the_whole_user_agent(server: Serving) -> None:
    """All after the first "~" was taken for a name, as in a token."""
    agents = ("bot", "bot~1", "bot~1~2", "bot~1~3", "bot~2")
    guests = [(await who(server, {"User-Agent": agent}))["id"] for agent in agents]
    assert len(set(guests)) == len(agents)


async def test_another_name_is_the_same_person(server: Serving) -> None:
    old = (await make(server)).json
    assert len(old["token"]) == 22, "the length of a token without a name"
    assert re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+ \d\d", old["user"]["name"])
    new = (await make(server, {"name": "Ann"}, headers=bearer(old["token"]))).json
    newer = (await make(server, {"name": "Anna"}, headers=cookie(new["token"]))).json
    same = (await make(server, {}, headers=cookie(newer["token"]))).json
    assert old["user"]["id"] == new["user"]["id"] == newer["user"]["id"] == same["user"]["id"]
    assert [each["user"]["name"] for each in (new, newer, same)] == ["Ann", "Anna", "Anna"]
    assert await who(server, cookie(old["token"])) == old["user"]
    offsets = [(await publish_as(server, each["token"]))["offset"] for each in (old, newer)]
    assert offsets == [1, 1], "a key belongs to the person"


async def publish_as(server: Serving, token: str) -> Any:
    body = {"text": "hi", "key": "k"}
    answer = await ask(server.address, "POST", "/rooms/lobby/messages", body, headers=bearer(token))
    return answer.json


async def test_a_token_of_another_log_is_a_guest_without_its_name(server: Serving, peer: Peer) -> None:
    token = (await make(server, {"name": "Ann"})).json["token"]
    base = token.partition("~")[0]
    forged = f"{base}~Qm9i~{token.rpartition('~')[2]}"
    assert (await who(server, cookie(forged)))["name"] not in ("Ann", "Bob")
    assert await who(server, cookie(forged)) == await who(server, cookie(base))


async def test_a_bearer_that_is_no_token_is_refused(server: Serving, peer: Peer) -> None:
    for token in ("", "short", "a b", "x" * 65, "a" * 22 + "~", "\xff" * 22, "eyJhbGciOiJub25lIn0.e30."):
        for method, path in (("GET", "/session"), ("POST", "/session"), ("POST", "/rooms/lobby/messages")):
            answer = await ask(server.address, method, path, headers=bearer(token))
            assert (answer.status, answer.error) == (401, "unauthenticated"), (token, path)
            assert answer.headers["www-authenticate"] == 'Bearer realm="chat"'
        await peer.send(upgrade(headers=bearer(token)))
        assert (await peer.response()).status == 401, token
        page = await peer.request("GET", "/", headers=bearer(token))
        assert (page.status, "set-cookie" in page.headers) == (200, False), "the browser may have a valid cookie"


async def test_other_authorization_schemes_are_ignored(server: Serving) -> None:
    assert (await ask(server.address, "GET", "/session", headers={"Authorization": "Basic YTpi"})).status == 200


async def test_a_session_takes_a_valid_name_only(server: Serving, peer: Peer) -> None:
    wrong: list[tuple[Body, str]] = [
        (b'{"name": "\\u202eAnn"}', "bad_field"),
        (b'{"name": "a", "name": "b"}', "bad_field"),
        (b"[]", "bad_json"),
        (b"{", "bad_json"),
        ({"name": "Z" + "\u0301" * 10_000}, "too_large"),
    ]
    for body, code in wrong:
        answer = await peer.request("POST", "/session", body, headers=JSON)
        assert answer.error == code, body
    assert (await peer.request("POST", "/session", b"name=Ann")).error == "unsupported_media_type"
    assert (await peer.request("PUT", "/session")).headers["allow"] == "DELETE, GET, HEAD, POST"


# -- on an open WebSocket ---------------------------------------------------------------------------------------------


async def test_auth_with_an_invalid_token_changes_nothing(server: Serving, friend: Chatter) -> None:
    for token in ("", "x", "a.b.c", "y" * 65, "x" * 4097):
        refused = await friend.ask("auth", token=token)
        assert (refused["type"], refused["code"]) == ("error", "unauthenticated")
    assert (await friend.ask("auth"))["code"] == "bad_field"
    await friend.ask("join", room="lobby")
    assert (await friend.ask("members", room="lobby"))["members"] == [friend.hello["user"]]


async def test_over_tls_the_cookie_is_secure_and_no_other_host_can_set_it(tmp_path: Path) -> None:
    """Another host of the domain could make its visitors a guest or a user of its choice here."""
    cert, key = certificate(tmp_path)
    async with serving(tls_cert=cert, tls_key=key) as server, chatter(server.address) as friend:
        ann = await make(server, {"name": "Ann"})
        for answer in (ann, friend.handshake, await ask(server.address, "DELETE", "/session")):
            assert re.fullmatch(
                "__Host-chat_session=[^;]*; Path=/; Max-Age=[0-9]+; HttpOnly; SameSite=Lax; Secure",
                answer.headers["set-cookie"],
            )
        evil = (await make(server, {"name": "Evil"})).json
        planted = cookie(evil["token"])
        assert (await who(server, planted))["id"] != evil["user"]["id"]
        async with chatter(server.address, headers=planted) as other:
            assert other.hello["user"]["id"] != evil["user"]["id"]
        page = await ask(server.address, "GET", "/", headers=planted)
        assert page.headers["set-cookie"].startswith("__Host-chat_session=")
        both = {"Cookie": f"{planted['Cookie']}; __Host-chat_session={ann.json['token']}"}
        assert await who(server, both) == ann.json["user"]
        assert "set-cookie" not in (await ask(server.address, "GET", "/", headers=both)).headers
