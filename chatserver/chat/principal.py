"""Who somebody is, as every handler sees it: nothing else is known of a person beyond this.

Owns: the struct, what it may do, and how a guest gets an id and a name. May not: keep a table of guests; 15,000 idle
ones cost one int each. Guests are one source of principals, tokens and a trusted proxy's header can be others.

A guest is a random token. A keyed digest of it is the guest's number, which gives the public id and the name: with
the token a guest is the same person after a restart, over any transport, on any machine, and nothing is stored.
"""

import re
import secrets
from enum import Enum, auto
from functools import lru_cache
from hashlib import blake2b

import msgspec

#: Bytes of a token: 128 bits, nobody guesses another guest's.
TOKEN_BYTES = 16
#: Characters a client may send as a token; ours have 22.
TOKEN_MAX = 64
#: Bits of a number: two digits of a Python int (32 bytes), and no two of a million guests share one.
NUMBER_BITS = 60
#: Publishing guests whose id and name are remembered; making them again costs 3 µs.
REMEMBERED = 1024

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
    """As the wire shows it."""

    id: str
    name: str


def new_token() -> str:
    """A token for somebody new."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def number_of(token: str, secret: bytes) -> int:
    """The number behind a token, for this log. The token cannot be found from the number."""
    digest = blake2b(token.encode(), digest_size=8, key=secret).digest()
    return int.from_bytes(digest, "big") >> (64 - NUMBER_BITS)


def guest(number: int) -> User:
    """The public face of a number."""
    rest, quality = divmod(number, len(_QUALITIES))
    rest, animal = divmod(rest, len(_ANIMALS))
    return User(f"g_{number:015x}", f"{_QUALITIES[quality]} {_ANIMALS[animal]} {rest % 90 + 10}")


def user_number(user_id: str, secret: bytes) -> int:
    """The number of whoever has this id."""
    if _GUEST_ID.fullmatch(user_id):
        return int(user_id.removeprefix("g_"), base=16)
    return number_of(f"\0{user_id}", secret)


@lru_cache(maxsize=REMEMBERED)
def author(number: int) -> User:
    """The same for somebody who writes, and will write again: those who only listen would push the writers out."""
    return guest(number)


class Action(Enum):
    """What may be allowed in a room."""

    READ = auto()
    WRITE = auto()
    MODERATE = auto()


class Principal(msgspec.Struct, gc=False, frozen=True, eq=False):
    """A person or a program. This one is a guest, of which a parked connection keeps 32 bytes; others say more."""

    number: int  # stands for the person wherever people are counted: 60 bits
    network: str  # the address it comes from, or its /64

    @property
    def expires(self) -> float | None:
        """When its sign-in runs out, on trio's clock; looked at when an idle WebSocket is pinged."""
        return None

    @property
    def face(self) -> User:
        """Id and name, as others see them."""
        return guest(self.number)

    def may(self, action: Action, room: str) -> bool:
        """Whether this is allowed to it in this room: to guests, anything but moderation everywhere."""
        return action is not Action.MODERATE


@lru_cache(maxsize=REMEMBERED)
def principal_of(token: str, secret: bytes, network: str) -> Principal:
    """Who has a token, for requests: their client comes again, and may hold several polls."""
    return Principal(number_of(token, secret), network)
