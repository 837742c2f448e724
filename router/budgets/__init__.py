"""Budgets: what may still be spent, held and settled atomically over every scope of a request at once."""
