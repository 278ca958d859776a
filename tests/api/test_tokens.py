"""The requirements for a token. All refusals have the same words."""

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from structlog.testing import capture_logs

from chatserver.api import tokens as tokens_module
from chatserver.api.keys import KeyRing
from chatserver.api.published_keys import PublishedKeys
from chatserver.api.tokens import (
    FAILURE_BURST,
    KEYS_RETRY,
    MAX_LIFETIME,
    MAX_TOKEN_CHARS,
    MAX_TRIED,
    RefusedError,
    Tokens,
)
from chatserver.chat.policy import OPEN, Action, rights_of
from chatserver.chat.principal import SignedIn
from chatserver.observe.logs import LINES_PER_SECOND
from chatserver.reasons import ErrorCode
from tests.support.tokens import ALGORITHMS, SECRET, jwk, key_file, token, unsigned

LOG_SECRET = b"0123456789abcdef"
CLAIMS = {"sub": "u_ann", "exp": 4_000_000_000}


class Clock:
    """The monotonic and the wall clock of a test."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.asleep = 0.0  # the machine was suspended, or its wall clock set

    def wall(self) -> float:
        return time.time() + self.passed + self.asleep

    def loop(self) -> float:
        return 1000.0 + self.passed


class Verifier:
    """Tokens verified with the keys in some files."""

    def __init__(
        self, folder: Path, *files: bytes, published: PublishedKeys | None = None, **options: Any
    ) -> None:  # fmt: skip
        self.folder = folder
        self.clock = Clock()
        self.keys = KeyRing([self.write(number, data) for number, data in enumerate(files)], published)
        self.tokens = Tokens(self.keys, LOG_SECRET, wall=self.clock.wall, clock=self.clock.loop, **options)

    def write(self, number: int, data: bytes) -> str:
        path = self.folder / f"key{number}"
        path.write_bytes(data)
        path.chmod(0o600)
        return str(path)

    def who(self, token: str, network: str = "here") -> SignedIn:
        found = self.tokens.verify(token, network)
        return SignedIn(found.number, network, found.packed, found.rights)

    def refuses(self, token: str, network: str = "here") -> RefusedError:
        with pytest.raises(RefusedError) as caught:
            self.tokens.verify(token, network)
        return caught.value


@pytest.fixture
def verifier(tmp_path: Path) -> Verifier:
    return Verifier(tmp_path, SECRET)


def test_each_kind_of_key_verifies_its_own_algorithm_and_no_other(tmp_path: Path) -> None:
    for algorithm in ALGORITHMS:
        verifier = Verifier(tmp_path, key_file(algorithm))
        ann = verifier.who(token(algorithm))
        assert (ann.face.id, ann.face.name, ann.is_guest, ann.network) == ("u_ann", "Ann", False, "here")
        assert ann.seconds_left == pytest.approx(3600.0, abs=5)
        assert ann.rights is rights_of(None, None)
        for other in ALGORITHMS:
            verifier.refuses(token(other, number=1))
    both = Verifier(tmp_path, *map(key_file, ALGORITHMS))
    assert len({both.who(token(each)).number for each in ALGORITHMS}) == 1


def test_a_public_key_is_not_used_as_a_secret(tmp_path: Path) -> None:
    """Key confusion: a public key, used as the key of an HMAC."""
    pem = key_file("RS256")
    verifier = Verifier(tmp_path, pem)
    for alg in ("HS256", "RS256", "none"):
        said = unsigned({"alg": alg, "typ": "JWT"}, CLAIMS).rstrip(".")
        for key in (pem, pem.strip(), pem + b"\n"):
            forged = hmac.new(key, said.encode(), hashlib.sha256).digest()
            verifier.refuses(unsigned({"alg": alg, "typ": "JWT"}, CLAIMS, forged))


BAD: dict[str, Any] = {
    "empty": "",
    "one part": "abc",
    "a header alone": token().partition(".")[0],
    "not base64": "!!!.???.***",
    "not JSON": unsigned(b"alg", b"sub"),
    "deep header": unsigned(b"[" * 900, CLAIMS),
    "deep claims": unsigned({"alg": "HS256"}, b'{"sub":' + b"[" * 900),
    "no alg": unsigned({}, CLAIMS),
    "alg is a list": unsigned({"alg": ["HS256"]}, CLAIMS),
    "none": unsigned({"alg": "none"}, CLAIMS),
    "HS512": unsigned({"alg": "HS512"}, CLAIMS, b"x" * 64),
    "no signature": unsigned({"alg": "HS256"}, CLAIMS),
    "wrong signature": unsigned({"alg": "HS256"}, CLAIMS, b"x" * 32),
    "another key": token(number=1),
    "cut": token()[:-1],
    "longer": token() + "A",
    "claims of another": ".".join((*token(sub="u_bob").split(".")[:2], token().split(".")[2])),
    "junk within": token().replace(".", "!.", 1),
    "no exp": token(exp=None),
    "exp a text": token(sub="u_bob").split(".")[0] + "." + unsigned({}, {**CLAIMS, "exp": "soon"}).split(".")[1] + ".",
    "expired": token(exp=int(time.time()) - 1),
    "negative": token(exp=-5),
    "too long": token(exp=int(time.time() + MAX_LIFETIME + 86_400)),  # the test may begin minutes after this line
    "endless": unsigned({"alg": "HS256"}, b'{"sub":"u","exp":1e999}'),
    "true": token(exp=True),
    "not yet": token(nbf=int(time.time()) + 3600),
    "from the future": token(iat=int(time.time()) + 3600),
    "no sub": token(sub=None),
    "a guest's sub": token(sub="g_2d4a90c4b1f0e37"),
    "sub with a line": token(sub="u\nann"),
    "an unknown role": token(chat={"role": "god"}),
    "chat a text": token(chat="moderator"),
    "rooms a list": token(chat={"rooms": ["*"]}),
    "huge": token(extra="x" * MAX_TOKEN_CHARS),
    "not ASCII": token().replace("e", "é", 1),
    "not ASCII at its end": token() + "é",
}


def test_a_bad_token_is_refused_in_the_same_words(verifier: Verifier) -> None:
    for bad, text in BAD.items():
        for _ in range(2):
            error = verifier.refuses(text, network=bad)
            assert (error.code, error.message, error.wait) == (
                ErrorCode.UNAUTHENTICATED, "this token is not valid; sign in again", None,
            ), bad  # fmt: skip
        assert verifier.who(token(extra=bad)).face.id == "u_ann", "other tokens are accepted"


def test_the_operator_is_told_the_kind_of_error_and_the_rule_of_a_claim_but_nothing_of_the_token(
    verifier: Verifier,
) -> None:
    with capture_logs() as logs:
        verifier.refuses(BAD["expired"])
        verifier.refuses(token("RS256"))
        verifier.refuses(unsigned({"alg": "HS256"}, {**CLAIMS, "sub": 42}))  # many issuers have numbers as ids
        verifier.refuses(BAD["a guest's sub"])
    assert [(each["event"], each["reason"], each.get("problem")) for each in logs] == [
        ("token_refused", "ExpiredSignatureError", None),
        ("token_refused", "UnknownKeyError", None),  # and not InvalidSignatureError, as if the token were forged
        ("token_refused", "ValidationError", "Expected `str`, got `int` - at `$.sub`"),
        ("token_refused", "MessageError", "sub: g_ begins the id of a guest"),
    ]


def test_lines_about_refused_tokens_are_limited_by_the_second(verifier: Verifier) -> None:
    with capture_logs() as logs:
        for _ in range(2):
            for _ in range(LINES_PER_SECOND + 1):
                verifier.refuses(BAD["expired"])
            verifier.tokens.sweep()
    assert [each.get("left_out") for each in logs] == ([None] * LINES_PER_SECOND + [1]) * 2


def test_a_sign_in_has_a_printable_name(verifier: Verifier) -> None:
    shown = {
        "Ann": "Ann",
        "  Ann  B ": "Ann B",
        "a\nb": "u_ann",
        "": "u_ann",
        None: "u_ann",
        "x" * 41: "u_ann",
        7: "u_ann",
    }
    with capture_logs() as logs:
        assert {name: verifier.who(token(name=name)).face.name for name in shown} == shown
    assert [(each["event"], each["problem"]) for each in logs] == [
        ("token_name_ignored", "name: character U+000A cannot be seen"),
        ("token_name_ignored", "name: 41 characters; 1 to 40 are allowed"),
    ]
    assert verifier.who(token(sub="u" * 64, name=None)).face.name == "u" * 40


def test_what_a_token_grants(verifier: Verifier) -> None:
    ann = verifier.who(token(chat={"rooms": {"team-*": "rw", "ops": "r"}}))
    assert [ann.may(Action.WRITE, room) for room in ("team-a", "ops", "lobby")] == [True, False, False]
    assert verifier.who(token(chat={"role": "moderator"})).may(Action.MODERATE, "*")
    for claim in ({}, {"rooms": None}, {"role": None, "new": 1}):
        assert verifier.who(token(chat=claim)).rights is rights_of(None, None)
    nothing = verifier.who(token(chat={"rooms": {}}))
    assert not nothing.may(Action.READ, "lobby")
    assert ann.access is OPEN


def test_issuer_and_audience_are_checked_when_they_are_set(tmp_path: Path) -> None:
    strict = Verifier(tmp_path, SECRET, issuer="https://id.example", audience="chat")
    for claims, holds in (
        ({"iss": "https://id.example", "aud": "chat"}, True),
        ({"iss": "https://id.example", "aud": ["mail", "chat"]}, True),
        ({"iss": "https://id.example", "aud": "mail"}, False),
        ({"iss": "https://id.example"}, False),
        ({"iss": "https://evil.example", "aud": "chat"}, False),
        ({"aud": "chat"}, False),
    ):
        said: Any = token(**claims)
        if holds:
            strict.who(said)
        else:
            strict.refuses(said)
        Verifier(tmp_path, SECRET).who(said)  # without the setting there is no check


def test_a_clock_may_be_a_little_wrong_but_not_for_the_end(tmp_path: Path) -> None:
    short = token(exp=int(time.time()) + 60)
    for how in ("passed", "asleep"):
        verifier = Verifier(tmp_path, SECRET)
        verifier.who(token(iat=int(time.time()) + 5, nbf=int(time.time()) + 5))
        for _ in range(2):
            verifier.who(short)
        setattr(verifier.clock, how, 61.0)
        verifier.refuses(short)


def test_verified_tokens_are_cached(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    decode = jwt.decode

    def counting(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return decode(*arguments, **options)

    monkeypatch.setattr(jwt, "decode", counting)
    monkeypatch.setattr(tokens_module, "CACHED_TOKENS", 2)
    one, two, three = (token(sub=sub) for sub in ("u_1", "u_2", "u_3"))
    for _ in range(5):
        verifier.who(one)
    assert len(calls) == 1
    for each in (two, three, two, three, one):
        verifier.who(each)
    assert len(calls) == 4, "the cache is bounded"
    verifier.keys.reload()
    for _ in range(2):
        verifier.who(one)
    assert len(calls) == 5, "new keys clear the cache once"


def test_only_the_network_that_forges_is_limited(verifier: Verifier) -> None:
    forged = [token(number=1, sub=f"u_{number}") for number in range(int(FAILURE_BURST) + 1)]
    codes = [verifier.refuses(each, "there").code for each in forged]
    assert codes == [ErrorCode.UNAUTHENTICATED] * int(FAILURE_BURST) + [ErrorCode.RATE_LIMITED]
    limited = verifier.refuses(token(), "there")
    assert limited.code is ErrorCode.RATE_LIMITED
    assert limited.wait == pytest.approx(0.2, abs=0.01)
    assert verifier.refuses(BAD["expired"], "there").code is ErrorCode.RATE_LIMITED, "the token is not verified"
    verifier.who(token(), "here")
    verifier.who(token(), "there")  # cached, because it was verified for another network
    verifier.clock.passed = 20.0
    verifier.tokens.sweep()
    assert not verifier.tokens._failures._states
    verifier.who(token(sub="u_bob"), "there")


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_set_has_keys_by_name(tmp_path: Path) -> None:
    keys = [
        jwk("RS256", kid="one", alg="RS256", use="sig"), jwk("RS256", 1, kid="two"), jwk("ES256", kid="three"),
        jwk("EdDSA", kid="four"), jwk("HS256", kid="five"), jwk("RS256", 2, kid="encrypts", use="enc"),
        jwk("RS256", 2, kid="another", alg="RS512"), {"kty": "RSA", "kid": "broken", "n": "AQAB"}, {"kty": "XYZ"},
    ]  # fmt: skip
    verifier = Verifier(tmp_path, json.dumps({"keys": keys}).encode())
    assert len(verifier.keys) == 5
    right = [("RS256", 0, "one"), ("RS256", 1, "two"), ("ES256", 0, "three"), ("EdDSA", 0, "four")]
    wrong = [("RS256", 0, "two"), ("RS256", 0, "nine"), ("RS256", 2, "encrypts"), ("ES256", 0, "one")]
    for algorithm, number, kid in right:
        verifier.who(token(algorithm, number, kid=kid))
        verifier.who(token(algorithm, number))  # without a name each key is tried
    verifier.who(token(kid="five"))
    for algorithm, number, kid in wrong:
        verifier.refuses(token(algorithm, number, kid=kid))
    single = Verifier(tmp_path, json.dumps(jwk("ES256")).encode())
    single.who(token("ES256", kid="any"))


def test_a_provider_is_asked_only_for_a_name_that_is_unknown(tmp_path: Path) -> None:
    published = PublishedKeys("https://id.example/keys")  # no fetch has succeeded yet
    verifier = Verifier(tmp_path, json.dumps(jwk("ES256", kid="one")).encode(), published=published)
    for algorithm, kid, wait in (
        ("ES256", "two", KEYS_RETRY), ("ES256", "one", None), ("ES256", None, None), ("HS256", "two", None),
        ("EdDSA", None, KEYS_RETRY),
    ):  # fmt: skip
        assert verifier.refuses(token(algorithm, 1, kid=kid)).wait == wait, (algorithm, kid)
    unnamed = Verifier(tmp_path, json.dumps(jwk("ES256")).encode(), published=published)
    for kid, wait in (("two", KEYS_RETRY), (None, None)):
        assert unnamed.refuses(token("ES256", 1, kid=kid)).wait == wait, "our key without a name may be another"


def test_a_token_that_does_not_name_its_key_is_tried_with_a_few(tmp_path: Path) -> None:
    """One token that was tried with 31 keys took 4 ms of the loop."""
    keys = [jwk("HS256", number, kid=f"key {number}") for number in range(MAX_TRIED + 1)]
    verifier = Verifier(tmp_path, json.dumps({"keys": keys[1:]}).encode())
    verifier.who(token(number=MAX_TRIED))
    verifier = Verifier(tmp_path, json.dumps({"keys": keys}).encode())
    verifier.who(token(number=MAX_TRIED, kid=f"key {MAX_TRIED}"))
    verifier.refuses(token(number=MAX_TRIED))
