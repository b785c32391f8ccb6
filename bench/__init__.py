"""Yardsticks for TierQ: `python -m bench` measures every figure on this machine and writes README.md beside it."""
