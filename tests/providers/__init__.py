"""Every way to a provider, real or simulated, over real sockets."""
