"""The machine: what it is, which core does what, and what a process has used of it."""

from __future__ import annotations

import os
import platform
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "celery", "kombu", "redis", "aiohttp", "httpx", "httpx-aiohttp", "uvloop",
    "orjson", "pydantic", "sqlalchemy", "sqlmodel", "psycopg",
)  # fmt: skip

_TICKS = os.sysconf("SC_CLK_TCK")
_USABLE = sorted(os.sched_getaffinity(0))
"""Before this process is pinned itself."""


@dataclass(frozen=True, slots=True)
class Cores:
    """What is measured runs on one core; the simulator, Redis and the producer run on another."""

    measured: int | None
    other: int | None

    @property
    def are_apart(self) -> bool:
        return self.measured is not None


def cores() -> Cores:
    """The last core for what is measured, since the first one serves most interrupts."""
    return Cores(_USABLE[-1], _USABLE[0]) if len(_USABLE) > 1 else Cores(None, None)


def pin(pid: int, core: int | None) -> None:
    """Keeps a process on one core. Threads that it already has stay where they are."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


def cpu_seconds(pid: int | str = "self") -> float:
    """User and system time that a process has used, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mb(pid: int | str = "self") -> float:
    return _status(pid, "VmRSS")


def peak_rss_mb(pid: int | str = "self") -> float:
    return _status(pid, "VmHWM")


def reset_peak(pid: int | str = "self") -> None:
    """The peak counts from here (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def description(servers: dict[str, str]) -> list[tuple[str, str]]:
    """What the figures were measured on."""
    return [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("CPU", f"{_cpu_model()}, {len(_USABLE)} core{'s' if len(_USABLE) != 1 else ''}"),
        ("memory", f"{_memory_gb():.0f} GB"),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("Python", platform.python_version()),
        ("libraries", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)),
        ("SQLite", sqlite3.sqlite_version),
        *servers.items(),
    ]


def _status(pid: int | str, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/status has no {field}")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "–"
