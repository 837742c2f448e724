"""YAML policies: their shape, loading with every fault in place, and the pure decision."""
