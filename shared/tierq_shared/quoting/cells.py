"""Adds tasks up while they stream by: what is kept grows with their kinds and tiers, not with their number."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace

import orjson

from tierq_shared.policy import BYTES_PER_TOKEN
from tierq_shared.prompts import PromptTemplate
from tierq_shared.specs import SpecBody, TaskType
from tierq_shared.store.submission import NewTask

MAX_CELLS = 5_000
"""Beyond so many, further kinds are added up by type: an application may make a schema a request."""

_TEMPLATES = 1_000

_LARGE_TOKENS = 50_000
"""Inputs are added up apart by multiples of it: from 128,000 or 200,000 tokens on, some models charge more a token."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a spec puts around every input."""

    constant_bytes: int
    """Of the constant part of the prompt, and of the schema that providers are given beside it and charge as well."""
    answer_tokens: float
    """The length of an answer by a rule of thumb."""
    max_output_tokens: int | None


@dataclass(slots=True)
class Cell:
    """Tasks that are alike: of one spec, on one tier, in one order, under the same constraints, of like size."""

    type: TaskType
    name: str
    """The spec's. Empty where kinds were too many to be told apart, as `spec_id` is None there."""
    spec_id: str | None
    tier: str
    order: tuple[str, ...]
    """The deployments that the policy has tried first."""
    constraints: str | None
    tasks: int = 0
    prompt_bytes: float = 0.0
    """Of all prompts together, the constant parts among them."""
    squared_bytes: float = 0.0
    constant_bytes: float = 0.0
    answer_tokens: float = 0.0
    """Of all answers together, by the rules of thumb."""
    max_output_tokens: int | None = None
    """The bound that their spec sets."""

    def add(self, frame: Frame, input_bytes: int) -> None:
        size = frame.constant_bytes + input_bytes
        self.tasks += 1
        self.prompt_bytes += size
        self.squared_bytes += size * size
        self.constant_bytes += frame.constant_bytes
        self.answer_tokens += frame.answer_tokens

    def with_prompts(self, spec: SpecBody, more_bytes: float) -> Cell:
        """The same inputs as parts of longer prompts, by so many bytes each, that ask for what another spec says."""
        frame = frame_of(spec)
        return replace(
            self,
            type=spec.type,
            name=spec.name,
            spec_id=None,
            prompt_bytes=self.prompt_bytes + more_bytes * self.tasks,
            squared_bytes=self.squared_bytes + 2 * more_bytes * self.prompt_bytes + more_bytes**2 * self.tasks,
            answer_tokens=frame.answer_tokens * self.tasks,
            max_output_tokens=frame.max_output_tokens,
        )


_Key = tuple[str | TaskType, str, tuple[str, ...], int, str | None]


@dataclass(slots=True)
class Tally:
    """All tasks of one quote."""

    cells: dict[_Key, Cell] = field(default_factory=dict)
    _frames: OrderedDict[str, Frame] = field(default_factory=OrderedDict)

    @property
    def tasks(self) -> int:
        return sum(cell.tasks for cell in self.cells.values())

    def add(self, new: NewTask) -> None:
        """Counts one task that is checked and decided."""
        decision = new.decision
        tokens = decision.signals.input_tokens
        key = (new.spec.id, decision.tier, decision.order, tokens // _LARGE_TOKENS, new.constraints)
        cell = self.cells.get(key) or self._new_cell(new, key)
        # The measure that the decision keeps: so inputs need not be read to learn from them.
        cell.add(self._frame(new.spec), tokens * BYTES_PER_TOKEN)

    def _new_cell(self, new: NewTask, key: _Key) -> Cell:
        spec, (_, tier, order, _, constraints) = new.spec, key
        if len(self.cells) < MAX_CELLS:
            bound = spec.max_output_tokens
            self.cells[key] = Cell(spec.type, spec.name, spec.id, tier, order, constraints, max_output_tokens=bound)
            return self.cells[key]
        return self.cells.setdefault((spec.type, tier, (), 0, None), Cell(spec.type, "", None, tier, (), None))

    def _frame(self, spec: SpecBody) -> Frame:
        frame = self._frames.get(spec.id)
        if frame is None:
            if len(self._frames) >= _TEMPLATES:
                self._frames.popitem(last=False)
            frame = self._frames[spec.id] = frame_of(spec)
        return frame


_ANSWER_TOKENS: dict[TaskType, float] = {"classify": 12.0, "extract": 20.0, "answer": 120.0, "generate": 300.0}
"""Where the ledger knows nothing: a label in its JSON, the frame of an object, a few sentences, a short text.
Orders of magnitude, no measurement: the first calls of a kind replace them."""

_FIELD_TOKENS = 10.0
"""A field of an extraction: its name and a short value."""


def frame_of(spec: SpecBody) -> Frame:
    """What a spec puts around every input, and asks back."""
    template = PromptTemplate(spec)
    answer = _ANSWER_TOKENS[spec.type]
    if spec.type == "extract":
        answer += _FIELD_TOKENS * len((spec.schema or {}).get("properties", {}))
    bound = spec.max_output_tokens
    schema = orjson.dumps(template.schema) if template.schema is not None else b""
    return Frame(len(template.system.encode()) + len(schema), min(answer, bound) if bound else answer, bound)
