"""A worker's log as JSON, one object a line: ours, Celery's, and what anybody prints."""

from __future__ import annotations

import logging
from typing import Any

from celery import signals
from pythonjsonlogger.orjson import OrjsonFormatter

_NAMES = {"levelname": "level", "name": "logger"}


def formatter() -> logging.Formatter:
    """Time (UTC), level, logger and message, then the fields that a line brings along."""
    return OrjsonFormatter(["levelname", "name", "message"], rename_fields=_NAMES, timestamp="time")


def write_json() -> None:
    """Has Celery's handlers write JSON, once Celery has made them: to be called before."""
    for made in (signals.after_setup_logger, signals.after_setup_task_logger):
        made.connect(_on_setup, weak=False)


def _on_setup(logger: logging.Logger, **_: Any) -> None:
    for handler in logger.handlers:
        handler.setFormatter(formatter())
