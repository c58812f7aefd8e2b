"""Tables of the workspace database. Times are Unix seconds (UTC); JSON columns hold what the named model dumps."""

from sqlalchemy import (
    JSON,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 1

metadata = MetaData()

workspace_info = Table(
    "workspace_info",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)

revision = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))

commits = Table(  # on a database server, whose reply to a commit may be lost
    "commits",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("at", Float, nullable=False),
)

plans = Table(
    "plans",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

studies = Table(
    "studies",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("name_key", String(240), nullable=False, unique=True),  # casefolded: names that differ by case collide
    Column("owner", String(200), nullable=False),
    Column("idempotency_key", String(200), unique=True),
    Column("spec", JSON, nullable=False),
    Column("dataset", JSON),
    Column("direction", String(8), nullable=False),
    Column("metric", String(120), nullable=False),
    Column("n_trials", Integer, nullable=False),
    Column("timeout_s", Float),
    # run | pause | drain | stop: written by servers and the command line only
    Column("desired", String(8), nullable=False),
    Column("state", String(24), nullable=False),  # written by the study's runner only, once it is queued
    Column("parallel", Integer),  # trials at a time, as it was last ordered
    Column("priority", String(8), nullable=False, server_default="normal"),  # low | normal | high
    Column("waits_for", String(4)),  # cpu | gpu: the place that its next trial lacks
    Column("waiting_since", Float),
    Column("team", String(60)),
    Column("approved_usd", Float),  # what it may cost in all; none without a rule about approvals
    Column("approval", JSON),
    Column("tags", JSON),
    Column("stop_reason", String(40)),
    Column("error", Text),
    Column("elapsed_s", Float, nullable=False, default=0.0),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
)

trials = Table(
    "trials",
    metadata,
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(10), nullable=False),
    Column("source", String(20), nullable=False),
    Column("params", JSON, nullable=False),
    Column("optuna_number", Integer, nullable=False),
    Column("value", Float),
    Column("std", Float),
    Column("folds", JSON),
    Column("metrics", JSON),
    Column("error", Text),
    Column("cause", String(40)),
    Column("explanation", Text),  # why it was cut
    Column("space_version", Integer, nullable=False, server_default="1"),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Index("ix_trials_state_value", "study_id", "state", "value"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("study_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("state", String(10), nullable=False),
    Column("error", Text),
    Column("log_path", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("seconds", Float, nullable=False, default=0.0),  # monotonic
    Column("cpu_seconds", Float, nullable=False, default=0.0),
    Column("cost_usd", Float, nullable=False, default=0.0),
    ForeignKeyConstraint(["study_id", "number"], ["trials.study_id", "trials.number"], ondelete="CASCADE"),
    Index("ix_attempts_state", "study_id", "state"),
)

reports = Table(
    "reports",
    metadata,
    Column("study_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("value", Float, nullable=False),
    Column("at", Float, nullable=False),
    ForeignKeyConstraint(["study_id", "number"], ["trials.study_id", "trials.number"], ondelete="CASCADE"),
)

commands = Table(
    "commands",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("action", String(20), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("owner", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("done_at", Float),
    Column("result", JSON),
    Column("error", Text),
)

spaces = Table(
    "spaces",
    metadata,
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),  # from 1, the space that the study began with
    Column("space", JSON, nullable=False),
    Column("owner", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("actor", String(200), nullable=False),  # who ordered it, or "runner"
    Column("number", Integer),
    Column("attempt", Integer),
    Column("detail", JSON),
    Index("ix_events_study", "study_id", "id"),
)

sealed_reads = Table(
    "sealed_reads",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("key", String(200), nullable=False),
    Column("study_id", String(32), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("state", String(10), nullable=False, default="queued"),  # queued | creating | done | refused
    Column("run_id", String(40)),
    Column("failures", Integer, nullable=False, default=0),
    Column("error", Text),
    Column("done_at", Float),
    UniqueConstraint("key"),
    Index("ix_outbox_open", "state", "id"),
    Index("ix_outbox_study", "study_id", "state"),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("study_id", ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("channel", String(10), nullable=False),  # webhook | command
    Column("payload", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("state", String(10), nullable=False),  # queued | done | given_up
    Column("tries", Integer, nullable=False, default=0),
    Column("error", Text),
    Column("done_at", Float),
    Index("ix_notifications_state", "state"),
)
