"""Logs as JSON lines on standard error: one line for each outcome, never any text of a request, never a key."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

from router.values import Ending, Outcome, usd_text

outcomes = logging.getLogger("farthing.outcome")
STARTUP_FAILED = "Application startup failed. Exiting."


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object; `extra={"fields": {…}}` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(level: str) -> None:
    """Send the logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Why a start failed has been said by then, better than its server can.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.getMessage() != STARTUP_FAILED)
    logging.getLogger("farthing").setLevel(level.upper())


def log_outcome(outcome: Outcome) -> None:
    """Write one line for an outcome, where anyone listens."""
    if not outcomes.isEnabledFor(logging.INFO):
        return
    outcomes.log(
        logging.WARNING if outcome.ending is Ending.FAILED else logging.INFO,
        "%s",
        outcome.ending.value,
        extra={
            "fields": {
                "request_id": outcome.id,
                "trace_id": outcome.trace.trace_id if outcome.trace else None,
                "task": outcome.task,
                "rule": outcome.rule,
                "policy_revision": outcome.policy_revision,
                "requested_model": outcome.requested_model,
                "routed_model": outcome.routed_model,
                "account": outcome.account,
                "cost_usd": usd_text(outcome.charged_nusd),
                "baseline_usd": usd_text(outcome.baseline_nusd),
                "certainty": outcome.certainty.value,
                "input_tokens": outcome.usage.input_tokens if outcome.usage else None,
                "output_tokens": outcome.usage.output_tokens if outcome.usage else None,
                "attempts": [attempt.reason for attempt in outcome.attempts],
                "error": outcome.refusal,
                "latency_ms": round(outcome.latency_s * 1e3, 2),
                "own_ms": round(outcome.own_s * 1e3, 3),
            }
        },
    )
