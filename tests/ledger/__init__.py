"""The ledger: its stores, its writer, and what outages and crashes leave."""
