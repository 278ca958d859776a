"""The run of an experiment: its plan, its phases and processes, and the figures made of what they report."""
