"""Policies held against what is known already: recorded traffic, and prompts whose outcomes are known."""
