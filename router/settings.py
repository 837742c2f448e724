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
    ledger_url: str = "sqlite:///farthing.db"
    admin_key: str | None = field(default=None, repr=False)
    largest_body_bytes: int = 20_000_000
    body_within_s: float = 60.0
    """A request whose body takes longer to arrive is a 400."""
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
