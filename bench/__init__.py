"""What Farthing adds, measured beside the upstream called directly, in one run."""
