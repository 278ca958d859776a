"""What the processes of one chat say to each other, as bytes.

Owns: the form of a message, and how people are named in it. May not: decide what is said. A process that is updated
talks to others that are not: fields are only ever added, at the end.
"""

import msgspec

from chatserver.chat.policy import Access, Policies
from chatserver.chat.principal import NamedGuest, Principal, SignedIn, User, pack
from chatserver.settings.rooms import Guests

_NO_RIGHTS = Access(Policies(), Guests.NONE).guests


class Person(msgspec.Struct, array_like=True, gc=False):
    """Somebody, as one process names it to another: a guest without a name of its own is a number."""

    number: int
    network: str
    name: str = ""
    id: str = ""  # of somebody who has signed in


class RoomSaid(msgspec.Struct, array_like=True, gc=False):
    """Who is in a room in one process: so many, of whom these are named."""

    room: str
    count: int
    people: list[Person]


class Typed(msgspec.Struct, array_like=True, gc=False):
    """Somebody is writing something."""

    room: str
    who: Person


class Moved(msgspec.Struct, array_like=True, gc=False):
    """Somebody has read up to an offset."""

    room: str
    who: Person
    offset: int


class Kicked(msgspec.Struct, array_like=True, gc=False):
    """A moderator takes a user out of a room."""

    room: str
    user: str


class Said(msgspec.Struct, array_like=True, gc=False):
    """One message."""

    process: int
    number: int  # 1 more than that of the message before
    begin: bool = False  # every room in which somebody is follows
    rooms: list[RoomSaid] = []
    end: bool = False  # and that was the last one
    again: list[int] = []  # processes that are asked for everything
    typed: list[Typed] = []
    moved: list[Moved] = []
    hints: list[str] = []  # what is to be looked up in the log again
    kicked: list[Kicked] = []


encode = msgspec.msgpack.Encoder().encode
#: Raises MsgspecError.
decode = msgspec.msgpack.Decoder(Said).decode


def named(principal: Principal) -> Person:
    """Somebody here, as the others are told."""
    if principal.is_guest:
        name = "" if principal.label is None else principal.face.name
        return Person(principal.number, principal.network, name)
    face = principal.face
    return Person(principal.number, principal.network, face.name, face.id)


def principal_of(person: Person) -> Principal:
    """Somebody elsewhere, who may do nothing here."""
    if person.id:
        face = User(person.id.replace("\0", ""), person.name.replace("\0", ""))
        return SignedIn(person.number, person.network, pack(face, None), _NO_RIGHTS)
    if person.name:
        return NamedGuest(person.number, person.network, person.name)
    return Principal(person.number, person.network)
