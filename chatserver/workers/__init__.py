"""Several processes on one port: a supervisor and its workers.

Owns: the life of processes. May not: serve anybody by itself; each worker is a whole `Server`.

    supervisor   binds, starts, replaces and drains; `child` is one worker as it sees it
    process      what runs in a worker; `link` is the line between the two
"""
