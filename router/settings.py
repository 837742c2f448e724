"""What an operator sets, by flag or by environment variable of the same name; read once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Simulate = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one proxy."""

    policies: Path = Path("policies")
    host: str = "127.0.0.1"
    port: int = 4100
    workers: int = 1
    budgets_url: str = "memory://"
    budgets_on_outage: Literal["closed", "local"] = "closed"
    """Where the store of budgets is away: refuse what has a budget, or spend what was last known to be left."""
    replicas: int = 1
    """How many proxies share that."""
    ledger_url: str = "sqlite:///farthing.db"
    ledger_on_outage: Literal["auto", "spool", "closed"] = "auto"
    """Where the ledger is away: keep rows on disk, or refuse new requests. auto: spool for PostgreSQL alone."""
    ledger_queue_rows: int = 20_000
    """So many rows may wait in memory to be written; with more, new requests are refused."""
    spool: Path = Path("farthing-spool")
    """The folder of rows that wait for the ledger; each process has a file of its own in it."""
    breaker_failures: int = 10
    """Failures in a row after which others are tried before a target; 0: none ever."""
    admin_key: str | None = field(default=None, repr=False)
    metrics_account_label: bool = False
    """Tell cost and requests by account in metrics as well."""
    largest_body_bytes: int = 20_000_000
    body_within_s: float = 60.0
    """A request whose body takes longer to arrive is a 400."""
    idempotency: Literal["on", "off"] = "on"
    """off: the header Idempotency-Key means nothing, and no answer is kept for it."""
    simulate: Simulate = "never"
    """auto: serve the simulated providers where no provider key is set at all."""
    local: bool = False
    """Serve the small real model of farthing[local] beside the proxy."""

    @property
    def loopback_only(self) -> bool:
        """Whether only this machine can reach the proxy."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
