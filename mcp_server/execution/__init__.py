"""Where trials run: executors behind one protocol, and the entry point of their workers."""

from mcp_server.execution._base import Charged, Ended, Event, Executor, Reported, TrialResult, TrialTask

__all__ = ["Charged", "Ended", "Event", "Executor", "Reported", "TrialResult", "TrialTask"]
