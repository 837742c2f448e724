"""Farthing: a cost-aware routing proxy for large language models."""
