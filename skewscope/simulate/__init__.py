"""The cluster simulator: a fleet with jobs and faults of known truth, and the telemetry that it would give."""

from .scenario import Scenario, scenario, shipped
from .simulation import Simulation, simulate

__all__ = ["Scenario", "Simulation", "scenario", "shipped", "simulate"]
