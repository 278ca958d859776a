"""A load generator that reports which clients were hurt. It shares no code with chatserver.

How a command becomes a report, and where each step is:

- `cli.py` has the commands; those with more to them are in `scorecard.py`, `capacity.py`, `compare/`, `fingerprint/`
  and `conform/`. `flags.py` has the types of flags, `common.py` the flags that all have, the checks before and the
  output after.
- `experiment.py` is what `run`, `attack`, `scorecard`, `capacity`, `compare` and a scenario (`scenariofile.py`) play:
  groups of clients, phases, and victims beside them.
- `player.py` plays it: the one place that decides when anything happens. `session.py` has the life of the run: its
  processes (`workers.py`, `worker.py`), whose methods it calls (`messages.py`), the timeline and Ctrl-C.
- `crowd.py` is a process with thousands of clients on one `engine.py`, which opens them in the order of `opening.py`.
  Each is an object of 100 bytes (`client.py`) that plays a persona (`personas/`). `traffic.py` has the open-loop
  schedule of what they say.
- `victims/` is the process of the healthy clients; `protocols/` says what one does in a protocol.
- `measured.py` makes the figures that `figures.py` declares (with `span.py` and `operations.py`), `conditions.py` has
  the thresholds, `verdict.py` decides, and `findings.py` puts the report together. `report.py` is its schema.
- `sections.py` says what of it is shown; `render.py`, `page/`, `markdown.py` and `exports.py` show it, and `diff.py`
  puts two side by side.

`fingerprint/` and `conform/` play no experiment: they open connections of their own (`line.py`,
`websocket.py`), and share the report.
"""
