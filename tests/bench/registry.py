"""All benches, in the order of the table. A new figure is a module with a `BENCH` and one word here."""

from tests.bench import (
    beside,
    broadcast,
    costly,
    curve,
    drivers,
    drivers_sqlite,
    flood,
    handshakes,
    idle,
    instructions,
    memory,
    pipeline,
    publish,
    publish_postgres,
    search,
    slow_readers,
    stalls,
    tls,
    workers,
)
from tests.bench.figures import Bench

BENCHES: dict[str, Bench] = {
    module.BENCH.name: module.BENCH
    for module in (
        memory,
        handshakes,
        broadcast,
        flood,
        idle,
        beside,
        publish,
        instructions,
        publish_postgres,
        search,
        workers,
        stalls,
        slow_readers,
        tls,
        costly,
        pipeline,
        curve,
        drivers_sqlite,
        drivers,
    )
}
