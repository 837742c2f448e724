"""The ledger: one row a request, added and never changed, save that a held row becomes a settled one."""
