"""The contract of both sides: tasks, outcomes, routing, prompts, money, settings and the SQL store."""
