"""`chatserver admin`: each command against a server, and its error messages."""

import io
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from chatserver import cli
from chatserver.client.wire import Sanction
from chatserver.terminal.moderate import _ABSENT, AdminError, Entry, print_audit, print_sanctions
from tests.support.answering import answering
from tests.support.moderating import MODERATOR, guest, id_of, moderated, sanction, signed_in
from tests.support.peers import ask, chatter
from tests.support.serving import Serving
from tests.support.tty import Tty

ANN = guest("ann")
TOKEN = MODERATOR["Authorization"].removeprefix("Bearer ")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with moderated(tmp_path) as running:
        yield running


class Admin:
    """Runs a command in a thread, since its server is in this process."""

    def __init__(self, server: Serving, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = f"http://{server.address.host}:{server.address.port}"
        self._capsys = capsys

    async def run(self, command: str, *flags: str, token: str = TOKEN) -> tuple[int, str, str]:
        tokens = ["admin", command, self.url, "--token", token, *flags]
        self._capsys.readouterr()
        code = await trio.to_thread.run_sync(partial(cli.run_command, tokens))
        said = self._capsys.readouterr()
        return code, said.out, said.err

    async def done(self, command: str, *flags: str) -> str:
        code, out, err = await self.run(command, *flags)
        assert (code, err) == (0, "")
        return out


@pytest.fixture
def admin(server: Serving, capsys: pytest.CaptureFixture[str]) -> Admin:
    return Admin(server, capsys)


async def test_mutes_and_bans_are_made_listed_and_lifted(server: Serving, admin: Admin) -> None:
    ann = await id_of(server.address, ANN)
    made = await admin.done("mute", "--room", "lobby", "--user", ann, "--for", "10m", "--reason", "[b]spam")
    absence = f"; {_ABSENT}"  # what was a name in place of an id looked like a mute
    assert re.fullmatch(rf"muted {ann} in lobby until \d\d\d\d-\S+Z \(sanction 1\){absence}\n", made)
    assert (await ask(server.address, "POST", "/rooms/lobby/messages", b"hi", headers=ANN)).status == 403
    assert await admin.done("ban", "--room", "*", "--network", "192.0.2.1") == (
        "banned 192.0.2.1 in all rooms (sanction 2)\n"
    )
    row = (await admin.done("sanctions", "--room", "lobby")).split("\t")
    assert (row[:4], row[4] in made) == (["1", "mute", ann, "lobby"], True), "with the time at which it ends"
    assert [line.split("\t")[0] for line in (await admin.done("sanctions")).splitlines()] == ["2", "1"]
    found = [line.split("\t") for line in (await admin.done("sanctions", "--user", ann)).splitlines()]
    assert [(id_, reason) for id_, *_, reason in found] == [("1", "[b]spam")]
    [line] = (await admin.done("sanctions", "--network", "192.0.2.1")).splitlines()
    assert line.startswith("2\t")
    for room in ("*", "lobby"):
        await admin.done("ban", "--room", room, "--user", ann)
    assert await admin.done("unmute", "--room", "lobby", "--user", ann) == f"unmuted {ann} in lobby (sanction 1)\n"
    assert await admin.done("unban", "--room", "*", "--user", ann) == f"unbanned {ann} in all rooms (sanction 3)\n"
    await admin.done("unban", "--room", "lobby", "--user", ann)
    assert await admin.done("unban", "--room", "*", "--network", "192.0.2.1") == (
        "unbanned 192.0.2.1 in all rooms (sanction 2)\n"
    )
    assert await admin.done("sanctions") == ""
    assert (await ask(server.address, "POST", "/rooms/lobby/messages", b"hi", headers=ANN)).status == 201
    code, _, err = await admin.run("unmute", "--room", "lobby", "--user", ann)
    assert (code, err) == (
        1, f"chatserver: no mute of user {ann} is in force in lobby; `admin sanctions` lists those that are\n",
    )  # fmt: skip
    actions = [line.split("\t")[4] for line in (await admin.done("audit")).splitlines()]
    assert actions == ["mute", *["ban"] * 3, "unmute", *["unban"] * 3]


async def test_a_list_that_may_be_cut_says_so(server: Serving, admin: Admin) -> None:
    """Of 330 mutes 100 were listed without a word, as if they were all."""
    async with trio.open_nursery() as nursery:
        for number in range(101):
            nursery.start_soon(partial(sanction, server.address, kind="mute", user=f"u_{number}"))
    for command in ("sanctions", "audit"):
        assert len((await admin.done(command)).splitlines()) == 101, "and no word, since these are all"
    for command, flags, ids, hint in (
        ("sanctions", ("--limit", "2"), ["101", "100"], "these are the newest 2"),
        ("audit", ("--limit", "2"), ["100", "101"], "these are the newest 2"),
        ("audit", ("--after", "2", "--limit", "1"), ["3"], "go on with --after 3"),
    ):
        code, out, err = await admin.run(command, *flags)
        assert (code, [line.split("\t")[0] for line in out.splitlines()]) == (0, ids)
        assert err == f"chatserver: there may be more: {hint}\n"


async def test_a_user_who_is_there_is_named_and_a_kick_says_if_not(server: Serving, admin: Admin) -> None:
    ann = await id_of(server.address, ANN)
    flags = ("--room", "lobby", "--user", ann)
    assert await admin.done("kick", *flags) == f"{ann} is not there\n"
    async with chatter(server.address, headers=ANN) as friend:
        await friend.ask("join", room="lobby")
        name = friend.hello["user"]["name"]
        assert await admin.done("mute", *flags) == f"muted {name} ({ann}) in lobby (sanction 1)\n"
        assert await admin.done("kick", *flags) == f"kicked {ann}; connections removed: 1\n"
        assert (await friend.next("error"))["code"] == "forbidden"
        assert (await friend.next("error"))["room"] == "lobby"
    await admin.done("unmute", *flags)
    entries = [line.split("\t") for line in (await admin.done("audit")).splitlines()]
    assert [entry[4:7:2] for entry in entries] == [
        ["kick", ann], ["mute", f"{name} ({ann})"], ["kick", f"{name} ({ann})"], ["unmute", f"{name} ({ann})"],
    ]  # fmt: skip


async def test_nobody_protects_another_by_a_name(server: Serving, admin: Admin) -> None:
    """While a guest with the id of an absent user as its name was in the room, that user could not be banned."""
    eve = (await ask(server.address, "POST", "/session", {"name": "u_spammer"})).json["token"]
    async with chatter(server.address, headers={"Authorization": f"Bearer {eve}"}) as friend:
        await friend.ask("join", room="lobby")
        banned = await admin.done("ban", "--room", "lobby", "--user", "u_spammer")
    assert banned == f"banned u_spammer in lobby (sanction 1); {_ABSENT}\n"


async def test_a_message_is_deleted_with_a_token_in_a_file(server: Serving, admin: Admin, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    await ask(server.address, "POST", "/rooms/lobby/messages", b"nonsense", headers=ANN)
    deleted = await admin.run("delete", "--room", "lobby", "--offset", "1", token=f"@{file}")
    assert deleted == (0, "deleted 1 in lobby\n", "")
    assert b"nonsense" not in (await ask(server.address, "GET", "/rooms/lobby/messages")).body
    code, _, err = await admin.run("delete", "--room", "lobby", "--offset", "7")
    assert (code, err.startswith("chatserver: ")) == (1, True)


async def test_a_refusal_by_the_server_names_the_flag(server: Serving, admin: Admin) -> None:
    moderator = await id_of(server.address, MODERATOR)
    for flags, code, said in (
        (("mute", "--room", "Lobby", "--user", "u_x"), 2, "--room: 1 to 64 characters"),
        (("mute", "--room", "lobby", "--user", "a\nb"), 2, "--user: "),
        (("mute", "--room", "lobby", "--user", moderator), 2, "--user: that is yourself"),
        (("ban", "--room", "lobby", "--network", "here"), 2, "--network: 'here' is no address"),
        (("ban", "--room", "lobby", "--network-of", "u_x"), 2, "--network-of: u_x is not in lobby now"),
        (("ban", "--room", "lobby", "--user", "u_x", "--for", "99999d"), 2, "--for: "),
        (("ban", "--room", "lobby", "--user", "u_x", "--reason", "x" * 301), 2, "--reason: "),
        (("sanctions", "--limit", "0"), 2, "--limit: "),
        (("kick", "--room", "lobby", "--user", ""), 2, "--user: "),
        (("delete", "--room", "lobby", "--offset", "0"), 2, "--offset: the offset of a message"),
        (("audit", "--after", "-5"), 2, "--after: '-5'; the id of an entry"),
    ):
        assert (got := await admin.run(*flags))[:2] == (code, ""), flags
        assert got[2].startswith(f"chatserver: {said}"), got
    for token in ("a-guest-of-no-standing", signed_in("u_ann")["Authorization"].removeprefix("Bearer ")):
        assert await admin.run("audit", token=token) == (1, "", "chatserver: --token: this is for moderators\n")
    code, _, err = await admin.run("audit", token="no.such.token")
    assert (code, err.startswith("chatserver: --token: ")) == (1, True)


def test_at_a_terminal_there_are_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    by = {"id": "u_mod", "name": "Mod"}
    sanction: dict[str, Any] = {
        "id": 7, "kind": "mute", "user": "u_x", "room": "*", "until": None, "by": by, "time": "",
        "reason": "[bold]spam[/x]",
    }  # fmt: skip
    entry = {
        "id": 3, "time": "2026-01-01T00:00:00.000Z", "by": by, "network": "192.0.2.1", "action": "ban", "room": "*",
        "target": "u_x", "detail": "60 s: [spam]",
    }  # fmt: skip
    file = Tty()
    print_sanctions([msgspec.convert(sanction, Sanction)], file)
    print_audit([msgspec.convert(entry, Entry)], file)
    print_sanctions([], file)
    print_audit([], file)
    shown = file.getvalue()
    assert "2026-01-01 00:00:00 " in shown, "80 columns fold it at the blank"
    assert shown.count("whom") == 1, "no table without rows"
    for words in ("whom", "no end", "[bold]spam[/x]", "Mod (u_mod)", "60 s: [spam]", "no sanction", "nothing is in"):
        assert words in shown, words


def test_a_narrow_terminal_gets_lines_without_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 60 columns a table cut each id and time into pieces of six characters."""
    monkeypatch.setenv("COLUMNS", "60")
    entry = {
        "id": 3, "time": "2026-01-01T00:00:00.000Z", "by": {"id": "u_mod", "name": "Mod"}, "network": "192.0.2.1",
        "action": "ban", "room": "lobby", "target": "g_976e5eaf475308c", "detail": "60 s",
    }  # fmt: skip
    file = Tty()
    print_audit([msgspec.convert(entry, Entry)], file)
    print_audit([], file)
    line, nothing = file.getvalue().splitlines()
    assert line.split("\t")[1::5] == ["2026-01-01T00:00:00.000Z", "g_976e5eaf475308c"]
    assert "nothing is in the audit trail" in nothing


def test_texts_of_users_move_no_cursor_and_make_no_line() -> None:
    """Any user can put such an entry into the trail, by a search for the messages of `user`."""
    target = "u\x1b]0;x\x07\n9\tban"
    entry = {
        "id": 3, "time": "2026-01-01T00:00:00.000Z", "by": {"id": "u_x", "name": "Ann"}, "network": "192.0.2.1",
        "action": "search", "room": "*", "target": target, "detail": "",
    }  # fmt: skip
    for file in (Tty(), io.StringIO()):
        print_audit([msgspec.convert(entry, Entry)], file)
        assert not [part for part in ("\x1b]", "\x07", "\n9", "\tban") if part in file.getvalue()]
    assert "\x1b" not in str(AdminError(target))


async def test_a_server_that_is_no_chatserver_is_named_as_such(admin: Admin) -> None:
    answers = [
        b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.0 200 OK\r\n\r\n<html>", b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nLocation: https://other\r\n\r\n", b'HTTP/1.0 200 OK\r\n\r\n[["id", 1]]',
        b'HTTP/1.0 200 OK\r\n\r\n{"status": "ok"}', b'HTTP/1.0 200 OK\r\n\r\n{"entries": [{"id": 1, "action": 2}]}',
    ]  # fmt: skip
    said = [
        "does not speak HTTP", *["answered 200: not an answer of a chat server"] * 2, "302: it has moved to https://other",
        *["answered 200: not an"] * 3,
    ]  # fmt: skip

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(answers.pop(0))
        await stream.aclose()

    async with answering(answer) as address:
        admin.url = address
        for words in said:
            code, _, err = await admin.run("audit")
            assert (code, words in err, err.count("\n")) == (1, True, 1), err
        answers.append(b'HTTP/1.0 200 OK\r\n\r\n{"ended": "\\u001b]0;x"}')
        code, out, err = await admin.run("kick", "--room", "*", "--user", "u_x")
        assert (code, out, "answered 200: not an" in err) == (1, "", True)
        answers.append(b"HTTP/1.1 400 Bad\r\n\r\n")
        admin.url = f"https://{address}"
        code, _, err = await admin.run("audit")
        assert (code, err.endswith("TLS: wrong version number; was http:// meant?\n")) == (1, True), err
    admin.url = address
    code, _, err = await admin.run("audit")
    assert (code, err) == (1, f"chatserver: URL: {address}: cannot connect: Connection refused\n")


async def test_a_request_whose_answer_breaks_off_is_not_made_again(admin: Admin) -> None:
    """A user who has come back would be kicked a second time. The moderator is told that it may have been done."""
    asked: list[bytes] = []

    async def answer(stream: trio.SocketStream) -> None:
        asked.append(await stream.receive_some(65_536))
        await stream.aclose()

    async with answering(answer) as admin.url:
        code, _, err = await admin.run("kick", "--room", "*", "--user", "u_bob")
        assert (code, err.endswith("; the change may have been made\n"), err.count("\n"), len(asked)) == (1, True, 1, 1)
        code, _, err = await admin.run("audit")
        assert (code, "may have been" in err, len(asked)) == (1, False, 2), err
    code, _, err = await admin.run("kick", "--room", "*", "--user", "u_bob")
    assert (code, err) == (1, f"chatserver: URL: {admin.url}: cannot connect: Connection refused\n")
