"""`chatserver admin`: what moderators do, from the command line.

Owns: these command lines and their exit codes. May not: speak HTTP; terminal/moderate.py does, and is imported only
when a command runs.

Exit codes: 0 done, 1 the server failed or refused, 2 bad flags.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from chatserver.exits import EXIT_CLEAN, EXIT_FAULT, complain
from chatserver.settings.forms import span
from chatserver.settings.spec import ConfigError

if TYPE_CHECKING:
    from chatserver.client.wire import Sanction
    from chatserver.terminal.moderate import Admin, Entry

admin = App(
    name="admin",
    help="Moderate: mute, ban, kick, delete; list the sanctions in force and the audit trail.\n\n"
    "Every command needs a moderator's token, as `chatserver token --role moderator` prints one.",
)


def _flag(metavar: str, meaning: str, name: str | None = None) -> Parameter:
    return Parameter(name=name, help=meaning, metavar=metavar, show_default=False)


Url = Annotated[str, Parameter(help="Where the server is: http://host:port, ws://host:port or host:port.")]
Room = Annotated[str, _flag("ROOM", "The room; '*' is all of them.")]
User = Annotated[str, _flag("ID", "The user's id, as `/who NAME` in `chatserver chat` shows it.")]
Network = Annotated[str, _flag("ADDRESS", "Everybody from there: an IPv4 address, or the /64 of an IPv6 address.")]
NetworkOf = Annotated[str, _flag("ID", "Everybody on the network that this user is connected from now.")]
Reason = Annotated[str, _flag("TEXT", "Why: shown to the people concerned, and kept in the audit trail.")]
Span = Annotated[str | None, _flag("TIME", "How long: 90s, 10m, 1h, 30d; the default is until it is lifted.", "--for")]
Token = Annotated[
    str, _flag("TOKEN", "A moderator's token; @FILE reads it from a file, where other users cannot see it.")
]
Limit = Annotated[int, Parameter(help="The most entries to list, up to 1,000.", metavar="N")]
_NEWEST = "there may be more: these are the newest {:,}"
_FURTHER = "there may be more: go on with --after {}"


@admin.command
def mute(
    url: Url, /, *, room: Room, user: User = "", network: Network = "", network_of: NetworkOf = "", for_: Span = None,
    reason: Reason = "", token: Token,
) -> int:  # fmt: skip
    """Let a user or network read but not write."""
    return _sanction("mute", "muted", url, room, _whom(user, network, network_of), for_, reason, token)


@admin.command
def ban(
    url: Url, /, *, room: Room, user: User = "", network: Network = "", network_of: NetworkOf = "", for_: Span = None,
    reason: Reason = "", token: Token,
) -> int:  # fmt: skip
    """Take a user or network out of a room, or of all rooms, and keep it out."""
    return _sanction("ban", "banned", url, room, _whom(user, network, network_of), for_, reason, token)


@admin.command
def unmute(url: Url, /, *, room: Room, user: User = "", network: Network = "", token: Token) -> int:
    """End a mute."""
    return _lift("mute", "unmuted", url, room, _whom(user, network), token)


@admin.command
def unban(url: Url, /, *, room: Room, user: User = "", network: Network = "", token: Token) -> int:
    """End a ban."""
    return _lift("ban", "unbanned", url, room, _whom(user, network), token)


@admin.command
def kick(url: Url, /, *, room: Room, user: User, reason: Reason = "", token: Token) -> int:
    """Take a user out of a room; the user may come back at once."""

    def show(ended: int) -> None:
        print(f"kicked {user}; connections removed: {ended}" if ended else f"{user} is not there")

    return _run(url, token, lambda it: it.kick(room, user=user, reason=reason), show)


@admin.command
def delete(
    url: Url, /, *, room: Annotated[str, _flag("ROOM", "The room.")],
    offset: Annotated[int, _flag("N", "The message's offset, as every message shows it.")], token: Token,
) -> int:  # fmt: skip
    """Remove the text of a message, for all users and for good."""
    return _run(url, token, lambda it: it.delete(room, offset=offset), lambda _: print(f"deleted {offset} in {room}"))


@admin.command
def sanctions(
    url: Url, /, *, room: Annotated[str, _flag("ROOM", "The room; the default is all of them.")] = "*",
    user: User = "", network: Network = "", limit: Limit = 1000, token: Token,
) -> int:  # fmt: skip
    """List the mutes and bans that are in force, the newest first."""
    from chatserver.terminal.moderate import print_sanctions  # noqa: PLC0415  (quick --help)

    def show(found: "Sequence[Sanction]") -> None:
        print_sanctions(found, sys.stdout)
        if len(found) == limit:
            complain(_NEWEST.format(limit))

    whom = _whom(user, network) if user or network else {}
    return _run(url, token, lambda it: it.sanctions(room, whom=whom, limit=limit), show)


@admin.command
def audit(
    url: Url, /, *,
    after: Annotated[int | None, _flag("ID", "List those after the entry with this id, not the latest.")] = None,
    limit: Limit = 1000, token: Token,
) -> int:  # fmt: skip
    """List what moderators did and what others tried to do, the oldest first."""
    from chatserver.terminal.moderate import print_audit  # noqa: PLC0415  (quick --help)

    def show(found: "Sequence[Entry]") -> None:
        print_audit(found, sys.stdout)
        if len(found) == limit:
            complain(_NEWEST.format(limit) if after is None else _FURTHER.format(found[-1].id))

    return _run(url, token, lambda it: it.audit(after=after, limit=limit), show)


def _sanction(
    kind: str, did: str, url: str, room: str, whom: dict[str, str], for_: str | None, reason: str, token: str
) -> int:
    from chatserver.terminal.moderate import done  # noqa: PLC0415  (quick --help)

    try:
        seconds = None if for_ is None else span(for_)  # empty: a variable that is not set, and no default
    except ValueError as error:
        raise ConfigError("for", str(error)) from None
    return _run(
        url, token, lambda it: it.sanction(kind, room, whom=whom, seconds=seconds, reason=reason),
        lambda answer: print(done(did, answer)),
    )  # fmt: skip


def _lift(kind: str, did: str, url: str, room: str, whom: dict[str, str], token: str) -> int:
    from chatserver.terminal.moderate import done  # noqa: PLC0415  (quick --help)

    return _run(url, token, lambda it: it.lift(kind, room, whom=whom), lambda answer: print(done(did, answer)))


def _whom(user: str, network: str, network_of: str = "") -> dict[str, str]:
    given = {"user": user, "network": network, "network_of": network_of}
    whom = {name: value for name, value in given.items() if value}
    if len(whom) != 1:
        raise ConfigError("user", "give one of --user, --network and, to mute or ban, --network-of")
    return whom


def _run(url: str, token: str, ask: "Callable[[Admin], Any]", show: Callable[[Any], None]) -> int:
    from chatserver.terminal.moderate import Admin, AdminError  # noqa: PLC0415  (quick --help)

    try:
        show(ask(Admin(url, token)))
    except AdminError as error:
        complain(str(error))
        return EXIT_FAULT
    return EXIT_CLEAN
