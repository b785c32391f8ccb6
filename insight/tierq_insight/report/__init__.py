"""Where the money went: a report of the ledger, as figures, as JSON and CSV, and as a page for people."""

from tierq_insight.report.breakers import BreakerEvent
from tierq_insight.report.figures import Baseline, Quoted, Report
from tierq_insight.report.making import DIMENSIONS, TAG, Known, make_report
from tierq_insight.report.scope import Scope

__all__ = ["DIMENSIONS", "TAG", "Baseline", "BreakerEvent", "Known", "Quoted", "Report", "Scope", "make_report"]
