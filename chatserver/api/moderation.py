"""Requests of moderators: sanctions, kicks, the audit trail (docs/protocol.md).

Owns: the meaning of these requests, and who may make them. May not: see a socket, or remove a user from a room itself.
A refused request goes into the audit trail, and its answer does not depend on what exists.
"""

from collections.abc import Mapping
from functools import partial
from itertools import chain

import msgspec

from chatserver.api.answers import Answer, Later, Response, given_anyway
from chatserver.api.request import Request, number_in
from chatserver.api.services import Services
from chatserver.chat.audit import write_line
from chatserver.chat.policy import MODERATE
from chatserver.chat.principal import Principal
from chatserver.fair import in_steps
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import LogError
from chatserver.log.sanctions import EVERYWHERE, Penalty, Sanction, TooManySanctionsError
from chatserver.protocol.encoders import time_text
from chatserver.protocol.errors import HttpError, bad_field
from chatserver.protocol.moderation import SanctionBody, check_network, decode_kick, decode_sanction
from chatserver.protocol.response import json_body
from chatserver.protocol.validation import check_any_user_id
from chatserver.reasons import ErrorCode
from chatserver.settings.spec import plain

#: Sanctions or entries in one answer: the default, and the most that can be asked for.
DEFAULT_LISTED, MAX_LISTED = 100, 1_000


class ModerationHandlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._moderation = services.moderation
        self._kept = services.log.sanctions
        self._trail = services.log.audit

    def _moderator(self, request: Request, action: str, room: str) -> Principal:
        """The moderator who sent the request. Raises HttpError (403) and MessageError."""
        principal = request.principal
        # `*` is no room, but a pattern like `?` or `[!s]*` matches it too.
        may = EVERYWHERE in principal.rights.moderates if room == EVERYWHERE else principal.may(MODERATE, room)
        if not may:
            self._services.audit.note_refusal(principal, action, room)
            nobody = principal.is_guest and principal.access.sign_in
            raise HttpError(ErrorCode.UNAUTHENTICATED if nobody else ErrorCode.FORBIDDEN, "this is for moderators")
        self._services.check(principal, MODERATE, room)  # one moderator may have banned another
        return principal

    def sanction(self, request: Request, room: str) -> Later:
        """`POST /rooms/{room}/sanctions`: 201 once it is stored and in force, and open connections have been told."""
        principal = self._moderator(request, "sanction", room)
        request.parameters()
        asked = decode_sanction(*request.content)
        if asked.user == principal.face.id:
            raise bad_field("user", "that is yourself")
        return Later(self._sanction_later(principal, room, asked), given_anyway)

    async def _person(self, user: str, where: str) -> Principal | None:
        """A user who is in this room, or with "*" in any; the connection may be in another process."""
        number, hub = self._moderation.number_behind(user), self._services.hub
        if where != EVERYWHERE:
            return hub.registry.presence(where).person(number)
        here = (room.presence.person(number) for room in list(hub.rooms.values()))
        people = await in_steps(chain(here, () if hub.cluster is None else hub.cluster.entries(number)))
        return next(filter(None, people), None)

    async def _name_of(self, user: str, where: str) -> str:
        """The name of a user who is there, else empty."""
        person = await self._person(user, where)
        return "" if person is None else person.face.name

    async def _network(self, asked: SanctionBody, where: str) -> str:
        """The network that a sanction is for, named or found by a user who is there; empty if it is for a user."""
        if asked.network_of is None:
            return asked.network or ""
        person = await self._person(asked.network_of, where)
        if person is None:
            place = "in any room" if where == EVERYWHERE else f"in {where}"
            raise bad_field("network_of", f"{asked.network_of} is not {place} now")
        return person.network

    async def _sanction_later(self, principal: Principal, room: str, asked: SanctionBody) -> Answer:
        network = await self._network(asked, room)
        if network == principal.network:
            named = "network" if asked.network_of is None else "network_of"
            raise bad_field(named, "that is the network that you come from")
        name = await self._name_of(asked.user, room) if asked.user else ""
        now = self._moderation.wall_ms()
        face = principal.face
        until = 0 if asked.seconds is None else now + int(asked.seconds * 1000)
        target = asked.user or network
        wanted = Sanction(
            room, Penalty(asked.kind), asked.user or "", network, until, asked.reason or "", face.id,
            face.name, now, name,
        )  # fmt: skip
        length = "" if asked.seconds is None else f"{plain(asked.seconds)} s"
        entry = self._entry(principal, asked.kind, room, target, name, length, wanted.reason)
        try:
            sanction = await self._kept.add(wanted, entry)
        except TooManySanctionsError as error:
            raise HttpError(ErrorCode.BAD_FIELD, f"{error}; lift one, or wait until one ends") from None
        enforcement = self._moderation.enforce(sanction)
        write_line(entry)
        if enforcement is not None:  # None: another moderator has replaced it meanwhile
            await enforcement.over.wait()
        return Response(201, [_shown(sanction), b"\n"])

    def list_sanctions(self, request: Request, room: str) -> Later:
        """`GET /rooms/{room}/sanctions`: those in force there, the newest first; for "*" those of all rooms."""
        self._moderator(request, "list sanctions", room)
        parameters = request.parameters("user", "network", "limit")
        user, network = parameters.one("user"), parameters.one("network")
        named = {
            "room": "" if room == EVERYWHERE else room,
            "user": "" if user is None else check_any_user_id(user),
            "network": "" if network is None else check_network(network),
        }
        limit = parameters.limit(default=DEFAULT_LISTED, most=MAX_LISTED)
        fields = {name: value for name, value in named.items() if value}
        return Later(self._list_later(limit, fields), partial(self._check_again, request, room))

    async def _list_later(self, limit: int, fields: Mapping[str, str]) -> Answer:
        found = await self._in_force(limit, **fields)
        return Response(200, [b'{"sanctions":[%b]}\n' % b",".join(await in_steps(map(_shown, found)))])

    async def _in_force(self, limit: int, **fields: str | int) -> list[Sanction]:
        """Those in the log, since this process may not have heard yet of what another one has just answered."""
        return await self._kept.listing(self._moderation.wall_ms(), limit, **fields)

    def lift(self, request: Request, room: str, number: str) -> Later:
        """`DELETE /rooms/{room}/sanctions/{id}`: 200 with the sanction; "*" finds it in any room."""
        principal = self._moderator(request, "lift sanction", room)
        request.parameters()
        return Later(self._lift_later(principal, room, number), given_anyway)

    async def _lift_later(self, principal: Principal, room: str, number: str) -> Answer:
        found = await self._in_force(1, id=number_in(number))
        if not found or room not in (EVERYWHERE, found[0].room):
            raise HttpError(ErrorCode.NOT_FOUND, f"no sanction {number[:20]} is in force in {room}")
        [sanction] = found
        if sanction.user == principal.face.id:
            raise HttpError(ErrorCode.FORBIDDEN, "this sanction is on yourself: another moderator has to lift it")
        target = sanction.user or sanction.network
        entry = self._entry(principal, f"un{sanction.kind}", sanction.room, target, sanction.user_name)
        lifted = await self._kept.lift(sanction.id, entry)
        self._moderation.lift(sanction.id)
        if not lifted:  # another request has lifted or replaced it meanwhile, perhaps in another process
            raise HttpError(ErrorCode.NOT_FOUND, f"sanction {sanction.id} is no longer in force")
        write_line(entry)
        return Response(200, [_shown(sanction), b"\n"])

    def kick(self, request: Request, room: str) -> Later:
        """`POST /rooms/{room}/kick`: 200 once the user is out of the room; the user may come back."""
        principal = self._moderator(request, "kick", room)
        request.parameters()
        asked = decode_kick(*request.content)
        if asked.user == principal.face.id:
            raise bad_field("user", "that is yourself")
        return Later(self._kick_later(principal, room, asked.user, asked.reason or ""), given_anyway)

    async def _kick_later(self, principal: Principal, room: str, user: str, reason: str) -> Answer:
        entry = self._entry(principal, "kick", room, user, await self._name_of(user, room), reason)
        enforcement = self._moderation.kick(user, room, reason)
        if self._services.hub.cluster is not None:
            self._services.hub.cluster.kick(user, room, reason)
        write_line(entry)
        try:
            await self._trail.add([entry])  # after the kick: no entry tells of one that was not
        except LogError as error:
            self._services.audit.store_again(entry, error)
        await enforcement.over.wait()
        return Response(200, [json_body({"room": room, "user": user, "ended": enforcement.ended})])

    def read_audit(self, request: Request) -> Later:
        """`GET /audit`: the first entries after an id, or the last ones; the oldest first."""
        self._moderator(request, "read audit", EVERYWHERE)
        parameters = request.parameters("after", "limit")
        after = parameters.entry()
        limit = parameters.limit(default=DEFAULT_LISTED, most=MAX_LISTED)
        return Later(self._read_later(after, limit), partial(self._check_again, request, EVERYWHERE))

    def _check_again(self, request: Request, room: str) -> None:
        request.check_again()
        self._services.check(request.principal, MODERATE, room)

    async def _read_later(self, after: int | None, limit: int) -> Answer:
        entries = await self._trail.read(after=after, limit=limit)
        last = entries[-1].id if entries else after or 0
        shown = b",".join(await in_steps(map(_entry_shown, entries)))
        return Response(200, [b'{"entries":[%b],"last":%d}\n' % (shown, last)])

    def _entry(self, principal: Principal, action: str, room: str, target: str, name: str, *details: str) -> AuditEntry:
        return self._services.audit.entry(principal, action, room, target, ": ".join(filter(None, details)), name)


def _shown(sanction: Sanction) -> bytes:
    user = {"user": sanction.user, "user_name": sanction.user_name}
    whom = user if sanction.user else {"network": sanction.network}
    return msgspec.json.encode({
        "id": sanction.id, "room": sanction.room, "kind": sanction.kind.value, **whom,
        "until": time_text(sanction.until) if sanction.until else None, "reason": sanction.reason,
        "by": {"id": sanction.by_id, "name": sanction.by_name}, "time": time_text(sanction.time),
    })  # fmt: skip


def _entry_shown(entry: AuditEntry) -> bytes:
    return msgspec.json.encode({
        "id": entry.id, "time": time_text(entry.time), "by": {"id": entry.by_id, "name": entry.by_name},
        "network": entry.network, "action": entry.action, "room": entry.room, "target": entry.target,
        "target_name": entry.target_name, "detail": entry.detail,
    })  # fmt: skip
