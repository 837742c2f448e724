"""`Idempotency-Key`: the same request sent again is answered from its first result, and charged once.

It is part of `web`, for what is kept is an HTTP response as it went out, which only `web` knows.
"""
