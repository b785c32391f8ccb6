"""Finds what an evaluation calls by name: deployments with their tiers, and a scorer of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from tierq_insight.evaluation.judging import Scorer
from tierq_insight.evaluation.samples import Target
from tierq_shared.checks import did_you_mean
from tierq_shared.errors import InvalidInput
from tierq_shared.settings import Settings


def find_targets(settings: Settings, names: Iterable[str], option: str) -> list[Target]:
    """The deployments of these names, each with the cheapest tier whose chain has it.

    Raises:
        InvalidInput: there is no such deployment, or no tier calls it; names the mend.
    """
    wanted = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not wanted:
        raise InvalidInput(f"{option}: name at least one deployment; there are {', '.join(settings.deployments)}")
    return [_target(settings, name, option) for name in wanted]


def _target(settings: Settings, name: str, option: str) -> Target:
    if name not in settings.deployments:
        hint = did_you_mean(name, settings.deployments)
        known = ", ".join(settings.deployments) or "none"
        raise InvalidInput(f"{option}: there is no deployment {name!r}{hint}; those of tierq.toml are {known}")
    tier = next((tier for tier, table in settings.tiers.items() if name in table.chain), None)
    if tier is None:
        raise InvalidInput(
            f"{option}: deployment {name!r} is in no tier's chain, so no worker calls it: add it to a chain in "
            f"tierq.toml, behind the others if only the evaluation is to call it: chain = […, {name!r}]"
        )
    return Target(name, tier)


def describe(settings: Settings, targets: Iterable[Target]) -> dict[str, dict[str, Any]]:
    """What each deployment is: where one of these changes, its former answers are another model's."""
    found = {}
    for target in targets:
        deployment = settings.deployments[target.deployment]
        known = deployment.model_dump(mode="json", include={"provider", "model", "params", "structured_output"})
        found[target.deployment] = {"tier": target.tier, **known}
    return found


def load_scorer(name: str) -> Scorer:
    """A function named `module:function`, from the working folder or what is installed.

    Raises:
        InvalidInput: it cannot be imported, or is no function.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise InvalidInput(f"--scorer {name}: write it as module:function")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(import_module(module), function, None)
    except Exception as error:
        raise InvalidInput(f"--scorer {name}: {module} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise InvalidInput(f"--scorer {name}: {module} has no function {function!r}")
    scorer: Scorer = found
    return scorer
