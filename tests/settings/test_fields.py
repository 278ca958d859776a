import json
import math
import re
import resource
from pathlib import Path
from unittest.mock import Mock, call

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net import descriptors
from chatserver.settings.describe import shown_value
from chatserver.settings.fields import SPECS, TYPES, Settings, flag_name
from chatserver.settings.sources import load_settings, variable_name
from chatserver.settings.spec import ConfigError, Section, Unit, plain
from tests.support.errors import error_of

NUMBERS = [name for name, kind in TYPES.items() if kind in {int, float}]


def load(flags: dict[str, object] | None = None, environ: dict[str, str] | None = None) -> Settings:
    return load_settings(flags or {}, environ or {}, None)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "chat.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_number_has_a_unit_bounds_and_a_reason() -> None:
    for name in set(NUMBERS) - {"port", "workers"}:
        spec = SPECS[name]
        assert spec.unit is not Unit.NONE, name
        assert spec.reason, name
        assert spec.meaning.endswith("."), name
        assert spec.section is not Section.SERVICE, name
        assert math.isfinite(spec.maximum), name
        default = getattr(Settings(), name)
        assert spec.minimum <= default <= spec.maximum or (default == 0 and spec.zero is not None), name


def test_bounds_are_enforced_and_zero_means_none_only_where_documented() -> None:
    for name in NUMBERS:
        spec = SPECS[name]
        wrong = [spec.maximum + 1, -1]
        if spec.zero is not None or spec.minimum == 0:
            assert getattr(load({name: "0"}), name) == 0
        else:
            wrong.append(0)
        for value in wrong:
            error = error_of(ConfigError, load, {name: str(int(value))})
            assert re.match(f"--{flag_name(name)}: .*(above the maximum|below the minimum)", str(error))
            assert error.flag == flag_name(name)
        assert spec.section is not Section.DEADLINES or 0 in wrong, "a deadline cannot be switched off"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Notepad of Windows writes one."""
    assert load_settings({}, {}, toml(tmp_path, "\ufeffport = 1")).port == 1


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, 'port = 1\nhead-deadline = 2\nbody_deadline = 3\nhost = ["::1", "127.0.0.1"]\nquiet = true')
    environ = {"CHATSERVER_PORT": "10", "CHATSERVER_HEAD_DEADLINE": "20", "PORT": "30"}
    settings = load_settings({"port": "100", "per_ip": None}, environ, path)
    assert (settings.port, settings.head_deadline, settings.body_deadline) == (100, 20.0, 3.0)
    assert settings.host == ("::1", "127.0.0.1")
    assert settings.quiet is True
    assert settings.per_ip == Settings().per_ip


def test_every_setting_can_come_from_each_source(tmp_path: Path) -> None:
    for name in SPECS:
        default = getattr(Settings(), name)
        text = ",".join(default) if isinstance(default, tuple) else str(default)
        assert load({name: text}) == load(environ={variable_name(name): text}) == Settings(), name
        value = f'"{text}"' if isinstance(default, str | tuple) else text.lower()
        for key in (name, flag_name(name)):
            assert load_settings({}, {}, toml(tmp_path, f"{key} = {value}")) == Settings(), key


def test_texts_of_variables() -> None:
    for name, text, value in (
        ("quiet", "yes", True),
        ("echo", " Off ", False),
        ("host", "::1, 127.0.0.1", ("::1", "127.0.0.1")),
        ("allow_host", "", ()),
        ("allow_origin", "https://a.example, https://b.example", ("https://a.example", "https://b.example")),
        ("port", "0", 0),
        ("evict_after", " .5", 0.5),
    ):
        assert getattr(load(environ={variable_name(name): text}), name) == value


def test_an_invalid_value_is_an_error_of_one_line_that_names_the_flag() -> None:
    for name, value, words in (
        ("port", "x", "'x' is not a whole number"),
        ("port", "1.5", "'1.5' is not a whole number"),
        ("port", "", "'' is not a whole number"),
        ("port", "1_000", "'1_000' is not a whole number"),
        ("port", True, "True is not a whole number"),
        ("port", 8000.0, "8000.0 is not a whole number"),
        ("port", "65536", "65536 is above the maximum, 65535"),
        ("head_deadline", "nan", "nan is not a finite number"),
        ("head_deadline", "inf", "inf is not a finite number"),
        ("head_deadline", "0", "0 s is below the minimum, 0.1 s"),
        ("per_ip", "-1", "-1 connections is below the minimum, 1 connections (or 0: no cap)"),
        ("max_message_bytes", "67108865", "67108865 B is above the maximum, 67108864 B"),
        ("send_buffer", "0", "0 B is below the minimum, 4096 B"),
        ("retain_age", "20000000000.5", "20000000000.5 s is above the maximum, 10000000000 s"),
        ("head_deadline", "0.00001", "0.00001 s is below the minimum, 0.1 s"),
        ("port", "9" * 400, f"{'9' * 400} is above the maximum, 65535"),
        ("quiet", "maybe", "'maybe' is neither true nor false"),
        ("quiet", 1, "1 is neither true nor false"),
        ("log", "mysql://x", "'mysql://x' is none of memory:, sqlite:PATH and postgresql://USER@HOST/DATABASE"),
        ("log", 5, "5 is no text"),
        ("log", "sqlite:\udcfc", r"'sqlite:\udcfc' is no text"),
        ("log_format", "xml", "'xml' is none of auto, pretty, json"),
        ("host", [], "at least one address is needed"),
        ("host", "", "at least one address is needed"),
        ("host", "a,,b", "an entry is empty"),
        ("host", [1], "[1] is not a list of texts"),
        ("host", "\udcfc", r"'\udcfc' is not a list of texts"),
    ):
        assert str(error_of(ConfigError, load, {name: value})) == f"--{flag_name(name)}: {words}"


def test_a_complaint_names_flag_and_source(tmp_path: Path) -> None:
    values: tuple[tuple[str, object], ...] = (
        ("port", "tcp://x"),
        ("port", 70_000),
        ("allow_origin", "https://app.example/"),
        ("allow_origin", "https://app.example,null"),
        ("allow_host", "http://chat.example"),
        ("metrics_listen", "9100"),
        ("trusted_proxy", "10.0.0.0/8,nobody"),
        ("host", ""),
    )
    for name, value in values:
        flag, variable = flag_name(name), variable_name(name)
        assert re.match(f"--{flag}: [^(]*$", str(error_of(ConfigError, load, {name: value})))
        assert re.match(
            rf"--{flag}: .* \(from {variable}\)$", str(error_of(ConfigError, load, {}, {variable: str(value)}))
        )
        with pytest.raises(ConfigError, match=rf"^--{flag}: .* \(from .*chat\.toml\)$"):
            load_settings({}, {}, toml(tmp_path, f"{name} = {json.dumps(value)}"))


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    for text, words in (
        ("head-deadlin = 3", "did you mean head-deadline?"),
        ("port = ", "is not TOML"),
        ("port = 1\nport = 2", "is not TOML"),
        ("port = " + "[" * 5000, "is not TOML"),
        ("port = " + "1" * 5000, "is not TOML"),
        ("port = 0x" + "f" * 5000, "is not TOML"),
        ("head-deadline = 1\nhead_deadline = 2", "sets head-deadline twice"),
        ("[serve]\nport = 1", "sets 'serve', which is no setting"),
        ('[room."x"]\nread = "everyone"', "sets 'room', which is no setting, did you mean rooms?"),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)) as caught:
            load_settings({}, {}, toml(tmp_path, text))
        assert caught.value.flag == "config"


def test_a_variable_that_is_no_setting_is_named() -> None:
    for variable, hint in (
        ("CHATSERVER_MAX_CONNECTION", ", did you mean CHATSERVER_MAX_CONNECTIONS?"),
        ("CHATSERVER_max_connections", ", did you mean CHATSERVER_MAX_CONNECTIONS?"),
        ("CHATSERVER_UNKNOWN_SERVICE_NAME", ""),
        ("CHATSERVER_", ""),
    ):
        said = f"the environment sets {variable}, which is no setting{hint}"
        assert str(error_of(ConfigError, load, {}, {variable: "5"})) == said


def test_variables_that_kubernetes_sets_for_a_service_are_ignored() -> None:
    """A Service named `chatserver` sets CHATSERVER_PORT, which is no number."""
    for name in ("CHATSERVER_WEB", "CHATSERVER"):
        environ = {
            f"{name}_SERVICE_HOST": "10.0.0.1",
            f"{name}_SERVICE_PORT_HTTP": "80",
            f"{name}_PORT": "tcp://10.0.0.1:80",
            f"{name}_PORT_80_TCP_ADDR": "10.0.0.1",
        }
        assert load(environ=environ) == Settings()
        assert load(environ={**environ, "CHATSERVER_PORT": "9000"}) == Settings(port=9000)


def test_values_that_depend_on_each_other() -> None:
    cases: tuple[tuple[dict[str, object], str], ...] = (
        (
            {"body_deadline": 86_400, "body_deadline_max": 10},
            "--body-deadline-max: 10 s is below --body-deadline, 86400 s",
        ),
        (
            {"all_unfinished_bytes": 65_536, "max_message_bytes": 65_537},
            "--all-unfinished-bytes: .*--max-message-bytes",
        ),
        ({"all_unfinished_bytes": 65_536, "max_body_bytes": 65_537}, "--all-unfinished-bytes: .* --max-body-bytes"),
        ({"tls_cert": "c.pem"}, "--tls-cert: needs --tls-key beside it"),
        ({"tls_key": "k.pem"}, "--tls-key: needs --tls-cert beside it"),
        ({"proxy_protocol": True}, "--proxy-protocol: needs --trusted-proxy"),
        ({"user_header": "X-User"}, "--user-header: needs --trusted-proxy"),
        ({"token_issuer": "https://id.example"}, "--token-issuer: needs --token-key or --token-jwks"),
        ({"token_audience": "chat"}, "--token-audience: needs --token-key or --token-jwks"),
        ({"guests": "none"}, "--guests: none needs a way to sign in"),
        ({"workers": 2, "log": "memory:"}, "--workers: needs a log that processes can share"),
        ({"proxy_protocol": True, "trusted_proxy": "10.0.0.1"}, ""),
        ({"user_header": "X-User", "trusted_proxy": "10.0.0.1"}, ""),
        ({"guests": "none", "token_key": "key.pem", "token_issuer": "me", "token_audience": "chat"}, ""),
        ({"guests": "none", "token_jwks": "https://login.example/keys"}, ""),
        ({"guests": "none", "user_header": "X-User", "trusted_proxy": "10.0.0.1"}, ""),
        ({"workers": 1, "log": "memory:"}, ""),
    )
    for fields, words in cases:
        if words:
            assert re.match(words, str(error_of(ConfigError, load, fields)))
        else:
            load(fields)


@given(st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_shown_with_every_digit_and_no_exponent(value: float) -> None:
    shown = plain(value)
    assert re.fullmatch(r"-?\d+(\.\d+)?", shown)
    assert type(value)(shown) == value
    assert plain(value, ",").replace(",", "") == shown


def test_a_value_is_shown_in_full() -> None:
    for name, value, shown in (
        ("max_body_bytes", 1_048_576, "1,048,576 B"),
        ("retain_age", 1_234_567.5, "1,234,567.5 s"),
        ("retain_age", 100_000.25, "100,000.25 s"),
        ("head_deadline", 10.0, "10 s"),
        ("port", 65_535, "65535"),
        ("port", 0, "0"),
        ("per_ip", 0, "0 (no cap)"),
        ("quiet", False, "False"),
        ("log", "memory:", "memory:"),
        ("tls_cert", "", "plain http"),
        ("allow_host", ("a", "b"), "a b"),
        ("allow_origin", (), "its own page only"),
    ):
        assert shown_value(name, value) == shown, name


def test_connections_follow_from_descriptors() -> None:
    reserved = descriptors.RESERVED_DESCRIPTORS
    assert descriptors.connection_limit(0, descriptors=1024) == 1024 - reserved
    for limit in (1, 500, 1024 - reserved):
        assert descriptors.connection_limit(limit, descriptors=1024) == limit
    assert descriptors.connection_limit(0, descriptors=reserved + 1) == 1
    with pytest.raises(ConfigError, match=r"--max-connections: 1000 needs 1064 descriptors, .* allows 1024"):
        descriptors.connection_limit(1000, descriptors=1024)
    with pytest.raises(ConfigError, match="--max-connections"):
        descriptors.connection_limit(0, descriptors=reserved)


def test_the_soft_limit_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of 2^30 descriptors would take 8 GB of the kernel's memory, or not be granted at all."""
    for soft, hard, usable, raised in (
        (1024, 4096, 4096, True),
        (4096, 4096, 4096, False),
        (1024, resource.RLIM_INFINITY, descriptors.MAX_DESCRIPTORS, True),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, descriptors.MAX_DESCRIPTORS, False),
        (1 << 30, 1 << 30, descriptors.MAX_DESCRIPTORS, False),  # in many containers
    ):
        set_limit = Mock()
        monkeypatch.setattr(resource, "getrlimit", Mock(return_value=(soft, hard)))
        monkeypatch.setattr(resource, "setrlimit", set_limit)
        assert descriptors.raise_descriptor_limit() == usable
        assert set_limit.mock_calls == [call(resource.RLIMIT_NOFILE, (usable, hard))] * raised, (soft, hard)


def test_a_system_that_grants_less_than_its_hard_limit_is_asked_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS: the hard limit is infinite, the system grants kern.maxfilesperproc, and 256 are the default."""
    granted: list[int] = []

    def grant(_what: int, limits: tuple[int, int]) -> None:
        if limits[0] > 245_760:
            raise ValueError("current limit exceeds maximum limit")
        granted.append(limits[0])

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", grant)
    assert granted == [descriptors.raise_descriptor_limit()] == [131_072]


def test_a_system_that_refuses_keeps_its_soft_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_what: int, _limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1 << 60))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_descriptor_limit() == 256
