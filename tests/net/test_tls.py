"""The TLS engine, whose shared pair of buffers must not mix peers, and the form of records and ClientHellos."""

import itertools
import os
import re
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.tls import TlsEngine, TlsError, examine, load_context
from chatserver.net.tls_records import (
    HEADER,
    MAX_HELLO,
    MAX_HELLO_RECORDS,
    MAX_RECORD,
    REFUSAL,
    RecordError,
    hello_is_whole,
    whole_records,
)
from chatserver.settings.spec import ConfigError
from loadgen.net.tls import HANDSHAKE
from tests.net.sealed import VERSIONS, server_context
from tests.support.certificates import BareClient, authority, certificate, trusting, trusting_any
from tests.support.examples import examples
from tests.support.handsealed import TLS12_SUITE, seal_tls12

#: Bytes of the largest ClientHello that OpenSSL takes.
MAX_CLIENT_HELLO = 131_396


def handshake(engine: TlsEngine, version: ssl.TLSVersion) -> tuple[BareClient, ssl.SSLObject]:
    return shake(engine, BareClient(trusting_any(version)))


def shake(engine: TlsEngine, client: BareClient) -> tuple[BareClient, ssl.SSLObject]:
    server, done, wire = engine.accept(), False, b""
    while not done:
        done, received = engine.handshake(server, client.step(wire))
        wire = received.reply
    client.step(wire)
    return client, server


def test_alpn_selects_http_1() -> None:
    for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)):
        engine = TlsEngine(server_context())
        context = trusting()
        if offered:
            context.set_alpn_protocols(offered)
        client, _ = shake(engine, BareClient(context))
        assert client.tls.selected_alpn_protocol() == chosen


def test_versions_below_tls_1_2_are_refused() -> None:
    context = trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    engine = TlsEngine(server_context())
    with pytest.raises(TlsError, match="unsupported protocol") as caught:
        engine.handshake(engine.accept(), BareClient(context).step())
    assert caught.value.reply[:1] == b"\x15", "an alert tells the client why"


def test_suites_of_cbc_mode_are_refused() -> None:
    context = trusting(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    with pytest.raises(TlsError, match="no shared cipher"):
        shake(TlsEngine(server_context()), BareClient(context))


def test_a_ticket_spares_a_signature() -> None:
    """TLS 1.3: a client that returns with its ticket resumes."""
    engine = TlsEngine(server_context())
    context = trusting(ssl.TLSVersion.TLSv1_3)
    first, _ = shake(engine, BareClient(context))
    assert first.open(b"") == b""
    session = first.tls.session
    assert session is not None
    assert session.has_ticket
    again = BareClient(context)
    again.tls.session = session
    shake(engine, again)
    assert again.tls.session_reused


def test_renegotiation_and_compression_are_refused() -> None:
    """Newer versions of OpenSSL refuse both by themselves, older ones do not."""
    refused = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    assert server_context().options & refused == refused


@pytest.mark.parametrize("alone", [True, False], ids=["later", "with the Finished"])
def test_half_a_hello_behind_the_handshake_is_an_error(tmp_path: Path, alone: bool) -> None:
    """With TLS 1.2, four bytes of a hello make OpenSSL keep 131 KB for the connection until its next write."""
    context = trusting(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(TLS12_SUITE)
    context.keylog_filename = str(tmp_path / "keys")
    engine, client = TlsEngine(server_context()), BareClient(context)
    server = engine.accept()
    _, flight = engine.handshake(server, client.step())
    finished = client.step(flight.reply)
    [line] = [each for each in (tmp_path / "keys").read_text().splitlines() if each.startswith("CLIENT_RANDOM")]
    half = seal_tls12(line, flight.reply, HANDSHAKE, b"\x01" + MAX_CLIENT_HELLO.to_bytes(3))
    if alone:
        assert engine.handshake(server, finished)[0]
        with pytest.raises(TlsError, match="within a handshake message"):
            engine.receive(server, half)
    else:
        with pytest.raises(TlsError, match="within a handshake message"):
            engine.handshake(server, finished + half)


# -- one pair of buffers ----------------------------------------------------------------------------------------------


def broken_record(client: BareClient) -> bytes:
    sealed = bytearray(client.seal(b"x" * 50))
    sealed[-1] ^= 1
    return bytes(sealed)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["hear", "say", "break", "join"])), min_size=8, max_size=30)
)
@examples(15)
def test_nothing_of_one_peer_reaches_another(acts: list[tuple[int, str]]) -> None:
    """In any order of reads, writes and errors, each peer gets only its own bytes."""
    engine = TlsEngine(server_context())
    pairs = [handshake(engine, version) for version in (*VERSIONS, ssl.TLSVersion.TLSv1_3)]
    for number, (who, act) in enumerate(acts):
        client, server = pairs[who]
        words = f"{who} {number}".encode()
        if act == "say":
            assert engine.receive(server, client.seal(words) + client.seal(words)).plaintext == words + words
        elif act == "hear":
            assert client.open(engine.seal(server, words)) == words
        elif act == "break":
            with pytest.raises(TlsError) as caught:
                engine.receive(server, broken_record(client) + client.seal(b"never read"))
            assert caught.value.reply
            pairs[who] = handshake(engine, ssl.TLSVersion.TLSv1_3)
        else:
            newcomer = engine.accept()
            with pytest.raises(TlsError):
                engine.handshake(newcomer, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\x17\x03\x03\x00\x02xx")


# -- the certificate --------------------------------------------------------------------------------------------------


def refuses(certificate_path: object, key_path: object, flag: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_context(str(certificate_path), str(key_path))
    assert caught.value.flag == flag
    assert "\n" not in str(caught.value)


def test_a_certificate_that_clients_will_refuse_is_told_of(tmp_path: Path) -> None:
    for days, names, found in [
        ((-30, 60), ("chat.example", "*.chat.example", "127.0.0.1", "::1"), []),
        ((-30, 15), ("chat.example", "*.chat.example", "127.0.0.1", "::1"), []),
        ((-30, 13), ("*.chat.example", "127.0.0.1"), ["it expires at ", "it is not for chat.example, ::1, which"]),
        ((-30, -1), ("chat.example", "a.chat.example", "127.0.0.1", "::1"), ["it expired at "]),
        ((1, 60), ("*.example", "::1"), ["it is not valid before ", "it is not for a.chat.example, 127.0.0.1, which"]),
    ]:
        cert, _ = certificate(tmp_path, names=names, days=days)
        _, told = examine(cert, ["chat.example", "a.chat.example", "127.0.0.1", "::1"])
        assert len(told) == len(found), days
        assert all(map(str.startswith, told, found)), told


def test_a_certificate_without_names_or_of_an_unknown_form_is_told_of(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    cert.write_bytes(authority().cert_pem.bytes())  # an authority's has no names of hosts
    assert examine(str(cert), [])[1] == []
    assert examine(str(cert), ["chat.example"])[1] == ["it is not for chat.example, which --allow-host names"]
    cert.write_text("trusted")
    expires, [told] = examine(str(cert), [])
    assert told.startswith("it cannot be examined: ")
    assert expires == 0.0, "as far as /metrics knows"


def test_an_error_in_the_files_is_one_line_that_names_the_flag(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    _, other_key = certificate(tmp_path, "other")
    text = tmp_path / "text"
    text.write_text("hello")
    refuses(tmp_path / "none", key, "tls-cert", "No such file")
    refuses(cert, tmp_path / "none", "tls-key", "No such file")
    refuses(tmp_path, key, "tls-cert", "is no regular file")
    refuses(text, key, "tls-cert", "no certificate in PEM form")
    refuses(cert, text, "tls-key", "no private key in PEM form")
    refuses(key, key, "tls-cert", "no certificate in PEM form")
    refuses(cert, cert, "tls-key", "no private key in PEM form")
    refuses(cert, other_key, "tls-key", "is not the key of the certificate")


def test_a_key_in_a_pipe_is_refused(tmp_path: Path) -> None:
    """`--tls-key <(sops -d key.pem)` ended with a traceback. A named pipe held up the start, and at SIGHUP the loop."""
    cert, key = certificate(tmp_path)
    reader, writer = os.pipe()
    os.write(writer, Path(key).read_bytes())
    os.close(writer)
    refuses(cert, f"/dev/fd/{reader}", "tls-key", "is no regular file, which is needed")
    os.close(reader)


def test_a_certificate_that_openssl_takes_for_too_weak_is_not_taken_for_a_wrong_file(tmp_path: Path) -> None:
    """An old authority of a company's own has keys of 1,024 bits."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak, name, now = rsa.generate_private_key(65_537, 1024), x509.Name([]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, weak.public_key(), 1, now, now).sign(weak, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    cert, key = tmp_path / "weak.pem", tmp_path / "weak.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(weak.private_bytes(*form))
    refuses(cert, key, "tls-cert", r"OpenSSL refuses .*weak\.pem: ee key too small")


def test_an_encrypted_key_is_refused_without_a_prompt(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    cert, key = certificate(tmp_path)
    plain = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    Path(key).write_bytes(plain.private_bytes(serialization.Encoding.PEM, form, encryption))
    refuses(cert, key, "tls-key", "encrypted")


# -- records and hellos: bytes only -----------------------------------------------------------------------------------


def record(payload: bytes, *, kind: int = 22) -> bytes:
    return bytes((kind, 3, 1)) + len(payload).to_bytes(2, "big") + payload


def hello_message(size: int = 200) -> bytes:
    return b"\x01" + size.to_bytes(3, "big") + bytes(size)


# -- records ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(0, 200))
def test_whole_records_end_where_a_record_ends(payloads: list[bytes], cut: int) -> None:
    """Exactly the whole records are taken, wherever the bytes are cut."""
    wire = b"".join(record(payload, kind=23) for payload in payloads)
    ends = [0]
    for payload in payloads:
        ends.append(ends[-1] + HEADER + len(payload))
    cut = min(cut, len(wire))
    whole = [end for end in ends if end <= cut]
    assert whole_records(wire[:cut]) == (len(whole) - 1, whole[-1])


@pytest.mark.parametrize(("length", "fits"), [(MAX_RECORD, True), (MAX_RECORD + 1, False), (65_535, False)])
def test_of_a_record_over_the_largest_size_the_header_is_enough(length: int, fits: bool) -> None:
    header = b"\x17\x03\x03" + length.to_bytes(2, "big")
    if fits:
        assert whole_records(header) == (0, 0)
        assert whole_records(header + bytes(length)) == (1, HEADER + length)
    else:
        assert whole_records(header) == (1, HEADER)


# -- hellos -----------------------------------------------------------------------------------------------------------


def check(wire: bytes) -> None:
    """A hello is complete with its last byte and not before; later bytes make no difference."""
    assert [at for at in range(len(wire)) if hello_is_whole(wire[:at])] == []
    assert hello_is_whole(wire)
    assert hello_is_whole(wire + b"\xff\xff")


def refused(wire: bytes, words: str) -> None:
    """The bytes are refused, and each prefix is incomplete or refused alike."""
    with pytest.raises(RecordError, match=words):
        hello_is_whole(wire)
    for at in range(len(wire)):
        try:
            assert not hello_is_whole(wire[:at])
        except RecordError as error:
            assert re.search(words, str(error))  # noqa: PT017
            break


def test_a_hello_by_openssl() -> None:
    check(BareClient(trusting_any()).step())


def test_a_hello_in_several_records() -> None:
    message = hello_message()
    for cuts in ((1,), (3,), (4,), (5,), (100,), range(1, MAX_HELLO_RECORDS)):
        places = (0, *cuts, len(message))
        check(b"".join(record(message[a:b]) for a, b in itertools.pairwise(places)))


def test_bytes_that_are_no_hello() -> None:
    for wire, words in (
        (b"GET / HTTP/1.1\r\n", "0x47"),
        (b"\x80\x2e\x01\x03\x01", "0x80"),  # SSL 2's hello
        (b"\x17\x03\x03\x00\x05", "0x17"),
        (b"\x16\x02\x00\x00\x05", "major version 2"),
        (b"\x16\x03\x01\x00\x00", "empty or oversized"),
        (b"\x16\x03\x01\xff\xff", "empty or oversized"),
        (record(b"\x02\x00\x00\x01\x00"), "ClientHello"),
        (record(b"\x01\x02\x00\x00"), "131,076 bytes"),
        (record(hello_message(MAX_HELLO)[:100]), f"limit {MAX_HELLO:,}"),
        (b"\x16\x03\x01" + (MAX_HELLO + 1).to_bytes(2), "oversized record"),
        (record(b"\x01") + b"GET / ", "0x47"),
        (b"".join(record(hello_message()[at : at + 1]) for at in range(MAX_HELLO_RECORDS + 1)), "more than 8 records"),
    ):
        refused(wire, words)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_hello_incomplete_or_refused(data: bytes) -> None:
    whole_records(data)
    with suppress(RecordError):
        hello_is_whole(data)


def test_the_refusal_is_an_alert_that_openssl_understands() -> None:
    client = BareClient(trusting_any())
    client.step()
    with pytest.raises(ssl.SSLError, match=r"(?i)alert internal error"):
        client.step(REFUSAL)
