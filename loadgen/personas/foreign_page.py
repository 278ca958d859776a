"""What the page of another site can have a visitor's browser send."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from loadgen import wire
from loadgen.client import Needs
from loadgen.personas import persona
from loadgen.personas.malformed_http import MalformedHttp

#: A room of its own, so that the victims do not read what a server takes by mistake.
ROOM: Final = "foreign-page"

#: A name that never resolves (RFC 6761).
_SITE: Final = "page.invalid"
_ORIGIN: Final = f"Origin: http://{_SITE}"
_NO_ORIGIN: Final = "Origin: null"
_CROSS_SITE: Final = "Sec-Fetch-Site: cross-site"
_SAME_ORIGIN: Final = "Sec-Fetch-Site: same-origin"
_TEXT: Final = b"said by another site's page"


@persona
class ForeignPage(MalformedHttp):
    """Does what another site's page can have a browser do: open `/ws`, post text, come by another `Host`.

    A page needs no permission to open a WebSocket or to post text/plain, and the browser adds the user's cookies; only
    `Origin` and `Sec-Fetch-Site` tell. After DNS rebinding even these are the server's own, and only `Host` tells. Each
    request deserves 403 or 421; a request that was taken is booked under its case.
    """

    __slots__ = ()

    name = "foreign-page"
    needs = Needs.CHAT

    def cases(self) -> Mapping[str, bytes]:
        """Return the requests for this target's paths."""
        place = self.cohort.place
        return cases(place.host, place.path, place.post_path.format(room=ROOM), place.websocket_path)


@lru_cache(maxsize=4)
def cases(host: str, path: str, post_path: str, websocket_path: str) -> Mapping[str, bytes]:
    """Every request, by name, for a server whose own pages are under `host`."""
    return {
        "WebSocket from another origin": wire.upgrade_request(websocket_path, host, _ORIGIN, _CROSS_SITE),
        "WebSocket from another origin, in an old browser": wire.upgrade_request(websocket_path, host, _ORIGIN),
        "WebSocket from a sandboxed frame": wire.upgrade_request(websocket_path, host, _NO_ORIGIN, _CROSS_SITE),
        "WebSocket by another name": wire.upgrade_request(websocket_path, _SITE, _ORIGIN, _SAME_ORIGIN),
        "text from another origin": _post(post_path, host, _ORIGIN, _CROSS_SITE),
        "text from another origin, in an old browser": _post(post_path, host, _ORIGIN),
        "text from another site, without its origin": _post(post_path, host, _CROSS_SITE),
        "text from a sandboxed frame": _post(post_path, host, _NO_ORIGIN, _CROSS_SITE),
        "text by another name": _post(post_path, _SITE, _ORIGIN, _SAME_ORIGIN),
        "page by another name": wire.request("GET", path, _SITE),
    }


def _post(path: str, host: str, *fields: str) -> bytes:
    return (
        wire.request("POST", path, host, "Content-Type: text/plain", f"Content-Length: {len(_TEXT)}", *fields) + _TEXT
    )
