"""Many processes that are killed for minutes, under clients that check every record: `python -m tests.soak`.

ledger     what was acknowledged and seen, and every rule that it may break; no I/O
clients    publishers that repeat with their keys, listeners that go on from their cursors
nodes      one server that is started again whenever it ends
cluster    nodes with their database and shards
troubles   what is done to them
campaign   all of it, and the report
"""
