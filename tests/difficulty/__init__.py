"""Difficulty: its score, its ranks, its learner and its training."""
