"""The embedded stack: its files, its parts, and the supervisor that keeps them running."""
