"""The whole path, over real sockets: official SDKs and hostile callers in front, simulated providers behind."""
