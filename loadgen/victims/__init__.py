"""The victims: healthy clients beside a crowd, and the results of their operations.

`runner.py` is one worker's part, `probe.py` the schedule and its bookings, `victim.py` the loop that reconnects; their
kinds are in loadgen/protocols. Victims use h11 and wsproto, so that a mistake of the engine's parsers cannot hide one
in the target.
"""
