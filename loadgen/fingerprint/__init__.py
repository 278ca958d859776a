"""`loadgen fingerprint`: the deadlines and size limits of any HTTP or WebSocket server, found from outside.

Some hundred slow connections and a few hundred short ones, which are no load. It is separate from `Experiment` on
purpose: an experiment fixes its groups and phases beforehand and judges the victims; a probe chooses its next
connection by the result of the last, and ends when it knows.
"""
