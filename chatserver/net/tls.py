"""TLS without a socket: ciphertext in, plaintext out, and back, by OpenSSL on buffers in memory.

Owns: the rules of our TLS (`load_context`), what is wrong with a certificate (`examine`), and the one pair of buffers
that all connections share: a pair for each costs 0.7 to 1.7 KB more. May not: read or write a descriptor, know a state.

OpenSSL on the descriptor itself could not distinguish "encrypted and kept" from "not yet encrypted", so a slow member
could not be served from a shared ring. Bytes left behind in a buffer would reach another peer, so every call leaves
both empty, whether it returns or raises.
"""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from chatserver.settings.spec import ConfigError, read_file

#: Tickets sent at the end of a TLS 1.3 handshake: a peer that comes back with one saves us the signature. OpenSSL's
#: default, 2, is for clients that open pairs.
TICKETS = 1
#: TLS 1.2 suites: forward secrecy and authenticated encryption, as RFC 9325 section 4.2 recommends. Python's default
#: also has those of CBC mode, with which ciphertext is open to padding attacks. TLS 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
#: A certificate that expires within this time should have been renewed: Let's Encrypt does so 30 days before.
EXPIRY_NOTICE = timedelta(days=14)
#: Bytes read from OpenSSL at a time: the plaintext of the largest record.
_RECORD = 1 << 14


class TlsError(Exception):
    """The peer broke TLS, or shares no version or cipher with us. `reply` is the alert to send to it."""

    def __init__(self, message: str, reply: bytes) -> None:
        super().__init__(message)
        self.reply = reply


@dataclass(slots=True)
class Received:
    """The result of opening some records."""

    plaintext: bytes
    holding: int  # number of records that held plaintext
    reply: bytes  # for the peer: the rest of a handshake, the answer to a key update
    ended: bool  # the peer sent close_notify


class TlsEngine:
    """The buffers and the context. `context` may be replaced at any time: connections keep the one they began with.

    `expires`: when its certificate does, in seconds since 1970.
    """

    def __init__(self, context: ssl.SSLContext, expires: float = 0.0) -> None:
        self.context = context
        self.expires = expires
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    def accept(self) -> ssl.SSLObject:
        """OpenSSL's object for a new peer; 13 KB once its handshake is over."""
        return self.context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def handshake(self, tls: ssl.SSLObject, records: bytes) -> tuple[bool, Received]:
        """Continue the handshake. Returns whether it is over; then there may be plaintext already. Raises TlsError."""
        return self._take_in(tls, records, is_open=False)

    def receive(self, tls: ssl.SSLObject, records: bytes) -> Received:
        """Decrypt whole records. Raises TlsError."""
        return self._take_in(tls, records, is_open=True)[1]

    def _take_in(self, tls: ssl.SSLObject, records: bytes, *, is_open: bool) -> tuple[bool, Received]:
        """`is_open`: the handshake is over; returns whether it is now."""
        incoming = self._incoming
        pieces: list[bytes] = []
        ended = False
        try:
            incoming.write(records)
            try:
                if not is_open:
                    tls.do_handshake()
                    is_open = True
                while incoming.pending:
                    piece = tls.read(_RECORD)
                    if not piece:
                        ended = True
                        break
                    pieces.append(piece)
            except ssl.SSLWantReadError:  # the last record held no plaintext
                if is_open:
                    # Sends nothing, and raises if that record ended within a handshake message: a whole one fits into a
                    # record, and four bytes of a TLS 1.2 ClientHello have OpenSSL allocate 128 KiB.
                    tls.write(b"")
        except ssl.SSLError as error:
            raise TlsError(_words(error), self._outgoing.read()) from None
        finally:
            incoming.read()
            reply = self._outgoing.read()
        return is_open, Received(b"".join(pieces), len(pieces), reply, ended)

    def seal(self, tls: ssl.SSLObject, data: bytes | memoryview) -> bytes:
        """Encrypt; about 1 µs, and 0.3 µs for each KiB. Raises TlsError."""
        try:
            tls.write(data)
        except ssl.SSLError as error:
            raise TlsError(_words(error), self._outgoing.read()) from None
        finally:
            sealed = self._outgoing.read()
        return sealed

    def goodbye(self, tls: ssl.SSLObject) -> bytes:
        """The close_notify, and nothing the second time; nothing can be sealed after it."""
        try:
            tls.unwrap()
        except ssl.SSLError:
            pass  # OpenSSL wants to read the peer's close_notify, for which we do not wait
        finally:
            last = self._outgoing.read()
        return last


def _words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLWantReadError):
        return "a record that ends within a handshake message"
    return (error.reason or "TLS failed").lower().replace("_", " ")


def load_context(certificate: str, key: str) -> ssl.SSLContext:
    """A context with our rules, a certificate and its key. Raises ConfigError, which names the flag.

    Renegotiation (the peer makes us compute at will), compression (CRIME), CBC suites and TLS below 1.2 are off.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(CIPHERS)
    context.num_tickets = TICKETS
    context.set_alpn_protocols(["http/1.1"])
    for flag, path in (("tls-cert", certificate), ("tls-key", key)):
        read_file(flag, Path(path))  # OpenSSL's error does not say which it cannot read
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise _explained(error, certificate, key) from None
    return context


def examine(certificate: str, hosts: Iterable[str]) -> tuple[float, list[str]]:
    """When a certificate that OpenSSL loads expires, in seconds since 1970, and why clients refuse it, or soon will.

    `hosts` are names under which they come. One that cannot be examined expires at 0.
    """
    try:
        leaf = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
        names = _names(leaf)
    except (OSError, ValueError) as error:
        return 0.0, [f"it cannot be examined: {error}"]
    doubts = []
    now, ends = datetime.now(UTC), leaf.not_valid_after_utc
    if now < leaf.not_valid_before_utc:
        doubts.append(f"it is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    if ends < now + EXPIRY_NOTICE:
        doubts.append(f"it {'expired' if ends < now else 'expires'} at {ends:%Y-%m-%d %H:%M} UTC")
    if others := [host for host in hosts if names.isdisjoint((host, f"*.{host.partition('.')[2]}"))]:
        doubts.append(f"it is not for {', '.join(others)}, which --allow-host names")
    return ends.timestamp(), doubts


def _names(leaf: x509.Certificate) -> set[str]:
    """The hosts that a certificate is for; clients look for them in this extension only (RFC 9110 section 4.3.4)."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    return {*map(str.lower, found.get_values_for_type(x509.DNSName)), *addresses}


def _no_password() -> str:
    # Without this, OpenSSL would prompt for a password at the terminal.
    raise ConfigError("tls-key", "the key is encrypted; give an unencrypted key, and guard its file")


def _explained(error: ssl.SSLError, certificate: str, key: str) -> ConfigError:
    """Find out which file is at fault: OpenSSL's error does not say."""
    if error.reason == "KEY_VALUES_MISMATCH":
        return ConfigError("tls-key", f"{key} is not the key of the certificate in {certificate}")
    if "_TOO_" in (error.reason or ""):  # too small a key, too weak a digest: the files are whole
        return ConfigError("tls-cert", f"OpenSSL refuses {certificate}: {error.reason.replace('_', ' ').lower()}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except ssl.SSLError:
        return ConfigError("tls-cert", f"{certificate} holds no certificate in PEM form")
    return ConfigError("tls-key", f"{key} holds no private key in PEM form that fits")
