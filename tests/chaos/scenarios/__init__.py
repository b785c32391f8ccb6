"""The scenarios, one file a family. Importing this enters them all into the registry, in the order of the table."""

from importlib import import_module

FAMILIES = ("kills", "outages", "network", "providers", "clocks", "disks", "sweepers", "messages", "long_run")

for _family in FAMILIES:
    import_module(f"{__name__}.{_family}")
