"""The victims: healthy clients beside a crowd, and what they felt.

A runner of victims is one worker's part. Each kind of victim is a file of this package; the table below is all that
knows of them. Victims are ordinary trio tasks on trio-websocket and h11 (about 25 KB each): independent peers, so that
a mistake in the engine's own reading of the protocols cannot hide one in the target's.
"""
