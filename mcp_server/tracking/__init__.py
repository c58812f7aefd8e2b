"""MLflow as a projection of the workspace: an outbox, the one process that empties it, and a reader."""
