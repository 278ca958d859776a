import inspect
import re
from unittest import mock

import pytest

from chatserver.protocol.validation import check_emoji
from chatserver.terminal import interactive
from chatserver.terminal.commands import (
    COMMANDS,
    EMOJI,
    MAX_MENTIONS,
    BadCommand,
    Typed,
    complete,
    emoji,
    help_lines,
    mentioned,
    parse,
    said,
)

PEOPLE = {"u_a": "Ann", "u_al": "Ann Lee", "u_b": "bob"}


def test_a_line_becomes_a_command_with_its_arguments() -> None:
    for line, typed in [
        ("/help", Typed("/help", None, "")),
        ("/JOIN  ops ", Typed("/join", None, "ops")),
        ("/reply #41 yes\nindeed", Typed("/reply", 41, "yes\nindeed")),
        ("/reply 41 yes\nindeed", Typed("/reply", None, "41 yes\nindeed")),
        ("/reply\n#41\nyes", Typed("/reply", 41, "yes")),
        ("/edit #41 41 apples", Typed("/edit", 41, "41 apples")),
        ("/edit 41 apples", Typed("/edit", None, "41 apples")),
        ("/edit 41st", Typed("/edit", None, "41st")),
        ("/edit #x y", Typed("/edit", None, "#x y")),
        ("/edit #² y", Typed("/edit", None, "#² y")),
        ("/delete #7", Typed("/delete", 7, "")),
        ("/delete", Typed("/delete", None, "")),
        ("/react #3 +1", Typed("/react", 3, "+1")),
        ("/react -1", Typed("/react", None, "-1")),
        ("/me #3 it is", Typed("/me", None, "#3 it is")),
        ("/search 3 apples", Typed("/search", None, "3 apples")),
        ("/older", Typed("/older", None, "")),
        ("/older 999", Typed("/older", None, "999")),
        ("/nick Ann Lee", Typed("/nick", None, "Ann Lee")),
        ("/leave", Typed("/leave", None, "")),
        ("/join #Ops", Typed("/join", None, "ops")),
        ("/leave #ops", Typed("/leave", None, "ops")),
        ("/search #ops", Typed("/search", None, "#ops")),
    ]:
        assert parse(line) == typed


def test_each_command_is_carried_out() -> None:
    """A new row of the table without a branch would do nothing when it is typed, and say nothing."""
    code = inspect.getsource(interactive)
    assert [command.name for command in COMMANDS if f'"{command.name}"' not in code] == []


def refusal(line: str) -> str:
    """Why this is no command."""
    with pytest.raises(BadCommand) as refused:
        pytest.fail(f"{line} is {parse(line)}")
    return str(refused.value)


def test_a_mistyped_command_names_the_right_one() -> None:
    for line, words in [
        ("/join ops den", "'den' is too much here. /join ROOM: enter"),
        ("/leave ops den", "'den' is too much here. /leave [ROOM]: "),
        ("/rooms is there", "'is' is too much here. /rooms: list"),
        ("/quit now", "'now' is too much here. /quit: "),
        ("/delete please", "'please' is too much here. /delete [#N]: "),
        ("/delete #7 8", "'8' is too much here. /delete [#N]: "),
        ("/delete #0", "'#0' is too much here. /delete [#N]: "),
        ("/react +1 3", "'3' is too much here. /react [#N] EMOJI: "),
        ("/react #3", "/react [#N] EMOJI: "),
        ("/react 3 +1", "message 3 is #3 here. /react [#N] EMOJI: "),
        ("/delete 7", "message 7 is #7 here. /delete [#N]: "),
        ("/reply #3", "/reply [#N] TEXT: "),
        ("/react #3 :nope:", "no emoji is called :nope: here; Tab "),
        ("/react -:nope:", "no emoji is called :nope: here; Tab "),
        ("/older 0", "'0' is no number from 1 to 999. /older [COUNT]: "),
        ("/older #12", "'#12' is no number from 1 to 999. /older [COUNT]: "),
        ("/older 1000", "'1000' is no number from 1 to 999. /older [COUNT]: "),
        ("/older 5 6", "'6' is too much here. /older [COUNT]: "),
        ("/nick", "/nick NAME: take another name"),
        ("/nix it", "no such command: /nix; /help lists them, and //nix says /nix"),
        ("/", "no such command: /; "),
        ("/help nix", "no such command: /nix; "),
    ]:
        assert refusal(line).startswith(words)


def test_texts_and_commands() -> None:
    for line, text in [
        ("hello /who", "hello /who"),
        ("", ""),
        ("/who", None),
        ("/who a/b", None),
        ("/", None),
        ("//who", "/who"),
        ("//etc/passwd", "/etc/passwd"),
        ("/etc/passwd is a file", "/etc/passwd is a file"),
        ("/etc/ is a folder", "/etc/ is a folder"),
    ]:
        assert said(line) == text


def test_emoji_by_name() -> None:
    for text, means in [
        ("+1", ("👍", True)),
        (":tada:", ("🎉", True)),
        ("-:tada:", ("🎉", False)),
        ("-1", ("👎", True)),
        ("--1", ("👎", False)),
        ("🦊", ("🦊", True)),
        ("-🦊", ("🦊", False)),
    ]:
        assert emoji(text) == means


def test_emoji_with_names_have_the_form_in_which_the_server_returns_them() -> None:
    assert [check_emoji(each) for each in EMOJI.values()] == [*EMOJI.values()]


def test_tab_completes_the_last_word() -> None:
    people = [*PEOPLE.values(), "Ann"]  # two users may have one name
    for before, kept, endings in [
        ("/re", "", ["/react ", "/reply "]),
        ("/join o", "/join ", ["old ", "ops "]),
        ("/react #3 :ta", "/react #3 ", [":tada: "]),
        ("/react -:ta", "/react ", ["-:tada: "]),
        ("AN", "", ["Ann Lee: ", "Ann: "]),
        ("see you, @b", "see you, ", ["@bob "]),
        ("see you, @ann l", "see you, ", ["@Ann Lee "]),
        ("@bob a", "@bob ", ["Ann ", "Ann Lee "]),
        ("ann@b", "", []),
        ("你好@b", "你好", ["@bob "]),
        ("tell b", "tell ", ["bob "]),
        ("it is in #o", "it is in ", ["#old ", "#ops "]),
        ("tell ", "tell ", []),
        ("", "", []),
    ]:
        stays, offered = complete(before, people=people, rooms=["ops", "old", "lobby"])
        assert (stays, list(offered)) == (kept, endings)


def test_the_longest_name_behind_an_at_sign_is_mentioned() -> None:
    """As in the page: the longest name that fits, no part of a longer word, and all users of that name."""
    for text, found in [
        ("@Ann Lee and @bob, not Ann", ["u_al", "u_b", "u_b2"]),
        ("@Ann, ask @Ann Lee", ["u_a", "u_al"]),
        ("@Annabel, write to ann@bob.example", []),
        ("(@Ann)", ["u_a"]),
        ("请@Ann看", ["u_a"]),
        ("@Anné @bob٣", []),
        ("@रामा", []),
        ("@राम, @राम", ["u_r"]),
        ("@Jose\u0301", ["u_j"]),  # as copied on a Mac from the name of a file; the server's names are in NFC
        ("@", []),
    ]:
        assert mentioned(text, PEOPLE | {"u_b2": "bob", "u_r": "राम", "u_j": "Jos\u00e9"}) == found
        assert mentioned(text, {}) == []


def test_mentions_are_as_many_as_the_server_takes() -> None:
    crowd = {f"u_{number}": f"n{number:03}" for number in range(100)}
    assert len(mentioned(" ".join(f"@{name}" for name in crowd.values()), crowd)) == MAX_MENTIONS


def test_only_names_in_the_text_are_looked_for() -> None:
    """With a thousand users known, each typed text took 0.1 s, and after 512 of them 70 MB of patterns were kept."""
    with mock.patch.object(re, "finditer", wraps=re.finditer) as find:
        assert mentioned("@Ann and bob", PEOPLE) == ["u_a"]
    assert "bob" not in find.call_args.args[0]


def test_help_has_a_line_for_each_command_that_fits_a_terminal() -> None:
    assert max(map(len, help_lines())) <= 78
    assert help_lines(columns=38)[0] == "/join ROOM: enter a room and write there; the others stay"  # wrapped at words
    assert (
        help_lines(parse("/help rooms").rest)
        == help_lines(parse("/help /Rooms").rest)
        == ["/rooms: list the server's rooms"]
    )
    assert [line.split()[0] for line in help_lines()] == [*(command.name for command in COMMANDS), "#N"]
