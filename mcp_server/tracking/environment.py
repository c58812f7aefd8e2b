"""The environment that a process sets before it imports mlflow, because mlflow reads most of it on import."""

import os
from collections.abc import Mapping
from types import MappingProxyType

MLFLOW_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # With an agent's variables set, mlflow writes instructions for the agent to stderr and into error messages.
        "MLFLOW_DISABLE_AGENT_HINT": "1",
        # `set_terminated` on an http store prints to stdout, which may carry a protocol.
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_PRINT_MODEL_URLS_ON_CREATION": "false",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
        "MLFLOW_UV_AUTO_DETECT": "false",
        "MLFLOW_LOG_UV_FILES": "false",
        "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
        # By default one call to a server that is down takes 4 minutes, to one that is silent 20. Whole numbers only.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
        "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
        "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    }
)


def prepare() -> None:
    """Make `import mlflow` quiet, local and quick to fail in this process."""
    os.environ.update(MLFLOW_ENVIRONMENT)
