"""The tables, on a registry of their own, so that they live in a host application's database beside its models.

The names and columns of `tierq_batch`, `tierq_spec`, `tierq_task`, `tierq_payload`, `tierq_attempt` and
`tierq_decision` are public, for SQL dashboards. The other tables belong to TierQ alone.
"""

from __future__ import annotations

from tierq_shared.store.columns import core_table, is_word, metadata
from tierq_shared.store.operating_tables import ActionRow, ControlRow, RetentionRow, WebhookRow
from tierq_shared.store.routing_tables import (
    BudgetRow,
    CacheRow,
    EvaluationRow,
    EvidenceRow,
    PolicyActivationRow,
    PolicyRow,
)
from tierq_shared.store.running_tables import ChunkRow, CompatibilityRow, LeaseRow, MarkerRow, TallyRow, WorkerRow
from tierq_shared.store.work_tables import AttemptRow, BatchRow, DecisionRow, PayloadRow, SpecRow, TaskRow

batches = core_table(BatchRow)
specs = core_table(SpecRow)
tasks = core_table(TaskRow)
payloads = core_table(PayloadRow)
attempts = core_table(AttemptRow)
decisions = core_table(DecisionRow)
chunks = core_table(ChunkRow)
tallies = core_table(TallyRow)
workers = core_table(WorkerRow)
leases = core_table(LeaseRow)
markers = core_table(MarkerRow)
policies = core_table(PolicyRow)
policy_activations = core_table(PolicyActivationRow)
evaluations = core_table(EvaluationRow)
evidence = core_table(EvidenceRow)
budgets = core_table(BudgetRow)
cache = core_table(CacheRow)
compatibility = core_table(CompatibilityRow)
controls = core_table(ControlRow)
actions = core_table(ActionRow)
webhooks = core_table(WebhookRow)
retention = core_table(RetentionRow)
"""The same tables for Core statements: hot paths pay 7 to 27 µs a row with them, and about 100 with ORM objects."""

__all__ = [
    "actions",
    "attempts",
    "batches",
    "budgets",
    "cache",
    "chunks",
    "compatibility",
    "controls",
    "decisions",
    "evaluations",
    "evidence",
    "is_word",
    "leases",
    "markers",
    "metadata",
    "payloads",
    "policies",
    "policy_activations",
    "retention",
    "specs",
    "tallies",
    "tasks",
    "webhooks",
    "workers",
]
