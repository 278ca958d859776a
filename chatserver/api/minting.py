"""Making tokens, for scripts and tests: `chatserver token`.

Owns: the claims of such a token. May not: be part of a running server; another program signs people in.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from chatserver.api.keys import keys_in, public_key
from chatserver.api.tokens import MAX_LIFETIME
from chatserver.chat.policy import rights_of
from chatserver.protocol.errors import MessageError
from chatserver.protocol.validation import check_name, check_user_id
from chatserver.settings import forms
from chatserver.settings.rooms import PATTERN, PATTERN_RULE
from chatserver.settings.spec import ConfigError

_DAY = 86_400


def mint(
    key: Path, sub: str, *, name: str, role: str, rooms: Sequence[str], expires: str, issuer: str, audience: str
) -> str:
    """Make a token with these claims, as far as they are not empty. Raises ConfigError."""
    algorithm, signing = _signing_key(key)
    now, granted = int(time.time()), dict(map(_grant, rooms))
    try:
        check_user_id(sub, "sub")
        name = name and check_name(name)
        rights_of(role or None, tuple(granted.items()))
    except (MessageError, ValueError) as error:
        field, _, why = str(error).partition(": ")
        raise ConfigError("room" if field == "rooms" else field, why) from None
    chat = _given(role=role, rooms=granted)
    claims = _given(sub=sub, iat=now, exp=now + span(expires), name=name, chat=chat, iss=issuer, aud=audience)
    return jwt.encode(claims, signing, algorithm=algorithm)


def _given(**claims: object) -> dict[str, object]:
    """The claims that are not empty."""
    return {name: value for name, value in claims.items() if value}


def span(text: str) -> int:
    """Seconds of `90s`, `10m`, `1h` or `30d`. Raises ConfigError."""
    try:
        seconds = forms.span(text)
    except ValueError as error:
        raise ConfigError("expires", str(error)) from None
    if seconds > MAX_LIFETIME:
        raise ConfigError("expires", f"{text!r} is too long, a token holds up to {MAX_LIFETIME / _DAY:.0f}d")
    return seconds


def _grant(text: str) -> tuple[str, str]:
    pattern, equals, letters = text.rpartition("=")
    if not equals or letters not in ("r", "w", "rw"):
        raise ConfigError("room", f"{text!r} is not PATTERN=r, PATTERN=w or PATTERN=rw")
    if not PATTERN.fullmatch(pattern):
        raise ConfigError("room", f"{pattern!r} matches no room: {PATTERN_RULE}")
    return pattern, letters


def _signing_key(path: Path) -> tuple[str, Any]:
    """The algorithm and the signing key: a secret, or a private key in PEM form."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError("key", f"cannot read {path}: {error.strerror}") from error
    if b"-----BEGIN" not in data:
        try:
            secret = keys_in(data)[0].key
        except ValueError as error:
            raise ConfigError("key", f"{path}: {error}") from None
        if not isinstance(secret, bytes):
            raise ConfigError("key", f"{path}: a public key verifies tokens; the private one signs them")
        return "HS256", secret
    try:
        key = load_pem_private_key(data, None)
        return public_key(key.public_key()).algorithm, key
    except (ValueError, TypeError, UnsupportedAlgorithm):
        sentence = "no private key for RS256 (2,048 bits or more), ES256 or EdDSA in PEM form, or one with a password"
        raise ConfigError("key", f"{path}: {sentence}") from None
