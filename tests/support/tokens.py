"""Valid and invalid keys and tokens for tests; made once for a run, since an RSA key takes a tenth of a second."""

import base64
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from chatserver.api.keys import KeyRing
from chatserver.api.tokens import Tokens
from chatserver.chat.principal import SignedIn

#: For each algorithm the key that signs.
SECRET = b"a secret of this test run, 0123456789"
ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")


@cache
def signing_key(algorithm: str, number: int) -> Any:
    if algorithm == "HS256":
        return SECRET + b"x" * number
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def key_file(algorithm: str, number: int = 0) -> bytes:
    """The key that verifies, as a file for --token-key."""
    key = signing_key(algorithm, number)
    if algorithm == "HS256":
        return bytes(key)
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def private_pem(algorithm: str) -> bytes:
    pem: bytes = signing_key(algorithm, 0).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def jwk(algorithm: str, number: int = 0, **fields: Any) -> dict[str, Any]:
    """The same as a JSON web key."""
    key = signing_key(algorithm, number)
    public = key if algorithm == "HS256" else key.public_key()
    kinds: dict[str, Any] = {
        "HS256": jwt.algorithms.HMACAlgorithm, "RS256": jwt.algorithms.RSAAlgorithm,
        "ES256": jwt.algorithms.ECAlgorithm, "EdDSA": jwt.algorithms.OKPAlgorithm,
    }  # fmt: skip
    return {**json.loads(kinds[algorithm].to_jwk(public)), **fields}


def verified(token: str, *key_files: Path | str, **options: Any) -> SignedIn:
    """The user of a token that the server accepts with these keys. Raises RefusedError."""
    found = Tokens(KeyRing([*map(str, key_files)]), bytes(16), clock=lambda: 0.0, **options).verify(token, "here")
    return SignedIn(found.number, "here", found.packed, found.rights)


def secret_file(folder: Path) -> str:
    """The path of a file with SECRET, for --token-key."""
    path = folder / "token.key"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return str(path)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def token(algorithm: str = "HS256", number: int = 0, *, kid: str | None = None, **claims: Any) -> str:
    """A token of u_ann for an hour; claims replace the usual ones, or remove them if None."""
    said = {"sub": "u_ann", "name": "Ann", "iat": int(time.time()), "exp": int(time.time()) + 3600, **claims}
    said = {name: value for name, value in said.items() if value is not None}
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(said, signing_key(algorithm, number), algorithm=algorithm, headers=headers)


def unsigned(header: object, claims: object, signature: bytes = b"") -> str:
    """Any header and claims in the form of a token."""
    parts = (header if isinstance(header, bytes) else json.dumps(header).encode(),
             claims if isinstance(claims, bytes) else json.dumps(claims).encode(), signature)  # fmt: skip
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
