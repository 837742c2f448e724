"""`python -m router.providers.simulated`: serves the simulated providers and prints their URL."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass

import uvloop

from router.providers.child import LOOPBACK
from router.providers.simulated.instant import serve_instantly
from router.providers.simulated.question import Pace, Simulation
from router.providers.simulated.server import SimulatedProvider


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, read."""

    listening: socket.socket
    simulation: Simulation
    instant: bool
    until_stdin_closes: bool


def read_options(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m router.providers.simulated",
        description="Serve simulated OpenAI, Anthropic and Gemini models on loopback.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--fd", type=int, help="a listening socket that the parent opened")
    parser.add_argument("--instant", action="store_true", help="answer at once with fixed bytes, for benches")
    parser.add_argument("--first-token-s", type=float, default=0.15)
    parser.add_argument("--tokens-per-s", type=float, default=80.0, help="0: as fast as it goes")
    parser.add_argument("--mean-output-tokens", type=float, default=160.0)
    parser.add_argument("--api-key", help="demand this key")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin does")
    given = parser.parse_args(arguments)
    listening = (
        socket.socket(fileno=given.fd)
        if given.fd is not None
        else socket.create_server((LOOPBACK, given.port), backlog=1_024)
    )
    pace = Pace(given.first_token_s, given.tokens_per_s or None)
    simulation = Simulation(pace=pace, mean_output_tokens=given.mean_output_tokens, api_key=given.api_key)
    return Options(listening, simulation, given.instant, given.until_stdin_closes)


async def serve(options: Options) -> None:
    """Serve until a signal comes, or the parent is gone where that is asked for."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if options.until_stdin_closes:
        threading.Thread(target=_outlive, args=(loop, ended), daemon=True).start()
    async with contextlib.AsyncExitStack() as stack:
        port = options.listening.getsockname()[1]
        if options.instant:
            await stack.enter_async_context(serve_instantly(options.listening))
        else:
            provider = await stack.enter_async_context(SimulatedProvider(options.simulation, options.listening))
            await asyncio.to_thread(provider.warm)
        sys.stdout.write(f"http://{LOOPBACK}:{port}/v1\n")
        sys.stdout.flush()
        await ended.wait()


def _outlive(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Wait for the end of stdin: a pipe that only the parent holds open, so that it ends with the parent."""
    while os.read(sys.stdin.fileno(), 4_096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop is closed: a signal came first
        loop.call_soon_threadsafe(ended.set)


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(read_options(sys.argv[1:])))


if __name__ == "__main__":
    main()
