"""Where trials run: executors behind one protocol, and the entry point of their workers."""

from mcp_server.execution._base import STARTER_DIED, Charged, Ended, Event, Executor, Reported, TrialResult, TrialTask

__all__ = ["STARTER_DIED", "Charged", "Ended", "Event", "Executor", "Reported", "TrialResult", "TrialTask"]
