"""`python -m router.providers.local`: serves the local model until standard input closes. Says `ready SECONDS`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from importlib.resources import files

import xllamacpp

from router.providers.child import LOOPBACK
from router.providers.local.beside import READY
from router.providers.local.weights import cache_folder, weights_file

NAME = "gemma-3-270m"
SLOTS = 2
"""Requests that are answered at the same time; more wait in llama.cpp's queue."""
SLOT_TOKENS = 4096
"""Prompt and answer together."""
BATCH_TOKENS = 64
"""A step takes 0.3 s on one thread, and no hang-up is noticed within one. Larger batches read prompts no faster."""
LONGEST_ANSWER_TOKENS = 512
"""Where the request sets no limit. So small a model does not always find an end."""
STOP = "\nQuestion:"
"""Where chat.jinja's form would begin anew."""
ERRORS_ONLY = 1
HTTP_THREADS = 16
"""Each open request keeps one, waiting ones too, and so does whoever asks for its health."""


def main() -> None:
    started = time.perf_counter()
    # Ctrl-C, and a supervisor's stop, reach the whole group; the proxy drains first, and then closes our pipe.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m router.providers.local")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    try:
        _server = serve(given.port, given.threads)
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"farthing: the local model can't be served: {error}")
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{READY} {time.perf_counter() - started:.1f}\n")
        sys.stdout.flush()
    sys.stdin.buffer.read()
    # At once: llama.cpp's own shutdown would first finish the answers that are under way, for nobody.
    os._exit(0)


def serve(port: int, threads: int) -> xllamacpp.Server:
    """Load the model and listen. The interpreter stands still meanwhile, for 2 s.

    Raises:
        OSError, ValueError: the weights can't be put together.
        RuntimeError: llama.cpp can't load them, or can't listen; it has written why.
    """
    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights_file(cache_folder(os.environ)))
    settings.model_alias = {NAME}
    settings.chat_template = files(__package__).joinpath("chat.jinja").read_text()
    settings.antiprompt = [STOP]
    settings.n_predict = LONGEST_ANSWER_TOKENS
    settings.n_ctx = SLOTS * SLOT_TOKENS
    settings.n_parallel = SLOTS
    settings.n_batch = settings.n_ubatch = BATCH_TOKENS
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.cache_ram_mib = 0
    settings.hostnames = [LOOPBACK]
    settings.port = port
    settings.reuse_port = True
    settings.n_threads_http = HTTP_THREADS
    settings.cors_origins = f"http://{LOOPBACK}"
    settings.offline = True
    settings.ui = False
    settings.verbosity = ERRORS_ONLY
    return xllamacpp.Server(settings)


if __name__ == "__main__":
    main()
