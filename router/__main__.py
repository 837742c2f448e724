"""`python -m router` is the `farthing` command."""

from __future__ import annotations

from router.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
