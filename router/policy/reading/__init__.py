"""A folder of YAML read as policies: every fault in its place, or one PolicySet."""
