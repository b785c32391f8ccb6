"""Which cascades are taken, and how those that cannot work are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tierq_shared import configuration
from tierq_shared.cascade import CascadeRule, find_rule
from tierq_shared.errors import ConfigurationError

TIERS = """
[tiers.small]
chain = ["mini"]
[tiers.medium]
chain = ["haiku"]
[tiers.large]
chain = ["opus"]
[deployments.mini]
provider = "openai"
model = "gpt-4o-mini"
[deployments.haiku]
provider = "anthropic"
model = "claude-haiku-4-5"
[deployments.opus]
provider = "anthropic"
model = "claude-opus-5-5"
"""
NAMES = ["small", "medium", "large"]


def rule(**fields: Any) -> CascadeRule:
    return CascadeRule.model_validate({"type": "classify", "signal": "logprobs", **fields})


def load(folder: Path, cascade: str, tiers: str = TIERS) -> Any:
    file = folder / "tierq.toml"
    file.write_text(f"{tiers}\n[[cascade]]\n{cascade}\n")
    return configuration.load(file, env={})


def test_the_first_rule_that_matches_decides() -> None:
    rules = [rule(name="triage", threshold=0.9), rule(tiers=["small"], threshold=0.5), rule(type="extract")]
    assert find_rule(rules, "classify", "triage", "small", NAMES) is rules[0]
    assert find_rule(rules, "classify", "other", "small", NAMES) is rules[1]
    assert find_rule(rules, "classify", "other", "medium", NAMES) is None
    assert find_rule(rules, "extract", "other", "medium", NAMES) is rules[2]
    assert find_rule(rules, "generate", "other", "small", NAMES) is None


def test_the_last_tier_is_never_judged() -> None:
    assert find_rule([rule()], "classify", "triage", "large", NAMES) is None
    assert find_rule([rule()], "classify", "triage", "medium", NAMES) is not None


def test_a_cascade_of_each_signal_loads(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        'type = "classify"\nsignal = "logprobs"\nthreshold = 0.9\ntiers = ["small"]\n'
        '[[cascade]]\ntype = "extract"\nsignal = "agreement"\nsamples = 5\n'
        '[[cascade]]\ntype = "generate"\nsignal = "verifier"\nverifier = "opus"\n',
    )
    assert [one.signal for one in settings.cascade] == ["logprobs", "agreement", "verifier"]
    assert (settings.cascade[1].calls, settings.cascade[0].calls) == (5, 3)
    assert [one.name for one in settings.called("small")] == ["mini", "opus"], "workers of small call the verifier"
    assert [one.name for one in settings.called("large")] == ["opus"]


@pytest.mark.parametrize(
    ("cascade", "key", "said"),
    [
        ('type = "classify"\nsignal = "logprobs"', "signal", "deployment 'haiku' of tier 'medium'"),
        ('type = "generate"\nsignal = "logprobs"', "signal", "use signal = 'verifier'"),
        ('type = "generate"\nsignal = "agreement"', "signal", "no two free texts"),
        ('type = "classify"\nsignal = "verifier"', "signal", "name a deployment in verifier"),
        ('type = "classify"\nsignal = "verifier"\nverifier = "opsu"', "verifier", "did you mean 'opus'?"),
        ('type = "classify"\nsignal = "agreement"\nverifier = "opus"', "verifier", "leave it out"),
        ('type = "classify"\nsignal = "verifier"\nverifier = "opus"\nsamples = 3', "samples", "leave it out"),
        ('type = "classify"\nsignal = "agreement"\ncalibrated = "e"', "calibrated", "give threshold"),
        ('type = "classify"\nsignal = "agreement"\ntiers = ["large"]', "tiers", "leave it out"),
        ('type = "classify"\nsignal = "agreement"\ntiers = ["smal"]', "tiers", "did you mean 'small'?"),
        ('type = "classify"\nsignal = "agreement"\nsamples = 1', "samples", "greater than or equal to 2"),
        ('type = "classify"\nsignal = "agreement"\nthreshold = 1.1', "threshold", "less than or equal to 1"),
        ('type = "classify"\nsignal = "agreement"\nthreshold = nan', "threshold", "finite number"),
        ('type = "classify"\nsignal = "agreement"\ntreshold = 1', "treshold", "did you mean 'threshold'?"),
    ],
)
def test_what_cannot_work_is_refused_with_its_line_and_the_mend(
    tmp_path: Path, cascade: str, key: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, cascade)
    line = next(
        n for n, text in enumerate((tmp_path / "tierq.toml").read_text().splitlines(), 1) if text.startswith(key)
    )
    assert f"tierq.toml:{line}: cascade.0.{key}: " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("params", ["{ temperature = 0 }", "{ seed = 7 }", "{ generationConfig = { topP = 0.0 } }"])
def test_samples_that_would_all_be_the_same_are_refused(tmp_path: Path, params: str) -> None:
    tiers = TIERS.replace('model = "gpt-4o-mini"', f'model = "gpt-4o-mini"\nparams = {params}')
    with pytest.raises(ConfigurationError, match=r"deployment 'mini' of tier 'small' has .* all be the same"):
        load(tmp_path, 'type = "classify"\nsignal = "agreement"', tiers)


def test_one_tier_has_nothing_above_it(tmp_path: Path) -> None:
    one = '[tiers.small]\nchain = ["mini"]\n[deployments.mini]\nprovider = "openai"\nmodel = "m"\n'
    with pytest.raises(ConfigurationError, match="needs two tiers"):
        load(tmp_path, 'type = "classify"\nsignal = "logprobs"', one)
