"""The victims: healthy clients beside a crowd, and how they fared.

`runner.py` is one worker's part. `probe.py` says when operations are due and books them, `victim.py` connects again
after each failure; the kinds of victims are in loadgen/protocols. Victims are ordinary trio tasks on trio-websocket and
h11 (about 25 KB each), independent of the engine's own parsers, so that a mistake there cannot hide one in the target.
"""
