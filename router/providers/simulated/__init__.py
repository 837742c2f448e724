"""Simulated providers: what tests, benches and a proxy without keys talk to, over a real socket."""

from router.providers.simulated.beside import SimulatedProcess
from router.providers.simulated.fault import Fault, Faults, parse_fault
from router.providers.simulated.question import Answerer, Pace, Simulation, ToolUse
from router.providers.simulated.server import ReceivedCall, SimulatedProvider

__all__ = [
    "Answerer",
    "Fault",
    "Faults",
    "Pace",
    "ReceivedCall",
    "SimulatedProcess",
    "SimulatedProvider",
    "Simulation",
    "ToolUse",
    "parse_fault",
]
