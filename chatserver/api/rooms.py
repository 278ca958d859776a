"""Requests about rooms themselves: the list, one room, its members (docs/protocol.md).

Owns: the meaning of these requests. May not: see a socket.
"""

from functools import partial
from itertools import islice
from math import ceil

import trio

from chatserver.api.answers import Answer, Later, Queue, Response
from chatserver.api.request import Request
from chatserver.api.services import Services, check_signed_in
from chatserver.chat.policy import READ, Rights
from chatserver.chat.principal import Principal
from chatserver.chat.room import Room
from chatserver.fair import SingleFlight
from chatserver.log.interface import MAX_READ, RoomSummary
from chatserver.log.sanctions import EVERYWHERE
from chatserver.protocol import encoders
from chatserver.protocol.response import json_body

#: Rooms in one answer to `GET /rooms`.
MAX_ROOMS_LISTED = 200
#: Rooms whose visibility to a user is checked in one step: 0.2 ms.
LISTED_PER_STEP = 100


class RoomHandlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._registry = services.hub.registry
        #: concurrent requests with the same view share one query: by limit, rights, and the user if one is sanctioned
        self._listing: SingleFlight[tuple[int, Rights, tuple[int, str] | None], bytes] = SingleFlight()

    def list_rooms(self, request: Request) -> Later:
        """`GET /rooms`: rooms with messages, latest first, then rooms that only have people in them."""
        limit = request.parameters("limit").limit(default=MAX_ROOMS_LISTED, most=MAX_ROOMS_LISTED)
        self._check_lister(request)
        return Later(self._list_later(request, limit), partial(self._check_lister_again, request), Queue.LIST)

    def _check_lister(self, request: Request) -> None:
        check_signed_in(request.reader)
        self._services.check_sanctions(request.reader, READ, EVERYWHERE)

    def _check_lister_again(self, request: Request) -> None:
        request.check_again()
        self._check_lister(request)

    async def _list_later(self, request: Request, limit: int) -> Answer:
        reader = request.reader
        concerned = self._services.moderation.concerns(reader)
        key = limit, reader.rights, (reader.number, reader.network) if concerned else None
        return Response(200, [await self._listing.get(key, lambda: self._list_rooms(limit, reader, concerned))])

    async def _list_rooms(self, limit: int, reader: Principal, concerned: bool) -> bytes:
        sees_all = reader.access.sees_all(reader.rights) and not concerned
        most = limit if sees_all else MAX_READ  # no further rooms are searched: there may be 100,000
        known = await self._services.log.rooms(most)
        names = {found.room for found in known}
        others: list[str] = []  # without messages, and in no memory here; shown if there are no more with messages
        if self._services.hub.cluster is not None and len(known) < most:
            others = list(islice((name for name in self._services.hub.cluster.rooms() if name not in names), most))
            if others:  # they may have been written long ago
                names.update(await self._services.log.heads(others))
        if not sees_all and len(known) == most:  # rooms that the token names may have been written before these
            heads = await self._services.log.heads([room for room in reader.rights.named if room not in names])
            known += [
                RoomSummary(room, head.last - head.first + 1, head.last)
                for room, head in sorted(heads.items())
                if head.last >= head.first
            ]
            names.update(heads)
        rooms: list[RoomSummary | Room | str] = [*known, *self._registry.unwritten(most), *others]
        listed: list[dict[str, object]] = []
        for index, room in enumerate(rooms, start=1):
            if len(listed) == limit:
                break
            if index % LISTED_PER_STEP == 0:
                await trio.lowlevel.checkpoint()
            if isinstance(room, RoomSummary):
                name, last, count = room.room, room.last, room.messages
            elif isinstance(room, str) or room.presence:
                name, last, count = room if isinstance(room, str) else room.name, 0, 0
                if name in names:
                    continue
                names.add(name)
            else:
                continue
            if sees_all or self._services.lists(reader, name):
                listed.append(self._summary(name, last, count))
        return json_body({"rooms": listed})

    def show_room(self, request: Request, name: str) -> Later:
        """`GET /rooms/{room}`, and whether the user may write there now.

        A room without messages is no error, since its first message may still come.
        """
        request.parameters()
        self._services.check_reader(request, name)
        return Later(self._show_later(request, name), partial(self._services.check_reader_again, request, name))

    async def _show_later(self, request: Request, name: str) -> Answer:
        head = await self._services.log.head(name)
        summary = self._summary(name, head.last, head.last - head.first + 1)
        refusal = self._services.refusal_to_write(request.reader, name)
        summary["may_write"] = refusal is None
        if refusal is not None:
            wait = {} if refusal.wait is None else {"retry_after": ceil(refusal.wait)}
            summary["why"] = {"code": refusal.code.code, "message": refusal.message, **wait}
        return Response(200, [json_body(summary)])

    def _summary(self, name: str, last: int, count: int) -> dict[str, object]:
        members = len(self._registry.presence(name))
        return {"room": name, "cursor": self._services.encoder.cursor(last), "messages": count, "members": members}

    def show_members(self, request: Request, name: str) -> Response:
        """`GET /rooms/{room}/members`."""
        request.parameters()
        self._services.check_reader(request, name)
        presence = self._registry.presence(name)
        users = self._services.encoder.listing(presence)
        return Response(200, encoders.members_page(name, users, len(presence)))
