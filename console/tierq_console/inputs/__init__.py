"""Reads a file row by row, in flat memory: CSV, JSONL or Parquet, each with the real place of every row."""

from tierq_console.inputs.base import Broken, Row, Source
from tierq_console.inputs.opening import open_source

__all__ = ["Broken", "Row", "Source", "open_source"]
