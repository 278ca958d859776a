"""All benches, in the order of the table. A new bench is a module with a function `run`, and a row here."""

from collections.abc import Callable, Iterator

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
    mixed,
    page,
    pipeline,
    publish,
    publish_postgres,
    search,
    stalls,
    tls,
    workers,
)
from tests.bench.figures import Plot, Result, Scale

BENCHES: dict[str, Callable[[Scale], Iterator[Result | Plot]]] = {
    "memory": memory.run,
    "handshakes": handshakes.run,
    "broadcast": broadcast.run,
    "flood": flood.run,
    "idle": idle.run,
    "beside": beside.run,
    "publish": publish.run,
    "mixed": mixed.run,
    "instructions": instructions.run,
    "publish-postgres": publish_postgres.run,
    "search": search.run,
    "workers": workers.run,
    "stalls": stalls.run,
    "page": page.run,
    "tls": tls.run,
    "costly": costly.run,
    "pipeline": pipeline.run,
    "curve": curve.run,
    "drivers-sqlite": drivers_sqlite.run,
    "drivers": drivers.run,
}
