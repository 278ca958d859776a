"""Changes of messages in chat.v1: which operations of a victim edit, delete or react, and which message each changes.

Owns: what is sent for each kind and the record that tells of it, and which kinds the server offers. May not: wait, or
touch a socket.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Final, NamedTuple


class _Kind(NamedTuple):
    record: str  # the type of the record that members get
    fields: Mapping[str, object]  # beside the message's offset


_KINDS: Final = {
    "edit": _Kind("edit", {}),
    "delete": _Kind("delete", {}),
    "react": _Kind("reaction", {"emoji": "\N{THUMBS UP SIGN}", "on": True}),
}

#: Types of records that change a message.
RECORDS: Final = frozenset(kind.record for kind in _KINDS.values())


class Changes:
    def __init__(self) -> None:
        self.kinds: dict[int, str] = {}  # by operation
        self._messages: dict[int, int] = {}  # the operation that said the message, by the one that changes it
        self._operations: dict[int, int] = {}  # by the offset of the message that each changes
        self._texts: dict[int, str] = {}  # that an edited or deleted message has since, by its offset
        self._offers: dict[str, bool] = {}  # kinds, by whether the server does; unknown until the first is answered

    def begin(self, number: int, message: int, offset: int, text: str, turn: int) -> dict[str, object]:
        """Return what to send for this operation, of the kind whose turn it is; empty if the server refuses it.

        It changes the message of another operation, which is at this offset.
        """
        kind = tuple(_KINDS)[turn % len(_KINDS)]
        if self._offers.get(kind) is False:
            return {}
        self.kinds[number], self._messages[number], self._operations[offset] = kind, message, number
        if kind != "react":
            self._texts[offset] = text if kind == "edit" else ""
        fields = {"text": text} if kind == "edit" else _KINDS[kind].fields
        return {"type": kind, "id": number, "offset": offset, **fields}

    def accept(self, number: int) -> None:
        self._offers[self.kinds[number]] = True

    def refuse(self, number: int) -> bool:
        """Take note that an operation was refused, and return whether the server offers no such change."""
        kind = self.kinds.get(number)
        if kind is None or self._offers.get(kind):
            return False
        self._offers[kind] = False
        return True

    def replaced(self, numbers: Iterable[int]) -> set[int]:
        """Return the operations whose messages these operations edited or deleted, so that their texts are gone."""
        return {self._messages[number] for number in numbers if self.kinds.get(number, "react") != "react"}

    def undone(self, offset: int, text: str) -> int | None:
        """Return the operation that edited or deleted the message at this offset, if that has another text."""
        number = self._operations.get(offset)
        return number if number in self.kinds and text != self._texts.get(offset, text) else None

    def vanished(self, offsets: Container[int]) -> set[int]:
        """Return the operations whose edited messages are at none of these offsets; a deleted message may be gone."""
        return {self._operations[offset] for offset, text in self._texts.items() if text and offset not in offsets}

    def operation(self, record: str, target: int) -> int | None:
        """Return the operation that changed the message at this offset, if a record of this type tells of it."""
        number = self._operations.get(target)
        kind = self.kinds.get(number) if number is not None else None
        return number if kind is not None and _KINDS[kind].record == record else None
