"""The victims: healthy clients beside a crowd, and what they met.

`runner.py` is one worker's part, and its table is all that knows of the kinds of victims. `schedule.py` says when
operations are due and `recorder.py` books them. Victims are ordinary trio tasks on trio-websocket and h11 (about 25 KB
each): independent peers, so that a mistake in how the engine reads a protocol cannot hide one in the target.
"""
