"""Makes a caller's own values of stored outputs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from tierq_shared.tasks import AnswerOutput, Task


class Decoder:
    """Knows which pydantic model each spec's outputs are to become; without one, JSON values stay as they are."""

    def __init__(self, schema: type[BaseModel] | None = None) -> None:
        self._schema = schema
        self._by_spec: dict[str, type[BaseModel] | None] = {}

    def learn(self, task: Task[Any]) -> None:
        """Remembers the model that a task was made with."""
        self._by_spec[task.content.id] = task.output_type

    def __call__(self, spec_id: str, type_: str, output: Any) -> Any:
        """The output as the caller's value.

        Raises:
            ValueError: the caller's model refuses it.
        """
        model = AnswerOutput if type_ == "answer" else self._by_spec.get(spec_id) or self._schema
        if model is None or not isinstance(output, dict):
            return output
        try:
            return model.model_validate(output)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ValueError(f"the answer does not fit {model.__name__}: {problems}") from None
