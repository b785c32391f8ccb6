"""The ``tierq`` command: a thin file a command, on top of every other room."""
