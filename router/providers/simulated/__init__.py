"""Simulated providers: what tests, benches and a proxy without keys talk to, over a real socket."""

from typing import TYPE_CHECKING

from router.providers.simulated.beside import SimulatedProcess
from router.providers.simulated.fault import Fault, Faults, parse_fault
from router.providers.simulated.knows import Knows, truth_of
from router.providers.simulated.question import Answerer, Pace, Simulation, ToolUse

if TYPE_CHECKING:
    from router.providers.simulated.server import ReceivedCall, SimulatedProvider

__all__ = [
    "Answerer",
    "Fault",
    "Faults",
    "Knows",
    "Pace",
    "ReceivedCall",
    "SimulatedProcess",
    "SimulatedProvider",
    "Simulation",
    "ToolUse",
    "parse_fault",
    "truth_of",
]


def __getattr__(name: str) -> object:
    """Import the server when it is asked for: a proxy runs it in a child, and need not wait for aiohttp itself."""
    if name not in ("ReceivedCall", "SimulatedProvider"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from router.providers.simulated import server  # noqa: PLC0415

    return getattr(server, name)
