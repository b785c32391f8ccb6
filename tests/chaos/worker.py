"""The `tierq` command with faults armed: `python -m chaos.worker worker small`, the faults named by the environment."""

from __future__ import annotations

from chaos import clocks

clocks.set_wrong()  # before whatever takes the clock by its name is imported

from chaos import full_disk, haste, kill_points  # noqa: E402


def main() -> None:
    full_disk.watch()
    haste.make()
    kill_points.arm()
    from tierq_console.entry import main as tierq

    tierq()


if __name__ == "__main__":
    main()
