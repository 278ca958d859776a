"""The report as data: its schema, latencies, figures with their bar, and the verdict."""
