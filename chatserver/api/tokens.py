"""Verifying the tokens with which people sign in (JWT, RFC 7519).

Owns: the requirements for a token, a cache of verified ones, and how many bad ones a network may send. May not: know a
request; a refusal never says which check has failed.

Cheap checks come first. A verification takes 39 µs with HS256, 103 with EdDSA, and runs on the loop, since a thread
would add 60.
"""

import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jwt
import msgspec
import structlog
import trio

from chatserver.api.keys import KeyRing
from chatserver.chat.policy import Rights, rights_of
from chatserver.chat.principal import User, pack, user_number
from chatserver.meters import KeyedBuckets
from chatserver.observe.logs import Limiter
from chatserver.protocol.errors import MessageError, too_often
from chatserver.protocol.validation import MAX_NAME_CHARS, check_name, check_user_id
from chatserver.reasons import ErrorCode

#: Seconds that an issuer's clock may be ahead of ours.
CLOCK_SKEW = 10.0
#: Seconds from now for which a token may be valid: as long as sign-outs are remembered.
MAX_LIFETIME = 400 * 24 * 3600.0
#: Verified tokens that are remembered, 1 KB each: a bot sends the same one with each request.
CACHED_TOKENS = 4096
#: Invalid tokens of a network that are checked: a second, and in one burst.
FAILURE_RATE, FAILURE_BURST = 5.0, 50.0
#: Keys that one token is tried with, if it does not name its own: 0.4 ms of the loop with EdDSA.
MAX_TRIED = 4
#: Algorithms of published keys; a token may arrive before the provider's new key does.
PUBLISHED = ("RS256", "ES256", "EdDSA")
#: Characters of a token, as many as a cookie holds: an RS256 token with a page of claims has 2,000.
MAX_TOKEN_CHARS = 4096
#: Seconds after which a token of an unknown key should be sent again: the key is fetched by then.
KEYS_RETRY = 1.0

_log = structlog.get_logger("chatserver.tokens")


class RefusedError(MessageError):
    """A token that is refused."""


def refused(wait: float | None = None) -> RefusedError:
    """The refusal, with the same words whatever is wrong with the token."""
    return RefusedError(ErrorCode.UNAUTHENTICATED, "this token is not valid; sign in again", wait=wait)


class TooLongError(ValueError):
    """A token that is valid for longer than sign-outs are remembered."""


class UnknownKeyError(ValueError):
    """A token of a key (`kid`) or an algorithm of which there is no key."""


class TooManyKeysError(ValueError):
    """A token that does not name its key, of more keys than are tried."""


class _Header(msgspec.Struct):
    alg: str
    kid: str | None = None


class _Chat(msgspec.Struct):
    role: str | None = None
    rooms: dict[str, str] | None = None


class _Claims(msgspec.Struct):
    sub: str
    exp: float
    iat: float | None = None
    name: object = None  # unusable if it is no text
    chat: _Chat | None = None


class Verified(msgspec.Struct, frozen=True, gc=False):
    number: int
    packed: bytes  # see `SignedIn`
    rights: Rights
    issued: float  # on the wall clock; 0: not in the token
    expires: float  # on the wall clock


_headers = msgspec.json.Decoder(_Header)
_claims = msgspec.json.Decoder(_Claims)


class Tokens:
    """See the module; one for the server."""

    def __init__(
        self, keys: KeyRing, secret: bytes, *, issuer: str = "", audience: str = "",
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:  # fmt: skip
        self._keys = keys
        self._secret = secret
        self._issuer = issuer or None
        self._audience = audience or None
        self._wall = wall
        self._clock = clock
        self._options: Any = {"require": ["exp", "sub"], "verify_aud": bool(audience)}
        self._verified: dict[str, Verified] = {}
        self._generation = keys.generation
        self._failures: KeyedBuckets[str] = KeyedBuckets(FAILURE_RATE, burst=FAILURE_BURST)
        self._lines = Limiter()

    def verify(self, token: str, network: str) -> Verified:
        """Verify a token, and return its user. Raises RefusedError."""
        if self._generation != self._keys.generation:
            self._verified.clear()
            self._generation = self._keys.generation
        known = self._verified.get(token)
        if known is not None and known.expires > self._wall():
            return known
        try:
            found = self._verify(token, network)
        except RefusedError:
            raise
        except (MessageError, msgspec.ValidationError) as error:  # for the operator: the rule that a claim breaks
            self._lines.write(_log.info, "token_refused", reason=type(error).__name__, problem=str(error))
            raise refused() from None
        except (ValueError, TypeError, OverflowError, RecursionError, jwt.PyJWTError) as error:
            # Only the type of the error, since its message may quote the token.
            self._lines.write(_log.info, "token_refused", reason=type(error).__name__)
            raise refused() from None
        if len(self._verified) >= CACHED_TOKENS:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = found
        return found

    def sweep(self) -> None:
        """Forget the networks that have sent no bad tokens lately."""
        self._failures.sweep(self._clock())
        self._lines.report()

    def _verify(self, token: str, network: str) -> Verified:
        if len(token) > MAX_TOKEN_CHARS:
            raise jwt.DecodeError
        wait = self._failures.wait(network, self._clock())
        if wait > 0.0:
            raise RefusedError(ErrorCode.RATE_LIMITED, too_often(wait, "invalid tokens"), wait=wait)
        parts = token.split(".")
        if len(parts) != 3:
            raise jwt.DecodeError
        header = _headers.decode(_decoded(parts[0]))
        claims = _claims.decode(_decoded(parts[1]))
        left = claims.exp - self._wall()
        if left <= 0:
            raise jwt.ExpiredSignatureError
        if left > MAX_LIFETIME:
            raise TooLongError
        user_id = check_user_id(claims.sub, "sub")
        self._check_signature(token, header, network)
        chat = claims.chat or _Chat()
        rights = rights_of(chat.role, None if chat.rooms is None else tuple(chat.rooms.items()))
        face = User(user_id, self._name(claims.name) or name_of(user_id))
        number, packed = user_number(user_id, self._secret), pack(face, claims.exp)
        return Verified(number, packed, rights, claims.iat or 0.0, claims.exp)

    def _name(self, name: object) -> str:
        """The name that a token gives, if it can be shown; an unusable one does not prevent a sign-in."""
        try:
            return check_name(name) if isinstance(name, str) and name else ""
        except MessageError as error:
            self._lines.write(_log.info, "token_name_ignored", reason="unusable", problem=error.message)
            return ""

    def _check_signature(self, token: str, header: _Header, network: str) -> None:
        """Check the signature with our keys, and with PyJWT also `nbf`, `iat`, `iss`, `aud` and `crit`."""
        keys = self._keys.find(header.alg, header.kid)
        if len(keys) > MAX_TRIED:
            raise TooManyKeysError
        try:
            if not keys:
                raise UnknownKeyError
            for each in keys:
                with suppress(jwt.InvalidSignatureError):
                    jwt.decode(
                        token, each.key, algorithms=[each.algorithm], options=self._options, issuer=self._issuer,
                        audience=self._audience, leeway=CLOCK_SKEW,
                    )  # fmt: skip
                    return
            raise jwt.InvalidSignatureError
        except Exception:
            self._failures.take(network, self._clock())
            unknown = not keys or (header.kid is not None and all(key.name != header.kid for key in keys))
            if unknown and header.alg in PUBLISHED and self._keys.fetch_unknown():
                raise refused(KEYS_RETRY) from None
            raise


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def name_of(user_id: str) -> str:
    """The name of a user for whom only the id is known."""
    try:
        return check_name(user_id)
    except MessageError:
        return user_id[:MAX_NAME_CHARS]
