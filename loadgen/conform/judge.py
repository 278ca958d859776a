"""The judgement of a case.

Owns: the four marks, and the rules that give one to what was heard. May not: wait, or touch a socket.

*Wrong* breaks a MUST of RFC 6455. *Non-strict* breaks a SHOULD, or a choice that the RFC leaves to the server: it ends
the connection without a close frame or with another code, notices late, does not echo the message just before, or
agrees to a subprotocol that it cannot know.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from loadgen.cases.case import End, Opening, Said, Script
from loadgen.conform.conversation import Heard
from loadgen.net import wire
from loadgen.net.answers import TURNED_AWAY

#: Close codes for a limit of the server, even if the client did nothing wrong: RFC 6455 section 7.4.1, IANA.
_LIMITS: Final = frozenset({1008, 1009, 1013})

#: The longest control frame, head included. Every server must take that much, so it cannot exceed a limit.
_LEAST_BYTES: Final = 6 + 125

#: No server has to take that much. Of less, an end without a close frame is rather a fault than a limit.
_LONG_BYTES: Final = 65_535

#: Close codes that blame the client, or report a fault of the server.
_BLAMING: Final = frozenset({1002, 1003, 1007, 1011})

_SUBPROTOCOL: Final = "sec-websocket-protocol"


class Mark(StrEnum):
    OK = "ok"
    NON_STRICT = "non-strict"
    WRONG = "wrong"
    NOT_EXERCISED = "not exercised"


class Finding(NamedTuple):
    mark: Mark
    why: str = ""


def judge(script: Script, heard: Heard) -> Finding:
    if heard.fault:
        return Finding(Mark.WRONG, heard.fault)
    if heard.head is not None and heard.head.status in TURNED_AWAY and heard.head.status not in script.codes:
        return Finding(Mark.NOT_EXERCISED, f"turns us away: {heard.head.status}")
    if script.end is End.REFUSED:
        return _refused(script, heard)
    if not heard.opened:
        return Finding(Mark.WRONG, _answer(heard))
    if script.opening is not None and (fault := _agreed(script.opening, heard)):
        return Finding(Mark.WRONG, fault)
    if script.end is not End.FAILED and (limit := _limit(script, heard)):
        return Finding(Mark.NOT_EXERCISED, f"over a limit of the server's own: {limit}")
    if heard.unexpected is not None:
        return _broken(script, f"sends {heard.unexpected}")
    match script.end:
        case End.FAILED:
            return _failed(script, heard)
        case End.CLOSED:
            return _closed(script, heard)
        case _:
            return _open(heard)


def _limit(script: Script, heard: Heard) -> str:
    """Return how the server showed a limit of its own, or an empty text.

    One that closes before it has read a long message resets the connection, and any close frame is lost with that.
    uWebSockets ends it without one.
    """
    if heard.close is None:
        return heard.ended or "" if script.sent_bytes >= _LONG_BYTES else ""
    return str(heard.close) if _code(heard.close) in _LIMITS and script.sent_bytes > _LEAST_BYTES else ""


def _open(heard: Heard) -> Finding:
    if heard.close is not None or heard.ended is not None:
        return Finding(Mark.WRONG, f"ends the connection: {heard.close or heard.ended}")
    if heard.missing:
        return Finding(Mark.WRONG, f"never sends {heard.missing[0]}")
    if not heard.alive:
        return Finding(Mark.WRONG, "does not answer a ping afterwards")
    subprotocol = _fields(heard).get(_SUBPROTOCOL)
    return _strict_unless([f"agrees to the unknown subprotocol {subprotocol!r}" if subprotocol else ""])


def _failed(script: Script, heard: Heard) -> Finding:
    if heard.close is None and heard.ended is None:
        if heard.alive:
            return _broken(script, "goes on as if nothing were wrong")
        return Finding(Mark.WRONG, "waits for more")
    wrong_code = heard.close is not None and _code(heard.close) not in script.codes
    faults = [
        f"never sends {heard.missing[0]}" if heard.missing else "",
        "notices late" if heard.late else "",
        f"no close frame, but {heard.ended}" if heard.close is None else "",
        f"sends {heard.close}, not {min(script.codes)}" if wrong_code else "",
        "leaves the connection open" if heard.ended is None else "",
    ]
    return _strict_unless(faults)


def _closed(script: Script, heard: Heard) -> Finding:
    if heard.close is None:
        return Finding(Mark.WRONG, f"no close frame, but {heard.ended}" if heard.ended else "does not answer the close")
    if heard.ended is None:
        return Finding(Mark.WRONG, "leaves the connection open after both close frames")
    if _code(heard.close) in _BLAMING - script.codes:
        return _broken(script, f"takes it for an error: {heard.close}")
    code = "" if _code(heard.close) in script.codes else f"answers with {heard.close}"
    return _strict_unless([f"never sends {heard.missing[0]}" if heard.missing else "", code])


def _refused(script: Script, heard: Heard) -> Finding:
    if heard.opened:
        return _broken(script, "accepts it")
    if heard.head is None:
        return Finding(Mark.NON_STRICT if heard.ended else Mark.WRONG, _answer(heard))
    if script.field and script.field not in heard.head.fields:
        return Finding(Mark.WRONG, f"{_answer(heard)} without {script.field}")
    return _strict_unless(["" if heard.head.status in script.codes else _answer(heard)])


def _agreed(opening: Opening, heard: Heard) -> str:
    """Return what is wrong with a 101, or an empty text."""
    fields = _fields(heard)
    try:
        wire.check_upgrade(fields)
    except wire.WireError as error:
        return str(error)
    if fields.get("upgrade", "").lower() != "websocket" or "upgrade" not in fields.get("connection", "").lower():
        return "a 101 without Upgrade: websocket and Connection: Upgrade"
    extensions = fields.get("sec-websocket-extensions", "")
    agreed = [name for each in extensions.split(",") if (name := each.partition(";")[0].strip())]
    if agreed not in ([], [opening.extension]):
        return f"agrees to the extensions {', '.join(agreed)}"
    if "client_max_window_bits" in extensions:  # RFC 7692 section 7.1.2.2
        return "answers with client_max_window_bits, which was not offered"
    subprotocol = fields.get(_SUBPROTOCOL, "")
    return f"agrees to the subprotocol {subprotocol!r}" if subprotocol not in {"", opening.subprotocol} else ""


def _fields(heard: Heard) -> Mapping[str, str]:
    assert heard.head is not None, "it has opened"
    return heard.head.fields


def _answer(heard: Heard) -> str:
    if heard.head is not None:
        return f"answers the handshake with {heard.head.status}"
    return "does not answer the handshake" + (f", but {heard.ended}" if heard.ended else "")


def _code(close: Said) -> int:
    return int.from_bytes(close.payload[:2]) or 1005


def _broken(script: Script, why: str) -> Finding:
    """Mark a violation as wrong, or as non-strict if the RFC leaves the case to the server."""
    return Finding(Mark.NON_STRICT if script.lenient else Mark.WRONG, why)


def _strict_unless(faults: list[str]) -> Finding:
    reasons = ", ".join(filter(None, faults))
    return Finding(Mark.NON_STRICT, reasons) if reasons else Finding(Mark.OK)
