"""The victims: healthy clients beside a crowd, and the results of their operations.

`probe.py` is the schedule and its bookings, `victim.py` the loop that reconnects, `run/runner.py` the process of many;
their kinds are in `protocols/`. Victims use h11 and wsproto, so that a mistake of the engine's parsers cannot hide one
in the target.
"""
