"""A load generator that reports who got hurt. It shares no code with chatserver."""
