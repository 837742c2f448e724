"""What happens over time behind the answers: models are tried out, and warm caches are remembered."""
