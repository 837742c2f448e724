"""What operations see: metrics, dashboards, alerts."""
