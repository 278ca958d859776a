"""The victims: healthy clients beside a crowd, and what they met.

`runner.py` is one worker's part. `clock.py` says when operations are due, `context.py` has what is outstanding of them,
and `recorder.py` books them; the kinds of victims are in loadgen/protocols. Victims are ordinary trio tasks on
trio-websocket and h11 (about 25 KB each): independent peers, so that a mistake in how the engine reads a protocol
cannot hide one in the target.
"""
