"""Fixtures of the tests of metrics, dashboards and alerts."""

from __future__ import annotations

from e2e.conftest import more_files, proxy

__all__ = ["more_files", "proxy"]
