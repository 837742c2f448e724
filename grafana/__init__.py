"""Dashboards and alerts as code: what operations look at. `python -m grafana` builds `grafana/dashboards/*.json`."""
