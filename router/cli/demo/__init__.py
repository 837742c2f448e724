"""`farthing demo`: a day of traffic, how it is sent, and what came of it."""
