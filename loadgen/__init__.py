"""A load generator that reports which clients were hurt. It shares no code with chatserver.

How a command becomes a report, and where each step is. Each package imports only from those below it in this list:

- `cli.py` names the commands, which are in `load.py`, `scorecard.py`, `capacity.py`, `diff.py`, `compare/`,
  `fingerprint/` and `conform/`. `common.py` has what all have in common: flags, the checks before and the output after.
- `output/` shows a report, on the terminal, as a page, and as files for other programs.
- `flags.py` has the types of flags.
- `run/` plays an experiment, which is what `run`, `attack`, `scorecard`, `capacity`, `compare` and a scenario
  (`scenariofile.py`) are: groups of clients, phases, and victims beside them. `player.py` is the one place that decides
  when anything happens; `session.py` has the processes (`workers.py`, `worker.py`), the timeline and Ctrl-C; `crowd.py`
  and `runner.py` are what a process plays. `measured.py` makes the figures (with `span.py` and `operations.py`),
  `findings.py` the report.
- `protocols/` says what a healthy client does in a protocol, `victims/` how one keeps its schedule.
- `personas/` are the clients of the crowds.
- `clients/` plays thousands of them on one `engine.py`, which opens them in the order of `opening.py`. Each is an
  object of 100 bytes (`client.py`) in the `cohort.py` of its persona. `traffic.py` has the open-loop schedule of what
  they say, `messages.py` what processes tell each other.
- `cases/` are the requests and frames that both attackers and `conform/` send.
- `report/` is the report as data: `schema.py`, the figures and their bar, latencies, and `verdict.py`, which decides.
- `net/` has connections to the server.

`fingerprint/` and `conform/` play no experiment: they open connections of their own (`net/line.py`,
`net/websocket.py`), and share the report. `peers/` are the servers that `compare/` starts.
"""
