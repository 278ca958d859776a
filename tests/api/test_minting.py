"""`chatserver token` makes tokens that the server accepts."""

from pathlib import Path

import pytest

from chatserver.api.minting import span
from chatserver.chat.policy import MAX_GRANTS, Action, rights_of
from chatserver.cli import run_command
from chatserver.settings.rooms import PATTERN_RULE
from chatserver.settings.spec import ConfigError
from tests.support.tokens import ALGORITHMS, key_file, private_pem, signing_key, verified


def test_a_minted_token_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public, private = tmp_path / "public", tmp_path / "private"
    command = (
        f"token --key {private} --sub u_ann --name Ann --role moderator --room team-*=rw --room ops=r "
        "--expires 2h --issuer me --audience chat"
    )
    for algorithm in ALGORITHMS:
        public.write_bytes(key_file(algorithm))
        private.write_bytes(signing_key(algorithm, 0) if algorithm == "HS256" else private_pem(algorithm))
        assert run_command(command.split()) == 0, algorithm
        ann = verified(capsys.readouterr().out.split()[-1], public, issuer="me", audience="chat")
        assert (ann.face.id, ann.face.name) == ("u_ann", "Ann")
        assert [ann.may(Action.MODERATE, room) for room in ("team-a", "ops", "lobby")] == [True, False, False]
        assert ann.may(Action.READ, "ops")
        assert ann.seconds_left == pytest.approx(7200, abs=30)


def test_a_token_without_options_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_bytes(key_file("HS256"))
    assert run_command(["token", "--key", str(key), "--sub", "u_ann"]) == 0
    assert verified(capsys.readouterr().out.strip(), key).rights is rights_of(None, None)


def test_a_token_that_the_server_would_refuse_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_bytes(key_file("HS256"))
    for flags, complaint in (
        ("--sub g_ann", "--sub: "),
        ("--sub u --name \u202ex", "--name: "),
        ("--sub u --room a=x", "--room: 'a=x' is not PATTERN=r, PATTERN=w or PATTERN=rw"),
        ("--sub u --room OPS=r", f"--room: 'OPS' matches no room: {PATTERN_RULE}"),
        ("--sub u" + "".join(f" --room a{number}=r" for number in range(MAX_GRANTS + 1)), "--room: 101 patterns"),
        ("--sub u --room rw", "--room: 'rw' is not PATTERN=r, PATTERN=w or PATTERN=rw"),
        ("--sub u --expires 401d", "up to 400d"),
        ("--sub u --key /no/such/file", "--key: cannot read"),
        ("--sub u --role king", "--role: only `moderator`"),
        ("", "--sub"),
    ):
        given = flags.split() if "--key" in flags else ["--key", str(key), *flags.split()]
        assert run_command(["token", *given]) == 2, flags
        said = capsys.readouterr()
        assert (said.out, complaint in said.err) == ("", True), said.err


def test_a_public_key_does_not_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    for data, complaint in (
        (key_file("RS256"), "no private key for RS256"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no private key for RS256"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key for RS256"),
        (b"short", "a secret of 5 bytes"),
    ):
        key.write_bytes(data)
        assert run_command(["token", "--key", str(key), "--sub", "u"]) == 2
        assert complaint in capsys.readouterr().err


def test_a_time_is_a_whole_number_and_a_unit() -> None:
    assert [span(text) for text in ("90s", "10m", "1h", "30d")] == [90, 600, 3600, 2_592_000]
    for text in ("", "h", "0s", "1.5h", "-1h", "1w", "9" * 30 + "s", "1000d"):
        with pytest.raises(ConfigError):
            span(text)
