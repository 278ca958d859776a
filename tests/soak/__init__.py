"""Kills parts of a cluster for minutes while clients check every record: `python -m tests.soak`.

ledger     what was acknowledged and seen, and the rules for it; no I/O
clients    publishers that repeat with their keys, listeners that resume from their cursors
nodes      one server that is started again whenever it ends
cluster    the nodes with their database and shards
troubles   the kills, stops and cuts
campaign   the rounds and the report
"""
