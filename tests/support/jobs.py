"""Jobs over files in a test's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tierq_console.file_options import make_job
from tierq_console.jobs import Job
from tierq_shared.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "tiers": {"small": {"chain": ["mini"]}, "medium": {"chain": ["mini"]}, "large": {"chain": ["pro"]}},
        "deployments": {
            "mini": {"provider": "openai", "model": "gpt-4o-mini", "region": "us"},
            "pro": {"provider": "gemini", "model": "gemini-2.5-pro", "region": "eu"},
        },
    }
)


def job_of(path: Path, **options: Any) -> Job:
    given = {"type": "classify", "labels": "billing,bug", "text": "body", **options}
    return make_job(path, {name: value for name, value in given.items() if value is not None})
