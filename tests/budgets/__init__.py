"""Budgets: the same tests against every store, and what a real Redis does."""
