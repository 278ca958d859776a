"""A load generator that tells who got hurt; shares no code with chatserver."""
