"""Messages between the processes of one chat, as bytes.

Owns: the form of a message, and how people are named in it. May not: decide what is sent. During an update old and new
processes talk to each other: fields are only ever added, at the end.
"""

from typing import Annotated

import msgspec

from chatserver.chat.policy import Access, Policies
from chatserver.chat.principal import NamedGuest, Principal, SignedIn, User, pack
from chatserver.settings.rooms import Guests

_NO_RIGHTS = Access(Policies(), Guests.NONE).guests


class Person(msgspec.Struct, array_like=True, gc=False):
    """A person, as one process names it to another; for a guest without a chosen name the number is enough."""

    number: int
    network: str
    name: str = ""
    id: str = ""  # of a signed-in user


class RoomReport(msgspec.Struct, array_like=True, gc=False):
    """The presence of a room in one process: the number of people, and some of them by name."""

    room: str
    count: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]  # whatever is sent: a sum of counts is the length of a list
    people: list[Person]


class TypingReport(msgspec.Struct, array_like=True, gc=False):
    room: str
    who: Person


class ReadReport(msgspec.Struct, array_like=True, gc=False):
    room: str
    who: Person
    offset: int


class Kicked(msgspec.Struct, array_like=True, gc=False):
    """A moderator takes a user out of a room."""

    room: str
    user: str
    reason: str = ""


class ProcessReport(msgspec.Struct, array_like=True, gc=False):
    process: int
    number: int  # 1 more than that of the message before
    begin: bool = False  # a report of all rooms with people begins here
    rooms: list[RoomReport] = []
    end: bool = False  # the last of `rooms` ends that report
    resend: list[int] = []  # processes that are asked to report all rooms
    typed: list[TypingReport] = []
    moved: list[ReadReport] = []
    kicked: list[Kicked] = []
    repeated: list[tuple[int, Kicked]] = []  # kicks, each with the number of the message that had it in `kicked`


#: Bytes of a message that is decoded; a datagram takes no more.
MAX_MESSAGE = 128 * 1024

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ProcessReport).decode


def decode(message: bytes) -> ProcessReport:
    """Raises ValueError."""
    try:
        return _decode(message[:MAX_MESSAGE])  # a longer one is cut, and thus invalid
    except RecursionError as error:
        raise ValueError(str(error)) from error


def named(principal: Principal) -> Person:
    """A principal of this process, for other processes."""
    if principal.is_guest:
        name = "" if principal.label is None else principal.face.name
        return Person(principal.number, principal.network, name)
    face = principal.face
    return Person(principal.number, principal.network, face.name, face.id)


def principal_of(person: Person) -> Principal:
    """A person in another process, as a principal for lists and notices, whose rights nothing here depends on."""
    if person.id:
        face = User(person.id.replace("\0", ""), person.name.replace("\0", ""))
        return SignedIn(person.number, person.network, pack(face, None), _NO_RIGHTS)
    if person.name:
        return NamedGuest(person.number, person.network, person.name)
    return Principal(person.number, person.network)
