"""`loadgen fingerprint`: the deadlines and size limits of any HTTP or WebSocket server, found from outside.

Owns: the package's surface, `play`. Everything runs on trio with raw sockets and is told to one server at a time; a
fingerprint is some fifty lazy connections and a few hundred short ones, no load.

It stands beside `Experiment` on purpose. An experiment says beforehand who comes in which phase and for how long, and
judges victims by it; a probe decides its next connection by what the last one met, and ends when it knows. As groups
and phases the searches would need a second language within the first, so what the two share is what is below and above
them: targets, figures and conditions, progress, the report and its verdict.

    report = await play(target.find("http://127.0.0.1:8000"), Options(), Progress())
"""

from loadgen.fingerprint.play import play
from loadgen.fingerprint.site import Options

__all__ = ["Options", "play"]
