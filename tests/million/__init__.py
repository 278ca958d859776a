"""As many idle WebSockets in rooms as one machine holds, server and clients on the same machine: `make million`.

Owns: the clients' processes, the steps, the measurements at each, the table. May not: be a load generator; slow,
hostile and busy peers belong to `loadgen`, and the peers of the probes to `tests.bench`.

    needs     what the machine must allow, what a run will use, and when it stops by itself
    holder    one process of idle clients; `holders` has all of them, as the driver sees them
    memory    the memory of the server, of the clients and of the kernel
    probes    a message to all workers, a busy room, newcomers
    run       the steps; `table` prints the results
"""
