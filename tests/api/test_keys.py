"""The keys that verify tokens, and the secret that is made when its file is missing."""

import json
import os
import re
import resource
import stat
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from structlog.testing import capture_logs

from chatserver.api.keys import MAX_KEY_BYTES, KeyRing, read_keys
from chatserver.settings.spec import ConfigError
from tests.support.errors import error_of
from tests.support.tokens import SECRET, jwk, key_file, private_pem


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def test_a_malformed_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for data, why in (
        (b"", "a secret of 0 bytes, at least 32"),
        (b"x" * 31 + b"\n", "a secret of 31 bytes"),
        (b"x" * (MAX_KEY_BYTES + 1), "limit 262,144"),
        (private_pem("RS256"), "a private key"),
        (json.dumps({**jwk("ES256"), "d": "AAAA"}).encode(), "a private key"),
        (pem(rsa.generate_private_key(65537, 1024)), "RSA of 2,048 bits"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "no public key that can be used"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key that can be used"),
        (b'{"keys": []}', "none can be used"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "none can be used"),
        (json.dumps(jwk("RS256", alg="HS256")).encode(), "none can be used"),
        (b'{"keys": 3}', "neither a secret"),
        (b'{"keys": [3]}', "neither a secret"),
        (b'{"keys"', "neither a secret"),
        (b'{"a":' * 2000, "neither a secret"),
    ):
        path.write_bytes(data)
        said = str(error_of(ConfigError, KeyRing, [str(path)]))
        assert re.match(rf"--token-key: .*key: .*{why}", said), (why, said)


def test_a_public_key_in_another_form_does_not_become_a_secret(tmp_path: Path) -> None:
    """It did: everybody who knew the public key could sign tokens of any user with HS256."""
    path = tmp_path / "key"
    for algorithm in ("RS256", "ES256", "EdDSA"):
        pem, json_key = key_file(algorithm), json.dumps(jwk(algorithm)).encode()
        key: Any = load_pem_public_key(pem)
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ssh = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        for data in (ssh, der, b64encode(der), pem.decode().encode("utf-16"), b"[%b]" % json_key):
            path.write_bytes(data)
            said = str(error_of(ConfigError, read_keys, path))
            assert re.search("PEM form|neither a secret", said), (data, said)
        for before in (b"\xef\xbb\xbf", b"# the key of example.org\n", b"Public-Key: (256 bit)\n"):
            path.write_bytes(before + pem)
            assert [found.algorithm for found in read_keys(path)] == [algorithm], before
        path.write_bytes(b"\xef\xbb\xbf" + json_key)
        assert [found.algorithm for found in read_keys(path)] == [algorithm]


def test_a_certificate_does_not_become_a_secret(tmp_path: Path) -> None:
    pem = trustme.CA().issue_cert("chat.example").cert_chain_pems[0].bytes()
    body = b"".join(pem.split(b"-----")[2].split())
    for data, why in ((pem, "no public key"), (body, "PEM form"), (b64decode(body), "PEM form")):
        path = tmp_path / "key"
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=why):
            read_keys(path)


def test_all_public_keys_of_a_file_count(tmp_path: Path) -> None:
    """Only the first did, and tokens of the others were refused."""
    path = tmp_path / "keys.pem"
    path.write_bytes(key_file("RS256") + b"\n# the old one\n" + key_file("ES256"))
    assert [found.algorithm for found in read_keys(path)] == ["RS256", "ES256"]


def test_a_new_secret_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    with capture_logs() as logs:
        KeyRing([str(path)])
    [made] = read_keys(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (made.algorithm, made.key) == ("HS256", path.read_bytes().strip())
    assert isinstance(made.key, bytes)
    assert len(made.key) >= 32
    KeyRing([str(path)])
    assert read_keys(path) == [made], "kept"
    assert [line["event"] for line in logs] == ["token_key_made"]
    for name, why in (("key.pem", "read"), ("jwks.json", "read"), ("no/such/folder", "make"), ("x" * 300, "make")):
        with pytest.raises(ConfigError, match=f"--token-key: cannot {why} "):
            KeyRing([str(tmp_path / name)])
    os.mkfifo(pipe := tmp_path / "pipe")  # it held up the start, and at SIGHUP the loop
    for path in (tmp_path, pipe):
        with pytest.raises(ConfigError, match=r"--token-key: .* is no regular file, which is needed"):
            KeyRing([str(path)])


def test_a_secret_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    """After one start on a full disk, all later ones refused a secret of 0 bytes."""
    path, limits = tmp_path / "token.key", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(ConfigError, match="--token-key: cannot make "):
            KeyRing([str(path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(KeyRing([str(path)])) == 1


def test_a_secret_that_others_can_read_is_logged(tmp_path: Path) -> None:
    for name, data, lines in [("secret", SECRET, 1), ("public", key_file("ES256"), 0)]:
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(0o644)
        with capture_logs() as logs:
            read_keys(path)
        assert len(logs) == lines
        assert SECRET.decode() not in str(logs)
