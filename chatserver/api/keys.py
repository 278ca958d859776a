"""The keys that tokens are verified with.

Owns: reading them, and the algorithm of each, which comes from the key, never from a token. May not: verify.

    a secret of at least 32 bytes     HS256      created if the file is missing at the start, for its owner only
    public keys in PEM form           RS256, ES256 or EdDSA: RSA of 2,048 bits or more, P-256, Ed25519
    a JWK or a set of them (JSON)     the same four; other keys are skipped

A public key in another form is refused. As a secret it would let everybody who knows it sign tokens.
"""

import os
import re
import secrets
from base64 import b64decode
from codecs import BOM_UTF8
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jwt
import msgspec
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    load_der_public_key,
    load_pem_public_key,
    load_ssh_public_key,
)
from cryptography.x509 import load_der_x509_certificate

from chatserver.settings.spec import ConfigError, read_file

if TYPE_CHECKING:
    from chatserver.api.published_keys import PublishedKeys

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

#: Bytes of a secret: the length of an HMAC-SHA256 (RFC 7518 section 3.2).
MIN_SECRET = 32
#: Bits of an RSA key (RFC 7518 section 3.3).
MIN_RSA_BITS = 2048
#: Bytes of a file or an answer with keys: providers publish two to ten keys, a few KB.
MAX_KEY_BYTES = 256 * 1024
#: Keys in one set.
MAX_KEYS = 32

_PRIVATE = b"PRIVATE KEY-----"
_PEM = re.compile(rb"-----BEGIN .*?-----END [^-]*-----", re.DOTALL)

_log = structlog.get_logger("chatserver.keys")


class Key(NamedTuple):
    """A key, its algorithm, and its id (`kid`), if it has one."""

    algorithm: str
    key: bytes | PublicKey
    name: str | None = None


class KeyRing:
    """All keys of a server: those in files, and those that a provider publishes. Raises ConfigError."""

    def __init__(self, paths: Sequence[str] = (), published: "PublishedKeys | None" = None) -> None:
        self._paths = paths
        self._own: list[Key] = []
        self._reloads = 0
        self._published = published
        for path in map(Path, paths):
            _make_if_missing(path)
        self.reload()

    def reload(self) -> None:
        """Read the files again. If that raises ConfigError, the keys stay as they were."""
        self._own = [key for path in self._paths for key in read_keys(Path(path))]
        self._reloads += 1

    @property
    def generation(self) -> int:
        """Changes whenever tokens that were verified may have become invalid."""
        return self._reloads + (0 if self._published is None else self._published.fetches)

    @property
    def _all(self) -> list[Key]:
        return self._own if self._published is None else [*self._own, *self._published.keys]

    def find(self, algorithm: str, name: str | None) -> list[Key]:
        """The candidate keys for a token that names this algorithm and perhaps a key."""
        return [
            key
            for key in self._all
            if key.algorithm == algorithm and (key.name is None or name is None or key.name == name)
        ]

    def fetch_unknown(self) -> bool:
        """Have the provider asked for a key that is not here. True: it may come soon."""
        return self._published is not None and self._published.fetch_unknown()

    def __len__(self) -> int:
        return len(self._all)


def read_keys(path: Path) -> list[Key]:
    """The keys in a file. Raises ConfigError."""
    try:
        keys = keys_in(read_file("token-key", path))
        private = path.stat().st_mode & 0o077 == 0
    except (OSError, ValueError) as error:
        raise ConfigError("token-key", f"{path}: {error}") from None
    if not private and any(key.algorithm == "HS256" for key in keys):
        _log.warning("token_key_is_readable", path=str(path), hint="other users can sign tokens with it: chmod 600")
    return keys


def _make_if_missing(path: Path) -> None:
    """Make a secret. At the start only: at a reload, a file that is missing for a moment would end all tokens."""
    if path.suffix in (".pem", ".pub", ".json"):
        return
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
        try:
            with file:
                file.write(secrets.token_urlsafe(MIN_SECRET).encode() + b"\n")
        except OSError:  # a full disk: later starts would refuse the empty file
            path.unlink()
            raise
    except FileExistsError:
        return
    except OSError as error:
        raise ConfigError("token-key", f"cannot make {path}: {error.strerror}") from error
    _log.info("token_key_made", path=str(path))


def keys_in(data: bytes) -> list[Key]:
    """The keys in some bytes. Raises ValueError, whose message contains no part of a key."""
    if len(data) > MAX_KEY_BYTES:
        raise ValueError(f"{len(data):,} bytes, limit {MAX_KEY_BYTES:,}")
    if _PRIVATE in data:
        raise ValueError("a private key signs tokens and does not belong here; give the public one")
    if b"-----BEGIN" in data.replace(b"\0", b""):  # zero bytes: UTF-16, of which no key can be read
        keys = [_public_key_of(pem) for pem in _PEM.findall(data)]
        if not keys:
            raise ValueError("no complete key in PEM form, in ASCII")
        return keys
    secret = data.removeprefix(BOM_UTF8).strip()
    if secret.startswith((b"{", b"[")):
        return keys_of_set(secret)
    if _is_public(data):
        raise ValueError("a public key or a certificate, but not in PEM form; give the public key in PEM form")
    if len(secret) < MIN_SECRET:
        raise ValueError(f"a secret of {len(secret)} bytes, at least {MIN_SECRET} are needed")
    return [Key("HS256", secret)]


def _public_key_of(pem: bytes) -> Key:
    try:
        return public_key(load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no public key that can be used: RSA of 2,048 bits, P-256 or Ed25519") from None


def _is_public(data: bytes) -> bool:
    """Whether this is a public key or a certificate: of OpenSSH, in DER, or in base64 without the lines of PEM."""
    with suppress(ValueError, UnsupportedAlgorithm):
        load_ssh_public_key(data)
        return True
    for load, read in product((load_der_public_key, load_der_x509_certificate), (bytes, b64decode)):
        with suppress(ValueError, UnsupportedAlgorithm):
            load(read(data))
            return True
    return False


def public_key(key: object, name: str | None = None) -> Key:
    """A public key with its algorithm. Raises ValueError."""
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return Key("RS256", key, name)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return Key("ES256", key, name)
    if isinstance(key, Ed25519PublicKey):
        return Key("EdDSA", key, name)
    raise ValueError("keys of this kind are not supported")


def keys_of_set(data: bytes, *, secrets_too: bool = True) -> list[Key]:
    """The usable keys of a JWK set, or of a single JWK. Raises ValueError."""
    try:
        whole = msgspec.json.decode(data, type=dict[str, Any])
        found = msgspec.convert(whole.get("keys", [whole]), list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("neither a secret, nor a public key in PEM form, nor a set of JSON web keys") from None
    keys = list(_usable(found[:MAX_KEYS], secrets_too=secrets_too))
    if not keys:
        raise ValueError("a set of keys of which none can be used: HS256, RS256, ES256 or EdDSA")
    return keys


def _usable(found: Iterable[dict[str, Any]], *, secrets_too: bool) -> Iterable[Key]:
    for each in found:
        if "d" in each:
            raise ValueError("a private key signs tokens and does not belong here; give the public one")
        if each.get("use", "sig") != "sig":
            continue
        name = each["kid"] if isinstance(each.get("kid"), str) else None
        try:
            made = jwt.PyJWK({key: value for key, value in each.items() if key != "alg"}).key
            key = Key("HS256", made, name) if isinstance(made, bytes) else public_key(made, name)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
            continue
        if isinstance(made, bytes) and (len(made) < MIN_SECRET or not secrets_too):
            continue
        if each.get("alg", key.algorithm) == key.algorithm:
            yield key
