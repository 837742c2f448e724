"""HTTP in: the composition root, one file for each wire format, and what operations ask for."""
