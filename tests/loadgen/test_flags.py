from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import flags
from loadgen.clients.client import Threat
from loadgen.common import Loading
from loadgen.net.target import UsageError
from loadgen.personas import registry

PERSONAS = list(registry().values())


def _names(mix: str, clients: int) -> dict[str, int]:
    return {persona.name: number for persona, number in flags.mix(mix, clients).items()}


def test_a_mix_is_shared_out() -> None:
    assert _names("idle=80,poll=15,chat=5", 1000) == {"idle": 800, "poll": 150, "chat": 50}
    assert _names("idle=1,poll=1,idle=2", 4) == {"idle": 3, "poll": 1}
    assert _names("idle=1, poll=1", 3) in ({"idle": 2, "poll": 1}, {"idle": 1, "poll": 2})


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=len(PERSONAS)), st.integers(len(PERSONAS), 20_000))
def test_shares_add_up_and_nobody_is_left_out(weights: list[float], clients: int) -> None:
    shares = flags.shares(dict(zip(PERSONAS, weights, strict=False)), clients)
    assert sum(shares.values()) == clients
    assert min(shares.values()) >= 1


@pytest.mark.parametrize(
    ("mix", "error"),
    [
        ("", "--mix: name at least one"),
        ("idle", "share above 0"),
        ("idle=x", "share above 0"),
        ("idle=0", "share above 0"),
        ("idle=nan", "share above 0"),
        ("idle=1e308,idle=1e308", "share above 0"),
        ("idel=1", "did you mean idle"),
        ("slow-head=1", "--mix: 'slow-head' is an attack, for --kind"),  # it said: did you mean slow-typist?
        ("slow-haed=1", "--mix: there is no 'slow-haed'"),
    ],
)
def test_a_bad_mix_names_the_flag(mix: str, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        flags.mix(mix, 100)


def test_too_few_clients_for_the_mix() -> None:
    with pytest.raises(UsageError, match="--clients"):
        flags.mix("idle=1,poll=1,chat=1", 2)


def test_victims_of_several_kinds_are_in_equal_shares() -> None:
    assert flags.victims(["chat"], 50) == ({"ws": 30, "poll": 8, "sse": 7, "get": 5}, None)
    assert flags.victims(["chat"], 3) == ({"ws": 3}, None)
    assert flags.victims(["ws-echo", "GET /a"], 50) == ({"ws-echo": 25, "get": 25}, "/a")
    assert flags.victims(["chat", "ws-echo", "GET /a"], 60) == (
        {"ws": 12, "poll": 3, "sse": 3, "get": 22, "ws-echo": 20}, "/a"
    )  # fmt: skip
    with pytest.raises(UsageError, match="--victims: 1 are fewer than the kinds of --victim"):
        flags.victims(["ws-echo", "get"], 1)
    with pytest.raises(UsageError, match="--victim: '/a' and '/b': all who fetch a page fetch the same"):
        flags.victims(["GET /a", "GET /b"], 50)


def test_rooms_are_named_and_numbered() -> None:
    assert flags.rooms(None, None, 1000) == tuple(f"load-{n}" for n in range(1, 21))
    assert flags.rooms(None, "ops", 1000) == ("ops",)
    assert flags.rooms(1, "ops", 1000) == ("ops",)
    assert flags.rooms(2, "ops", 1000) == ("ops-1", "ops-2")
    assert flags.rooms(None, None, 1) == ("load-1",)


@pytest.mark.parametrize("name", ["Ops", "a b", "-a", "a" * 65, "ä", "a/b"])
def test_names_that_no_room_has(name: str) -> None:
    with pytest.raises(UsageError, match=r"^room: "):
        flags.rooms(None, name, 10)


def test_groups_of_attacks_are_all_of_them_and_each_is_named_once() -> None:
    named = [flags.attacks(threat.everybody, "--kind") for threat in Threat]
    everybody = [each for group in named for each in group]
    assert sorted(each.name for each in everybody) == [each.name for each in PERSONAS if not each.honest]
    assert len(everybody) == len(set(everybody))
    again = flags.attacks("slow-head, all-slow,slow-head", "--attacks")
    assert again[0].name == "slow-head"
    assert set(again) == set(named[0])


def test_an_attack_that_is_none_names_the_flag() -> None:
    with pytest.raises(UsageError, match=r"--kind: there is no 'slow-haed'; did you mean slow-head"):
        flags.attacks("all-slow,slow-haed", "--kind")
    with pytest.raises(UsageError, match=r"--attacks: 'tunnel' is honest, for run --mix"):
        flags.attacks("tunnel", "--attacks")


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"request": "GET"}, r"--request: 'GET' is not of the form"),
        ({"request": "GE T /"}, "--request"),
        ({"request": "POST no"}, "--request: 'no' is no path"),
        ({"header": ["Cookie"]}, "--header: 'Cookie' is not of the form 'Name: value'"),
        ({"header": ["A B: c"]}, "--header"),
        ({"header": ["X: a\r\nY: b"]}, "--header"),
        ({"header": ["X: \u00fc"]}, "--header"),
        ({"header": ["Host: elsewhere"]}, "--header: Host is written by loadgen itself"),
        ({"header": ["@/nowhere/fields"]}, "--header: /nowhere/fields: No such file"),
        ({"body": "/nowhere/body"}, "--body: /nowhere/body: No such file"),
        ({"subprotocol": "a b"}, "--subprotocol: 'a b' is no token"),
    ],
)
def test_a_request_that_cannot_be_sent_names_its_flag(asked: dict[str, Any], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        Loading(**asked).endpoint()


def test_a_request_has_all_that_was_said_of_it(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"{}")
    (tmp_path / "fields").write_text("Cookie: a=1\n\nX-B: 2\n")
    asked = Loading(
        request="POST /api?x=1",
        header=("Authorization: Bearer t", f"@{tmp_path / 'fields'}"),
        body=str(tmp_path / "body"),
        subprotocol="chat.v1",
    )
    found = asked.endpoint()
    assert (found.method, found.request_path, found.body) == ("POST", "/api?x=1", b"{}")
    assert found.fields == ("Authorization: Bearer t", "Cookie: a=1", "X-B: 2")
    assert found.upgrade_fields[-1] == "Sec-WebSocket-Protocol: chat.v1"
