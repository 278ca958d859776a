"""`loadgen fingerprint`: the deadlines and size limits of any HTTP or WebSocket server, found from outside.

Owns: the package's surface, `play`. Everything runs on trio with raw sockets and is told to one server at a time; a
fingerprint is some fifty lazy connections and a few hundred short ones, no load.

    report = await play(target.find("http://127.0.0.1:8000"), Options(), Progress())
"""

from loadgen.fingerprint.play import play
from loadgen.fingerprint.site import Options

__all__ = ["Options", "play"]
