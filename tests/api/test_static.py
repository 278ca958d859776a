"""The page's files: compression, entity tags, size."""

import gzip
import re
from pathlib import Path

from chatserver.api.static import WEB, accepts_gzip
from tests.support.peers import Peer

#: Bytes that a first visit may transfer, so that the page loads in about 2 s on a slow phone.
MOST_TRANSFERRED = 100_000
#: Within the page.
INLINE = ("load.js",)
#: The largest size of one file.
MOST_LINES = 400


async def test_a_file_is_compressed_if_the_client_accepts_gzip(peer: Peer) -> None:
    body = (WEB / "client.js").read_bytes()
    for accepted, is_gzip in (
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("GZIP", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("gzip ; q=1 ", True),
        ("gzip; q=0.000, br", False),
        ("br", False),
        ("x-gzip-not", False),
        ("", False),
    ):
        answer = await peer.request("GET", "/client.js", headers={"Accept-Encoding": accepted})
        assert (answer.status, answer.headers["vary"]) == (200, "Accept-Encoding")
        assert answer.headers.get("content-encoding") == ("gzip" if is_gzip else None), accepted
        assert (gzip.decompress(answer.body) if is_gzip else answer.body) == body


def test_accept_encoding_is_parsed_in_linear_time() -> None:
    """With quadratic time, 2,000 blanks between `gzip` and an `x` stop the loop for 0.1 s."""
    for blank in (" ", "\t"):
        assert not accepts_gzip(f"gzip{blank * 200_000}x")


async def test_a_browser_that_has_a_file_in_this_coding_gets_304(peer: Peer) -> None:
    plain = await peer.request("GET", "/client.js")
    packed = await peer.request("GET", "/client.js", headers={"Accept-Encoding": "gzip"})
    etag = packed.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await peer.request("GET", "/client.js", headers={"Accept-Encoding": "gzip", "If-None-Match": known})
        assert (again.status, again.headers["etag"], again.body) == (304, etag, b""), known
    changed = await peer.request("GET", "/client.js", headers={"If-None-Match": etag})
    assert (changed.status, changed.body) == (200, plain.body)


async def test_the_page_names_all_its_files_by_version(peer: Peer) -> None:
    """Else a reload revalidates them, and their modules load a second time from another path."""
    page = (await peer.request("GET", "/")).body.decode()
    (version,) = set(re.findall(r'"/page/(\w+)/', page))
    named = set(re.findall(rf'"/page/{version}/([^"]+)"', page))
    assert named | {*INLINE, "index.html", "chat.js", "chat.d.ts"} == {file.name for file in WEB.iterdir()}
    kept = await peer.request("GET", f"/page/{version}/client.js")
    assert (kept.status, kept.body) == (200, (WEB / "client.js").read_bytes())
    other = await peer.request("GET", "/page/another/client.js")
    assert (other.status, other.headers["cache-control"]) == (404, "no-store"), "parts of two versions may not fit"
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    for path in ("/page/", "/page/client.js", f"/page/{version}/", f"/page/{version}/index.html"):
        assert (await peer.request("GET", path)).status == 404


async def test_the_whole_page_is_small(peer: Peer) -> None:
    transferred = 0
    for file in WEB.iterdir():
        if file.name in ("chat.d.ts", *INLINE):  # the first is for compilers: no page loads it
            continue
        path = "/" if file.name == "index.html" else f"/{file.name}"
        transferred += len((await peer.request("GET", path, headers={"Accept-Encoding": "gzip"})).body)
    assert transferred <= MOST_TRANSFERRED
    assert [lines for lines in map(_lines, WEB.glob("*.js")) if lines[1] > MOST_LINES] == []


def _lines(file: Path) -> tuple[str, int]:
    return file.name, file.read_text(encoding="utf-8").count("\n")


async def test_the_types_of_chat_js_are_beside_it(peer: Peer) -> None:
    """Deno takes no other content type; the comment in chat.js leads there."""
    answer = await peer.request("GET", "/chat.d.ts")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/typescript; charset=utf-8")
    assert (await peer.request("GET", "/chat.js")).body.startswith(b'// @ts-self-types="./chat.d.ts"\n')
