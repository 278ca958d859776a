"""As many idle WebSockets in rooms as one machine holds, server and clients beside each other: `make million`.

Owns: the clients' processes, the steps, what is measured at each, the table. May not: be a load generator; slow,
hostile and busy peers are `loadgen`'s, and the peers of the probes those of `tests.bench`.

    needs     what the machine must allow, what a run will take, and when it stops by itself
    holder    one process of idle clients; `holders` is all of them, as the driver sees them
    memory    whose memory it is: the server's, the clients', the kernel's
    probes    a message to all workers, a busy room, newcomers
    run       the steps; `table` is what comes out
"""
