"""The report as people and programs read it: terminal, page, Markdown, JSON, CSV, OpenMetrics, JUnit."""
