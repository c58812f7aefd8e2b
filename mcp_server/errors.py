"""Failures that a caller can act on.

```
WorkspaceError(code, hint, retryable)
├── InvalidRequestError
├── DataError
├── NotFoundError
│   ├── StudyNotFoundError
│   ├── RunNotFoundError
│   └── DatasetNotFoundError
├── ConflictError
│   ├── StudyExistsError
│   └── StudyFinishedError
├── PermissionDeniedError
├── BudgetExceededError
├── MissingDependencyError
├── DeadlineExceededError
└── BackendUnavailableError
    └── DatabaseAwayError
```

Anything else that is raised is a bug: it crosses every layer and the client sees a reference id only.
"""

from typing import ClassVar


class WorkspaceError(Exception):
    """A failure that was foreseen; its text says what is wrong and `hint` names the next step."""

    code: ClassVar[str] = "workspace_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidRequestError(WorkspaceError):
    """The request itself is wrong; nothing was created."""

    code = "invalid_request"


class DataError(WorkspaceError):
    """The data cannot be used as asked."""

    code = "data_error"


class NotFoundError(WorkspaceError):
    """The named thing does not exist, or belongs to somebody else."""

    code = "not_found"


class StudyNotFoundError(NotFoundError):
    """No study has this name."""

    code = "study_not_found"


class RunNotFoundError(NotFoundError):
    """The tracking store has no run with this id."""

    code = "run_not_found"


class DatasetNotFoundError(NotFoundError):
    """No data set can be read under this name."""

    code = "dataset_not_found"


class ConflictError(WorkspaceError):
    """The request does not fit the state things are in."""

    code = "conflict"


class StudyExistsError(ConflictError):
    """A study with this name exists and cannot be resumed as asked."""

    code = "study_exists"


class StudyFinishedError(ConflictError):
    """The study has ended, so there is nothing to control."""

    code = "study_finished"


class PermissionDeniedError(WorkspaceError):
    """The caller's role does not include the permission this takes."""

    code = "permission_denied"


class BudgetExceededError(WorkspaceError):
    """The request does not fit the budget that is left."""

    code = "budget_exceeded"


class MissingDependencyError(WorkspaceError):
    """An optional package is not installed; `hint` has the install line."""

    code = "missing_dependency"


class DeadlineExceededError(WorkspaceError):
    """The call took longer than a call may take."""

    code = "deadline_exceeded"
    retryable = True


class BackendUnavailableError(WorkspaceError):
    """A store or a process that the call needs does not answer right now."""

    code = "backend_unavailable"
    retryable = True


class DatabaseAwayError(BackendUnavailableError):
    """The workspace database is locked, full or unreachable; nothing was written, and the same again may work.

    `reason` says which of these, in a few words.
    """

    def __init__(self, message: str, *, hint: str = "", reason: str = "database away") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
