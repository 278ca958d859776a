"""Several processes on one port: a supervisor and its workers.

Owns: the life of processes. May not: serve peers itself; each worker is a complete `Server`.

    supervisor   binds, starts, replaces and drains; `child` is one worker as the supervisor sees it
    process      runs in a worker; `link` is the channel between the two
"""
