"""The users who join and leave, in one line that is replaced at each change.

Owns: the names in that line, and how many users each room has. May not: print, or ask the server.
"""

from chatserver.client import wire
from chatserver.terminal import render
from chatserver.terminal.recall import Recall


class Arrivals:
    def __init__(self, recall: Recall) -> None:
        self._recall = recall
        self._counted: dict[str, int] = {}  # by room, how many users were there or came by name, less those who left
        self._came: list[str] = []  # names in the line
        self._went: list[str] = []

    def entered(self, room: str, members: int | None) -> None:
        """Take note of how many users a room has."""
        self._counted[room] = members or 0

    def begin_line(self) -> None:
        """Begin another line, because something else was printed below the last one."""
        self._came, self._went = [], []

    def take(self, event: wire.Presence, *, me: wire.User | None, is_shown: bool) -> tuple[list[str], str | None]:
        """Return a note for each new name, and the line, None without names. `is_shown`: the room is on screen."""
        names = {user.id: self._recall.people.get(user.id) for user in event.joined}
        for user in (*event.joined, *event.left):
            self._recall.know(user)
        # The event also lists renamed users, and users who joined just before us. The count tells how many are new, of
        # whom some may be named by the next one.
        joined = sorted(event.joined, key=lambda user: names[user.id] in (None, render.name_of(user)))
        counted = self._counted.get(event.room, 0) - len(event.left)
        old = joined[: max(0, len(joined) - max(0, event.members - counted))]
        is_named = bool(event.joined or event.left)
        self._counted[event.room] = counted + len(joined) - len(old) if is_named else event.members
        if not is_shown:
            return [], None
        renames = []
        for user in old:
            before, name = names[user.id], render.name_of(user)
            if before is not None and before != name and user != me:
                renames.append(f"{before} is now {name}")
        if renames:
            self.begin_line()
        is_line = bool(self._came or self._went)
        for users, here, there in (
            (joined[len(old) :], self._came, self._went),
            (event.left, self._went, self._came),
        ):
            for user in users:
                if user.name in there:
                    there.remove(user.name)
                elif user != me:
                    here.append(user.name)
        line = render.presence(self._came, self._went, event.members)
        return renames, f"{event.members} here" if line is None and is_line else line
