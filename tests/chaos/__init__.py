"""Faults on purpose, against real processes, and the reckoning that says what they cost."""
