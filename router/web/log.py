"""Logs as JSON lines on standard error: one line for each outcome, never any text of a request, never a key."""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime

import msgspec

from router.values import Ending, Outcome, usd_text

outcomes = logging.getLogger("farthing.outcome")
refused = logging.getLogger("farthing.refused")
policies = logging.getLogger("farthing.policies")
SELDOM_S = 10.0
"""At the level `warning`, a part that is away has one of the requests that it refuses logged in so many seconds."""
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


class Seldom(logging.Filter):
    """Lets one record of each part through in `SELDOM_S`, which says how many it kept back before."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: dict[str | None, tuple[float, int]] = {}
        """Of each part: until when nothing more is let through, and how many were kept back."""

    def filter(self, record: logging.LogRecord) -> bool:
        part, now_s = getattr(record, "part", None), time.monotonic()
        until_s, kept = self._parts.get(part, (now_s, 0))
        if now_s < until_s:
            self._parts[part] = until_s, kept + 1
            return False
        self._parts[part] = now_s + SELDOM_S, 0
        if kept:
            record.msg = f"{record.msg} ({kept} more were refused before, which --log-level info would tell.)"
        return True


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
    # A reload is nothing to warn of, but what decides is another from there on: who hears of warnings hears of it too.
    policies.setLevel(logging.INFO if level == "warning" else logging.NOTSET)
    if not outcomes.isEnabledFor(logging.INFO):
        # As many as there are requests would bury what else an outage has to tell.
        refused.addFilter(Seldom())


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
