"""The page's files, read and compressed once.

Owns: the bytes, their types and the headers that a browser needs. May not: read the disk after the start, or serve a
path outside the table; so there is no path traversal.
"""

import gzip
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path

from chatserver.api.answers import Response
from chatserver.api.identities import set_cookie
from chatserver.api.request import Request
from chatserver.chat.principal import new_token
from chatserver.protocol.errors import Headers

WEB = Path(__file__).parent.parent / "web"
#: The script that loads the page again if a part of it is missing: inline, so that it is never missing itself.
LOAD = (WEB / "load.js").read_bytes()
#: No other inline scripts or styles, and no other hosts, so an injected tag cannot run anything.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{b64encode(sha256(LOAD).digest()).decode()}'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".ts": "application/typescript; charset=utf-8",  # what Deno takes
}
#: Revalidate by ETag each time, so that a new version is used at the next load.
_REVALIDATED = ("Cache-Control", "no-cache")
#: The same for a page that sets a cookie: a cache in front would give this guest's token to later visitors.
_OWN = ("Cache-Control", "private, no-cache")
_STATIC = "/page/"
#: In the page: replaced by a link to each module, so that the browser asks for all of them at once.
_MODULES = b"<!-- modules -->"
#: Files under `/page/VERSION/` never change: a reload of the page asks for none of them. Those of another version, as
#: while the nodes of a cluster are replaced, are not found here: a page of parts that do not fit could fail anywhere.
_KEPT = ("Cache-Control", "public, max-age=31536000, immutable")
_VARY = ("Vary", "Accept-Encoding")
#: Browsers apply the policies of the page to all that it loads; in its 32 parts they would be 6 KB of a first visit.
_POLICIES = (("Referrer-Policy", "no-referrer"), ("Content-Security-Policy", CONTENT_SECURITY_POLICY))
#: Codings that are looked at in Accept-Encoding: browsers send four.
MAX_CODINGS = 16


@cache
def _read_all() -> tuple[str, dict[tuple[str, bool], tuple[str, str, bytes]]]:
    """Version; type, entity tag and bytes, by path and whether compressed. Each coding has its own tag.

    The page loads its files from `/page/VERSION/`; pages of other sites load `/chat.js`, whose path stays.
    """
    bodies = {file.name: file.read_bytes() for file in sorted(WEB.iterdir()) if file.suffix in _TYPES}
    version = sha256(b"".join(bodies.values())).hexdigest()[:20]
    del bodies["load.js"]
    modules = [name for name in bodies if name.endswith(".js") and name != "chat.js"]
    links = "".join(f'<link rel="modulepreload" href="{_STATIC}{name}">' for name in modules)
    page = (
        bodies["index.html"]
        .replace(b"<!-- load.js -->", b"<script>%b</script>" % LOAD)
        .replace(_MODULES, links.encode())
    )
    bodies["index.html"] = page.replace(_STATIC.encode(), f"{_STATIC}{version}/".encode())
    files = {}
    for name, plain in bodies.items():
        path = "/" if name == "index.html" else f"/{name}"
        for body in (plain, gzip.compress(plain, mtime=0)):
            etag = f'"{sha256(body).hexdigest()[:20]}"'
            files[path, body is not plain] = (_TYPES[Path(name).suffix], etag, body)
    return version, files


def _split(path: str) -> tuple[str, str]:
    """The version in a path, or an empty text; the path of the file."""
    version, _, name = path.removeprefix(_STATIC).partition("/")
    return (version, f"/{name}") if name and path.startswith(_STATIC) else ("", path)


def accepts_gzip(field: str) -> bool:
    """Whether Accept-Encoding has gzip, not with a weight of zero (RFC 9110 section 12.5.3)."""
    for coding in field.lower().split(",", MAX_CODINGS)[:MAX_CODINGS]:
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return weight.strip().rstrip("0.") != "q="
    return False


class StaticFiles:
    """A table from path to file; `index.html` is `/`."""

    def __init__(self) -> None:
        self._version, self._files = _read_all()

    def __contains__(self, path: str) -> bool:
        version, path = _split(path)
        return version in ("", self._version) and (path, False) in self._files

    def serve(self, request: Request) -> Response:
        """A file, or 304 for a browser that has it. The page itself also sets a guest's cookie."""
        version, path = _split(request.head.path)
        fields = request.head.headers
        takes_gzip = accepts_gzip(fields.get("accept-encoding", ""))
        content_type, etag, body = self._files[path, takes_gzip]
        headers: Headers = (_VARY, ("ETag", etag), *((("Content-Encoding", "gzip"),) if takes_gzip else ()))
        headers += _POLICIES if path == "/" else ()
        known = fields.get("if-none-match", "")
        if path == "/" and request.identities.wants_cookie(
            request.head, request.network, vouched=request.vouched, secure=request.secure
        ):
            cookie = set_cookie(new_token(), secure=request.secure)
            return Response(200, [body], content_type, (*headers, _OWN, cookie))
        headers = (*headers, _KEPT if version else _REVALIDATED)
        if etag in known or known == "*":  # in a list, or made weak by a proxy (RFC 9110 13.1.2)
            return Response(304, [], content_type, headers)
        return Response(200, [body], content_type, headers)
