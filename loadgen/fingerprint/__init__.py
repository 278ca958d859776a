"""`loadgen fingerprint`: the deadlines and size limits of any HTTP or WebSocket server, found from outside.

Everything runs on trio with raw sockets against one server. A fingerprint is some fifty slow connections and a few
hundred short ones: no load.

It is separate from `Experiment` on purpose. An experiment fixes its groups and phases beforehand and judges the
victims; a probe chooses its next connection by the result of the last, and ends when it knows. The two share only what
lies below and above them: targets, connections, figures and conditions, progress, the report and its verdict.
"""
