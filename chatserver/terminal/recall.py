"""The terminal client's memory: messages to quote, people and rooms to complete.

Owns: these, with bounds. May not: print, or ask the server.
"""

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from chatserver.client import wire
from chatserver.terminal import render

MAX_RECALLED = 1000  # messages, and people, at most


class Recall:
    def __init__(self) -> None:
        self.rooms: set[str] = set()  # that the server has listed last, and those that we have read
        self.people: OrderedDict[str, str] = OrderedDict()  # names by id, the latest last
        self.reached: dict[str, int] = {}  # by room, the offset of the last record
        self._messages: OrderedDict[tuple[str, int], wire.Message] = OrderedDict()

    def know(self, user: wire.User) -> None:
        """Remember a user under the newest name."""
        self.people[user.id] = render.name_of(user)
        self.people.move_to_end(user.id)
        if len(self.people) > MAX_RECALLED:
            self.people.popitem(last=False)

    def ids(self, name: str) -> list[tuple[str, str]]:
        """Return the names, with their ids, that begin with this one, whatever the case; the latest first."""
        wanted = name.removeprefix("@").casefold()
        return [(known, id_) for id_, known in reversed(self.people.items()) if known.casefold().startswith(wanted)]

    def take(self, record: wire.Record) -> None:
        """Remember a message, or apply a change to it."""
        self.know(record.user)
        self.reached[record.room] = record.offset
        match record:
            case wire.Message():
                self._messages[record.room, record.offset] = record
                if len(self._messages) > MAX_RECALLED:
                    self._messages.popitem(last=False)
            case wire.Edit(target=target, text=text):
                self._replace(record.room, target, text=text, edited=True)
            case wire.Deletion(target=target):
                self._replace(record.room, target, text="", deleted=True)
            case _:
                pass

    def take_older(self, messages: Sequence[wire.Message]) -> None:
        """Remember messages before all others, so that the last ones stay the last."""
        for message in reversed(messages):
            if (user := message.user).id not in self.people:  # a known name is newer
                self.know(user)
                self.people.move_to_end(user.id, last=False)
            place = message.room, message.offset
            self._messages[place] = message
            self._messages.move_to_end(place, last=False)
        while len(self._messages) > MAX_RECALLED:
            self._messages.popitem(last=False)

    def forget(self, room: str) -> None:
        """Forget the messages of a room that has lost some: in a new log their numbers are those of others."""
        for place in [place for place in self._messages if place[0] == room]:
            del self._messages[place]

    def quote(self, room: str, offset: int | None) -> str:
        """Return the message that is replied to, as one line; empty if there is none."""
        if offset is None:
            return ""
        message = self._messages.get((room, offset))
        return f"#{offset}" if message is None else f"#{offset} {render.quoted(message)}"

    def last(self, room: str | None, *, by: wire.User | None = None, but: wire.User | None = None) -> int | None:
        """Return the offset of the last message in a room that is not deleted, by `by`, or by any user but `but`."""
        for (name, offset), message in reversed(self._messages.items()):
            is_meant = (by is None or message.user.id == by.id) and (but is None or message.user.id != but.id)
            if name == room and is_meant and not message.deleted:
                return offset
        return None

    def newest(self) -> dict[str, int]:
        """Return the offset of the last message of each room."""
        return dict(self._messages.keys())

    def _replace(self, room: str, offset: int, **changes: object) -> None:
        if (message := self._messages.get((room, offset))) is not None:
            self._messages[room, offset] = msgspec.structs.replace(message, **changes)
