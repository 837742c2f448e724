"""Policies: what reading them finds, and what they decide."""
