"""The interactive mode of `chatserver chat`: shows rooms, and handles typed lines.

Owns: the current room, unread messages. May not: write to the terminal itself (`Screen` does), word an event (render.py
does), or keep what is to be sent (`Outgoing` does).
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn

import trio

from chatserver.client import events, wire
from chatserver.client.chat import Chat
from chatserver.client.errors import ChatError
from chatserver.exits import EXIT_CLEAN, EXIT_FAULT
from chatserver.terminal import commands, render
from chatserver.terminal.arrivals import Arrivals
from chatserver.terminal.older import Older
from chatserver.terminal.outgoing import Outgoing
from chatserver.terminal.recall import Recall
from chatserver.terminal.screen import Screen

LATEST = 50  # records asked for when a room is entered
LEAVE_PATIENCE = 3.0  # s for the last texts to be acknowledged when the user leaves
ENTRY_PATIENCE = 2.0  # s to wait for the unread counts before a room is entered, and for names of rooms after it
TYPING_SHOWN = 5.0  # s for which another user is shown as typing
READ_EVERY = 3.0  # s between two updates of our read marker
MAX_LISTED = 40  # rooms, or users with one name

IN_NO_ROOM = "you are in no room; /join ROOM"


class Done(Exception):  # noqa: N818  (no error)
    """Ends the program; carries the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Interactive:
    """One user at one terminal."""

    def __init__(self, chat: Chat, screen: Screen, room: str, nursery: trio.Nursery) -> None:
        self.room: str | None = room  # the current room, to which lines go, entered or not yet; None: no room
        self._chat = chat
        self._screen = screen
        self._rooms: dict[str, int] = {}  # entered rooms, with the offset up to which each had been read then
        self._shown: dict[str, int] = {}  # by room, the offset up to which messages came in their present state
        self._recall = Recall()
        self._older = Older(chat)
        self._typing: dict[tuple[str, str], float] = {}  # by room and name, the time until which typing is shown
        self._arrivals = Arrivals(self._recall)
        self._day = ""
        self._divided = False  # whether the line above messages that came without focus is drawn
        self._outgoing = Outgoing(chat, nursery, self._redraw)
        self._narrator = render.Narrator()
        self._seen: dict[str, int] = {}  # by room, the offset that was seen and is to be sent to the server
        self._nursery = nursery

    async def run(self) -> None:
        """Show events until the chat ends. Raises Done, or the chat's errors."""
        self._redraw()
        for task in (self._screen.keep_shape, self._tell_read, self._take_lines):
            self._nursery.start_soon(task)
        if self.room is not None:
            self._nursery.start_soon(self._enter, self.room)
        try:
            async for event in self._chat.events():
                self._show(event)
        finally:
            if unsent := self._outgoing.unsent.total():
                self._screen.note(f"{unsent} not acknowledged and perhaps not sent")

    def complete(self, before: str) -> tuple[str, Sequence[str]]:
        rooms = self._rooms.keys() | (() if before.startswith("/leave ") else self._recall.rooms)
        return commands.complete(before, people=self._recall.people.values(), rooms=rooms)

    # -- events -------------------------------------------------------------------------------------------------------

    def _show(self, event: events.Event) -> None:
        if isinstance(event, wire.Record):
            self._recall.take(event)
            self._older.take(event)
        if not isinstance(event, wire.Presence):
            self._arrivals.begin_line()
        words = self._narrator.words(event)
        match event:
            case wire.Message():
                self._message(event)
            case wire.Presence():
                self._presence(event)
            case wire.Typing(room, user):
                if not self._is_me(user):
                    self._nursery.start_soon(self._show_typing, room, render.name_of(user))
            case wire.Edit() | wire.Deletion() | wire.Reaction() if event.offset <= self._shown.get(event.room, 0):
                words = None  # the message was shown in its present state already
                if event.offset == self._shown[event.room] and self._recall.last(event.room) is None:
                    self._nursery.start_soon(self._say_failure, self._show_older(event.room, LATEST))
            case wire.Edit() | wire.Deletion() | wire.Reaction() | events.Postponed():
                words = words and render.label(self._unclear(event.room)) + words
            case events.Entered(room):
                self._rooms.setdefault(room, 0)
                self._arrivals.entered(room, event.members)
                self._shown[room] = 0 if event.resumed else event.until
                if not event.resumed:
                    self._older.forget(room)
            case events.Gap():
                self._recall.forget(event.room)
                self._older.forget(event.room)
            case events.Reconnecting():
                words = words and f"{words} Enter tries now."
        if words is not None:
            self._screen.note(words)
        if isinstance(event, events.Complaint) and event.room is not None:
            if not self._shown:  # no room was ever entered
                raise Done(EXIT_FAULT)
            self._lose(event.room)
        self._redraw()

    def _message(self, message: wire.Message) -> None:
        self._typing.pop((message.room, render.name_of(message.user)), None)
        if (day := render.local_time(message, "%A %-d %B %Y")) != self._day:
            self._day = day
            self._screen.note(day)
        ours = self._is_me(message.user)
        called = self._is_called(message)
        self._divide(message, ours=ours)
        quote = self._recall.quote(message.room, message.reply_to)
        room = self._unclear(message.room)
        bell = "\a" if called and not self._screen.editor.focused else ""
        lines = render.message_lines(message, self._screen.style, room=room, quote=quote, called=called)
        self._screen.print(bell + lines)
        if self._screen.editor.focused:
            self._seen[message.room] = max(self._seen.get(message.room, 0), message.offset)

    def _unclear(self, room: str) -> str:
        """Return the room's name if there are others, so that it has to be shown."""
        return room if len(self._rooms) > 1 else ""

    def _divide(self, message: wire.Message, *, ours: bool) -> None:
        """Draw the line above new messages: new since the last visit, or since the window lost the focus."""
        read = self._rooms.get(message.room, 0)
        if read and message.offset > read:
            self._rooms[message.room] = 0
            if not ours:
                self._screen.rule("new")
        elif not self._screen.editor.focused and not self._divided and not ours:
            self._divided = True
            self._screen.rule("new")

    def _is_me(self, user: wire.User) -> bool:
        """Whether this is our user, who may have another name at another client."""
        return self._chat.user is not None and user.id == self._chat.user.id

    def _is_called(self, message: wire.Message) -> bool:
        me = self._chat.user
        return me is not None and bool(me.id in message.mentions or commands.mentioned(message.text, {me.id: me.name}))

    def _presence(self, event: wire.Presence) -> None:
        """Print who joined and left, in one line for as long as nothing else is printed."""
        renames, line = self._arrivals.take(event, me=self._chat.user, is_shown=event.room == self.room)
        for words in renames:
            self._screen.note(words)
        if line is not None:
            self._screen.change_note(line)

    async def _show_typing(self, room: str, name: str) -> None:
        self._typing[room, name] = trio.current_time() + TYPING_SHOWN
        self._redraw()
        await trio.sleep(TYPING_SHOWN)
        if self._typing.get((room, name), math.inf) <= trio.current_time():
            del self._typing[room, name]
            self._redraw()

    def _redraw(self) -> None:
        """Draw the prompt, with unusual states in it."""
        facts = [] if self._chat.trouble is None else ["offline"]
        facts += [f"{unsent} to send"] if (unsent := self._outgoing.unsent.total()) else []
        typing = [name for room, name in self._typing if room == self.room]
        facts += [f"{', '.join(typing)} typing"] if typing else []
        self._screen.prompt = f"{self.room or 'no room'}{' (' + ', '.join(facts) + ')' if facts else ''}> "
        self._screen.draw()

    # -- lines typed --------------------------------------------------------------------------------------------------

    async def _take_lines(self) -> None:
        """Handle typed lines; raise `Done` when the user wants to leave."""
        while True:
            focused = self._screen.editor.focused
            for text in await self._screen.typed():
                if text is None:
                    await self._leave()
                elif (words := commands.said(text)) is None:
                    await self._obey(text)
                elif words.strip():
                    self._say(words)
                else:
                    self._chat.try_now()
            if self._screen.editor.focused and not focused:
                self._divided = False
                self._seen.update(self._recall.newest())
            line = self._screen.editor.text
            if self.room is not None and line and not line.startswith("/"):
                self._outgoing.typing(self.room)

    def _say(self, text: str, reply_to: int | None = None) -> None:
        if self.room is None:
            self._screen.note(IN_NO_ROOM)
            return
        self._outgoing.say(self.room, partial(self._publish, self.room, text, reply_to))

    async def _publish(self, room: str, text: str, reply_to: int | None) -> None:
        mentions = commands.mentioned(text, self._recall.people)
        try:
            await self._chat.publish(room, text, reply_to=reply_to, mentions=mentions)
        except ChatError as error:
            self._screen.note(render.unsent(error, room))

    async def _obey(self, line: str) -> None:
        try:
            typed = name, offset, rest = commands.parse(line)
        except commands.BadCommand as error:
            self._screen.note(render.printable(str(error)))
            return
        if name == "/quit":
            await self._leave()
        elif name == "/help":
            for row in commands.help_lines(rest, columns=self._screen.columns - len("· ")):
                self._screen.note(row)
        elif self.room is None and name in commands.IN_A_ROOM:
            self._screen.note(IN_NO_ROOM)
        elif name in ("/me", "/reply"):
            self._answer(name, offset, rest)
        elif self._chat.trouble is not None and (self._chat.user is not None or name == "/leave"):
            # Before the first connection all others wait for it.
            self._screen.note("there is no connection")
        else:
            room = self.room or ""
            lane = room if name in commands.CHANGES else ""  # in order: a reaction must not overtake an edit
            self._outgoing.command(lane, lambda: self._say_failure(self._do(room, *typed)))
            if name == "/join":
                self.room = rest
                self._redraw()

    def _answer(self, name: str, offset: int | None, text: str) -> None:
        if name == "/me":
            self._say(f"/me {text}")
        elif (target := offset or self._recall.last(self.room, but=self._chat.user)) is None:
            self._screen.note("there is nothing to answer")
        else:
            self._say(text, target)

    async def _do(self, room: str, name: str, offset: int | None, rest: str) -> None:
        """Carry out a command that needs the server, in the room that was the current one when it was typed."""
        match name:
            case "/join":
                if rest not in self._rooms:
                    await self._enter(rest)
            case "/leave":
                await self._store_read()  # else /rooms would call unread what was read just before
                self._leave_room(rest or room)
            case "/rooms":
                await self._list_rooms()
            case "/who":
                answer = await self._chat.members(room)
                for user in answer.members:
                    self._recall.know(user)
                if rest:  # names repeat, and moderators need ids
                    ids = [f"{known} is {render.printable(id_)}" for known, id_ in self._recall.ids(rest)]
                    self._list(ids, none=f"nobody with the name {render.printable(rest)} is known")
                else:
                    self._screen.note(render.members(answer))
            case "/older":
                await self._show_older(room, int(rest or LATEST))
            case "/nick":
                await self._chat.rename(rest)  # the `Connected` event then shows the name
            case "/edit":
                await self._change(room, offset, lambda at: self._chat.edit(room, at, rest))
            case "/delete":
                await self._change(room, offset, lambda at: self._chat.delete(room, at))
            case "/react":
                emoji, on = commands.emoji(rest)
                target, reached = offset or self._recall.last(room), self._recall.reached.get(room, 0)
                ack = await self._change(room, target, lambda at: self._chat.react(room, at, emoji, on=on))
                if ack is not None and ack.offset <= reached:  # no record of its own
                    self._screen.note(f"you have {'already' if on else 'not'} put {render.printable(emoji)} there")
            case "/search":
                await self._search(rest)

    async def _enter(self, room: str) -> None:
        """Join a room, after asking what is unread in it."""
        await self._chat.connected()
        unread: dict[str, wire.Unread] = {}
        with trio.move_on_after(ENTRY_PATIENCE), suppress(ChatError):  # perhaps we have no markers
            unread = await self._chat.unread()
            self._recall.rooms |= unread.keys()
            if (here := unread.get(room)) is not None and here.unread:
                self._rooms[room] = here.read
                if here.unread > LATEST:
                    what = f"{here.unread:,} unread in {room}; the latest {LATEST} follow"
                    self._screen.note(f"{what}, /older shows those before")
        self._chat.join(room, latest=LATEST)
        with trio.move_on_after(ENTRY_PATIENCE), suppress(ChatError):
            if (refusal := await self._chat.write_refusal(room)) is not None:
                self._screen.note(render.printable(refusal.message))
            self._recall.rooms = {found.room for found in await self._chat.rooms()} | unread.keys()

    async def _show_older(self, room: str, most: int) -> None:
        words, messages = await self._older.read(room, most)
        self._recall.take_older(messages)
        self._screen.note(words)
        for message in messages:
            self._message(message)
        if messages:
            self._screen.note("end of the older messages")

    def _leave_room(self, room: str) -> None:
        if room not in self._rooms:
            self._screen.note(f"you are not in {render.printable(room)}")
            return
        self._chat.leave(room)
        self._screen.note(f"left {render.printable(room)}")
        self._lose(room)
        self._redraw()

    def _lose(self, room: str) -> None:
        """Take note that we are not in a room (any more). What is being typed is for no other."""
        self._rooms.pop(room, None)
        if room == self.room:
            self.room = None if self._screen.editor.text else next(reversed(self._rooms), None)

    async def _list_rooms(self) -> None:
        rooms = await self._chat.rooms()
        unread: dict[str, wire.Unread] = {}
        with suppress(ChatError):  # perhaps we have no markers
            unread = await self._chat.unread()
        self._recall.rooms = {room.room for room in rooms} | unread.keys()

        def news(room: wire.RoomSummary) -> tuple[bool, bool]:
            known = unread.get(room.room, wire.Unread(read=0))
            return (known.mentions > 0, known.unread > 0) if room.room not in self._rooms else (False, False)

        lines = [
            render.room_line(room, unread.get(room.room), is_entered=room.room in self._rooms)
            for room in sorted(rooms, key=news, reverse=True)  # those without news in the server's order
        ]
        self._list(lines, none="there is no room that you may read")

    def _list(self, lines: Sequence[str], *, none: str) -> None:
        for line in lines[:MAX_LISTED] or [none]:
            self._screen.note(line)
        if len(lines) > MAX_LISTED:
            self._screen.note(f"and {len(lines) - MAX_LISTED} more")

    async def _change(
        self, room: str, offset: int | None, change: Callable[[int], Awaitable[wire.Ack]]
    ) -> wire.Ack | None:
        # While a text waits, in slow mode perhaps, the last message is an older one, and not meant.
        is_sending = bool(self._outgoing.unsent[room])
        target = offset or (None if is_sending else self._recall.last(room, by=self._chat.user))
        if target is not None:
            return await change(target)
        why = "your last message is not sent yet: for an earlier one," if is_sending else "which message?"
        self._screen.note(f"{why} name its number, #N")
        return None

    async def _search(self, words: str) -> None:
        found = (await self._chat.search(words)).results
        self._screen.note(f"{len(found) or 'nothing'} found")
        for message in reversed(found):  # the best one next to the prompt
            when = render.local_time(message, "%Y-%m-%d")
            self._screen.print(f"{when} " + render.message_lines(message, self._screen.style, room=message.room))

    async def _say_failure(self, doing: Awaitable[object]) -> None:
        try:
            await doing
        except ChatError as error:
            # `q` is what a search calls its words on the wire.
            self._screen.note(render.printable(error.message.removeprefix("q: ")))

    async def _tell_read(self) -> None:
        """Update our read marker at the server now and then."""
        while True:
            await trio.sleep(READ_EVERY)
            await self._store_read()

    async def _store_read(self) -> None:
        seen, self._seen = self._seen, {}
        for room, offset in seen.items():
            if room in self._rooms:
                with suppress(ChatError):
                    await self._chat.read(room, offset)

    async def _leave(self) -> NoReturn:
        """Give the last texts a moment to be acknowledged, and the server what was read last."""
        with trio.move_on_after(LEAVE_PATIENCE):
            await self._outgoing.all_sent()
            if self._chat.trouble is None:
                await self._store_read()
        raise Done(EXIT_FAULT if self._outgoing.unsent.total() else EXIT_CLEAN)
