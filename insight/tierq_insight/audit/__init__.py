"""The audit: what a team sends today, tagged, routed by the policy and priced. No model is called."""

from tierq_insight.audit.auditing import Audit, Method
from tierq_insight.audit.call import Call, Unreadable
from tierq_insight.audit.reading import Columns
from tierq_insight.audit.report import AuditReport

__all__ = ["Audit", "AuditReport", "Call", "Columns", "Method", "Unreadable"]
