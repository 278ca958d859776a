"""Principals: all that a handler knows of a person.

Owns: the kinds of principals, and how a guest gets an id and a name. May not: keep a table of guests; 15,000 idle ones
cost one int each. Principals are made in api/identities.py; policy.py decides what they may do.

A guest is a random token. A keyed digest of it is the guest's number, which gives the public id and the name: with
the token a guest is the same person after a restart, over any transport, on any machine, and nothing is stored. A name
that a guest has chosen is part of its token, authenticated by a second digest, so that it is not stored either.
"""

import math
import re
import secrets
import struct
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from typing import ClassVar, TypeVar, cast

import msgspec
import trio

from chatserver.chat.policy import OPEN, Access, Action, Rights

#: Bytes of a token: 128 bits, which cannot be guessed.
TOKEN_BYTES = 16
#: Characters a client may send as a token; ours have 22, and up to 260 with a chosen name.
TOKEN_MAX = 64
#: Bits of a number: two digits of a Python int (32 bytes), and no two of a million guests share one.
NUMBER_BITS = 60
#: Publishing guests, and publishing users, whose id and name are cached; making a guest's again costs 1 µs.
CACHED_GUESTS = 1024

#: The clock of sign-ins; a test with a clock of its own replaces it.
wall = time.time

_GUEST_ID = re.compile("g_[0-9a-f]{15}")
_QUALITIES = """
    Amber Brave Brisk Calm Clever Cosmic Crisp Daring Dapper Eager Early Fabled Gentle Glad Golden Happy
    Hardy Humble Ivory Jolly Keen Kind Lively Lucky Lunar Mellow Merry Mighty Misty Noble Nimble Olive
    Patient Peachy Plucky Polite Proud Quick Quiet Rapid Rosy Rustic Sage Sandy Silent Silver Smart Snowy
    Solar Spry Steady Stoic Sunny Swift Tidy Velvet Vivid Warm Wild Windy Wise Witty Young Zesty
""".split()
_ANIMALS = """
    Badger Bat Bear Beaver Bison Camel Cat Cobra Cougar Crane Crow Deer Dingo Dolphin Dove Eagle
    Eel Elk Falcon Ferret Finch Fox Frog Gecko Gibbon Goose Hare Hawk Hedgehog Heron Ibex Ibis
    Jackal Jay Kiwi Koala Lark Lemur Lion Llama Lynx Magpie Marten Mole Moose Newt Ocelot Okapi
    Otter Owl Panda Parrot Pelican Puffin Raven Robin Seal Sloth Swan Tapir Tiger Toad Walrus Wolf
    Wombat Yak Zebra
""".split()


class User(msgspec.Struct, frozen=True):
    """A person as sent to clients."""

    id: str
    name: str


def new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def number_of(token: str, secret: bytes) -> int:
    """The number of a token, for this log. The token cannot be derived from the number."""
    digest = blake2b(token.encode(), digest_size=8, key=secret).digest()
    return int.from_bytes(digest, "big") >> (64 - NUMBER_BITS)


def guest(number: int) -> User:
    """The public id and name of a guest's number."""
    rest, quality = divmod(number, len(_QUALITIES))
    rest, animal = divmod(rest, len(_ANIMALS))
    return User(f"g_{number:015x}", f"{_QUALITIES[quality]} {_ANIMALS[animal]} {rest % 90 + 10}")


@lru_cache(maxsize=CACHED_GUESTS)
def author(number: int) -> User:
    """The same, cached; for guests who write, since guests who only listen would push these out of the cache."""
    return guest(number)


class Principal(msgspec.Struct, gc=False, frozen=True, eq=False):
    """A person or a program. This base class is a guest, of which a parked connection keeps 32 bytes."""

    number: int  # identifies the person wherever people are counted: 60 bits
    network: str  # the address it comes from, or its /64
    #: the rules of this server; in the type, see `under`
    access: ClassVar[Access] = OPEN
    #: whether it has not signed in
    is_guest: ClassVar[bool] = True

    @property
    def seconds_left(self) -> float:
        """Seconds until its sign-in expires, infinite if it never does; checked when an idle WebSocket is pinged."""
        return math.inf

    @property
    def face(self) -> User:
        """Id and name, as others see them."""
        return guest(self.number)

    @property
    def label(self) -> object:
        """What its face depends on besides its number; cheap to make and compare."""
        return None

    @property
    def author(self) -> User:
        """The same, cached; for people who write."""
        return author(self.number)

    @property
    def rights(self) -> Rights:
        """The rights that enter a decision of policy.py."""
        return self.access.guests

    def may(self, action: Action, room: str) -> bool:
        return self.access.may(self.rights, action, room)


class NamedGuest(Principal, gc=False, frozen=True, eq=False):
    """A guest with a name of its choice."""

    name: str

    @property
    def face(self) -> User:
        return User(f"g_{self.number:015x}", self.name)

    @property
    def label(self) -> object:
        return self.name

    author = face


class Newcomer(Principal, gc=False, frozen=True, eq=False):
    """A guest on a WebSocket of a server where guests may do nothing, and its time to sign in."""

    until: float  # on trio's clock

    @property
    def seconds_left(self) -> float:
        return self.until - trio.current_time()


class SignedIn(Principal, gc=False, frozen=True, eq=False):
    """A user that a token or a trusted proxy vouches for; `packed` is made by `pack`."""

    is_guest: ClassVar[bool] = False

    packed: bytes  # expiry on the wall clock, id and name: as separate objects they would take 200 bytes
    granted: Rights

    @property
    def seconds_left(self) -> float:
        """By the wall clock: trio's stands still while the machine is suspended."""
        [expires] = _TIME.unpack_from(self.packed)
        return cast(float, expires) - wall()

    @property
    def face(self) -> User:
        return _unpacked(self.packed)

    @property
    def label(self) -> object:
        return self.packed[_TIME.size :]

    @property
    def author(self) -> User:
        return _author_in(self.packed)

    @property
    def rights(self) -> Rights:
        return self.granted


_TIME = struct.Struct("<d")
P = TypeVar("P", bound=Principal)


def pack(user: User, expires: float | None) -> bytes:
    """The field `packed` of a `SignedIn`."""
    return _TIME.pack(math.inf if expires is None else expires) + f"{user.id}\0{user.name}".encode()


def _unpacked(packed: bytes) -> User:
    return User(*packed[_TIME.size :].decode().split("\0"))


_author_in = lru_cache(maxsize=CACHED_GUESTS)(_unpacked)


def under(kind: type[P], access: Access) -> type[P]:
    """The same kind of principal on a server with these rules, kept in the type so that a guest needs no field."""
    if access is OPEN:
        return kind
    namespace = {"access": access, "__doc__": kind.__doc__}
    made = msgspec.defstruct(
        kind.__name__, (), bases=(kind,), module=kind.__module__, namespace=namespace, gc=False, frozen=True, eq=False
    )
    return cast(type[P], made)


def user_number(user_id: str, secret: bytes) -> int:
    """The number of a signed-in user. A guest's token has no NUL in it, so no guest digests the same bytes."""
    return number_of(f"\0{user_id}", secret)


def number_behind(user_id: str, secret: bytes) -> int:
    """The number of the user or guest with this id."""
    if _GUEST_ID.fullmatch(user_id):
        return int(user_id.removeprefix("g_"), base=16)
    return user_number(user_id, secret)


def named_token(base: str, name: str, secret: bytes) -> str:
    """A guest's token with a chosen name. It stays the same guest, since its number comes from `base` alone."""
    content = f"{base}~{urlsafe_b64encode(name.encode()).decode().rstrip('=')}"
    return f"{content}~{_seal(content, secret)}"


def opened(token: str, secret: bytes) -> tuple[str, str | None]:
    """The base of a guest's token, and the name in it if this log's seal on it is valid."""
    content, _, seal = token.rpartition("~")
    base, _, name = content.partition("~")
    if not content:
        return token, None
    if not compare_digest(seal.encode(), _seal(content, secret).encode()):  # as text it may not be beyond ASCII
        return base, None
    return base, urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()


def _seal(content: str, secret: bytes) -> str:
    digest = blake2b(content.encode(), digest_size=TOKEN_BYTES, key=secret, person=b"guest's name").digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")
