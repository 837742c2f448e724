"""What happens over time behind the answers: models are tried out."""
