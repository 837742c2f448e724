"""How hard a request looks, from its text and shape alone."""
