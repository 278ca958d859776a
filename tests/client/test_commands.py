import pytest

from chatserver.client.commands import (
    COMMANDS,
    MAX_MENTIONS,
    Typed,
    complete,
    emoji,
    help_lines,
    mentioned,
    parse,
    usage,
)

PEOPLE = {"u_a": "Ann", "u_al": "Ann Lee", "u_b": "bob"}


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("/help", Typed("/help", None, "")),
        ("/JOIN  ops ", Typed("/join", None, "ops")),
        ("/reply #41 yes\nindeed", Typed("/reply", 41, "yes\nindeed")),
        ("/reply 41 apples", Typed("/reply", None, "41 apples")),
        ("/edit #x y", Typed("/edit", None, "#x y")),
        ("/edit #² y", Typed("/edit", None, "#² y")),
        ("/delete #7", Typed("/delete", 7, "")),
    ],
)
def test_what_a_line_means(line: str, typed: Typed) -> None:
    assert parse(line) == typed


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("+1", ("👍", True)),
        (":tada:", ("🎉", True)),
        ("-:tada:", ("🎉", False)),
        ("-1", ("👎", True)),
        ("--1", ("👎", False)),
        ("🦊", ("🦊", True)),
        ("-🦊", ("🦊", False)),
    ],
)
def test_emoji_by_name(text: str, means: tuple[str, bool]) -> None:
    assert emoji(text) == means


@pytest.mark.parametrize(
    ("before", "kept", "endings"),
    [
        ("/re", "", ["/react ", "/reply "]),
        ("/join o", "/join ", ["old ", "ops "]),
        ("/react #3 :ta", "/react #3 ", [":tada: "]),
        ("/react -:ta", "/react ", ["-:tada: "]),
        ("AN", "", ["Ann Lee: ", "Ann: "]),
        ("see you, @b", "see you, ", ["@bob "]),
        ("tell b", "tell ", ["bob "]),
        ("tell ", "tell ", []),
        ("", "", []),
    ],
)
def test_what_tab_offers(before: str, kept: str, endings: list[str]) -> None:
    stays, offered = complete(before, people=PEOPLE.values(), rooms=["ops", "old", "lobby"])
    assert (stays, list(offered)) == (kept, endings)


def test_who_is_mentioned() -> None:
    assert mentioned("@Ann Lee and @bob, not Ann", PEOPLE) == ["u_al", "u_b"]
    assert sorted(mentioned("@Ann, ask @Ann Lee", PEOPLE)) == ["u_a", "u_al"]
    crowd = {f"u_{number}": f"n{number:03}" for number in range(100)}
    assert len(mentioned(" ".join(f"@{name}" for name in crowd.values()), crowd)) == MAX_MENTIONS


def test_help_has_a_line_for_each_command() -> None:
    assert [line.split()[0] for line in help_lines()] == [command.name for command in COMMANDS]
    assert usage("/nick") == "/nick NAME: take another name"
    assert usage("/nix") is None
