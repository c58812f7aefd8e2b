-- A workspace database at revision 0001: a finished study of two trials.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE attempts (
	study_id VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	error TEXT, 
	log_path TEXT NOT NULL, 
	started_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	seconds FLOAT NOT NULL, 
	cpu_seconds FLOAT NOT NULL, 
	cost_usd FLOAT NOT NULL, 
	PRIMARY KEY (study_id, number, attempt), 
	FOREIGN KEY(study_id, number) REFERENCES trials (study_id, number) ON DELETE CASCADE
);
INSERT INTO "attempts" VALUES('68f4c572e6434d5594f1b0488d0f80b9',0,0,'completed',NULL,'workspace/logs/00000-0.log',1.79581223463970685006e+09,1.79581223464270901685e+09,1.26383599945256719365e-03,0.000615965,0.0);
INSERT INTO "attempts" VALUES('68f4c572e6434d5594f1b0488d0f80b9',1,0,'completed',NULL,'workspace/logs/00001-0.log',1.79581223464724826807e+09,1.79581223465280103682e+09,1.47633999404206406325e-04,8.5022e-05,0.0);
CREATE TABLE commands (
	id INTEGER NOT NULL, 
	study_id VARCHAR(32) NOT NULL, 
	action VARCHAR(20) NOT NULL, 
	arguments JSON NOT NULL, 
	owner VARCHAR(200) NOT NULL, 
	created_at FLOAT NOT NULL, 
	done_at FLOAT, 
	result JSON, 
	error TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	study_id VARCHAR(32) NOT NULL, 
	at FLOAT NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	actor VARCHAR(200) NOT NULL, 
	number INTEGER, 
	attempt INTEGER, 
	detail JSON, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
INSERT INTO "events" VALUES(1,'68f4c572e6434d5594f1b0488d0f80b9',1.79581223446784424778e+09,'created','tester',NULL,NULL,'{"n_trials": 2}');
INSERT INTO "events" VALUES(2,'68f4c572e6434d5594f1b0488d0f80b9',1.79581223462329363825e+09,'started','runner',NULL,NULL,'{"after": "queued"}');
INSERT INTO "events" VALUES(3,'68f4c572e6434d5594f1b0488d0f80b9',1.79581223464443206789e+09,'trial_ended','runner',0,0,'{"source": "sampler", "state": "complete", "as": "completed", "value": 0.26200573801979987, "why": null}');
INSERT INTO "events" VALUES(4,'68f4c572e6434d5594f1b0488d0f80b9',1.79581223465380930897e+09,'trial_ended','runner',1,0,'{"source": "sampler", "state": "complete", "as": "completed", "value": 0.3037863516553561, "why": null}');
INSERT INTO "events" VALUES(5,'68f4c572e6434d5594f1b0488d0f80b9',1.79581223465531516071e+09,'limit_reached','runner',NULL,NULL,'{"reason": "trials"}');
INSERT INTO "events" VALUES(6,'68f4c572e6434d5594f1b0488d0f80b9',1.79581223476352477069e+09,'ended','runner',NULL,NULL,'{"state": "finished", "reason": "trials"}');
CREATE TABLE notifications (
	id VARCHAR(32) NOT NULL, 
	study_id VARCHAR(32) NOT NULL, 
	channel VARCHAR(10) NOT NULL, 
	payload JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	tries INTEGER NOT NULL, 
	error TEXT, 
	done_at FLOAT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
CREATE TABLE outbox (
	id INTEGER NOT NULL, 
	"key" VARCHAR(200) NOT NULL, 
	study_id VARCHAR(32) NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	payload JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	run_id VARCHAR(40), 
	failures INTEGER NOT NULL, 
	error TEXT, 
	done_at FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE ("key")
);
INSERT INTO "outbox" VALUES(1,'68f4c572e6434d5594f1b0488d0f80b9','68f4c572e6434d5594f1b0488d0f80b9','study','{"kind": "study", "study_id": "68f4c572e6434d5594f1b0488d0f80b9", "study_name": "study", "experiment": "study", "started_at": 1795812234.6218576, "params": {"estimator": "auto", "metric": "value", "direction": "minimize", "sampler": "tpe", "pruner": "median", "seed": 0, "n_trials": 2}, "tags": {"user": "tester", "agent": "tuning"}, "dataset": null}',1.79581223462365365027e+09,'queued',NULL,0,NULL,NULL);
INSERT INTO "outbox" VALUES(2,'68f4c572e6434d5594f1b0488d0f80b9/0','68f4c572e6434d5594f1b0488d0f80b9','trial','{"kind": "trial", "study_id": "68f4c572e6434d5594f1b0488d0f80b9", "study_name": "study", "number": 0, "state": "complete", "params": {"x": 0.48813503927324753, "k": "a"}, "metric": "value", "value": 0.26200573801979987, "std": null, "best_so_far": 0.26200573801979987, "metrics": {}, "reports": [], "step_unit": "step", "started_at": 1795812234.6397069, "ended_at": 1795812234.642709, "cost_usd": 0.0, "config": {"objective": "mcp_server.testing.objectives:quadratic", "params": {"x": 0.48813503927324753, "k": "a"}, "seed": 0}, "error": null, "explanation": null, "source": "sampler", "tags": {"user": "tester", "agent": "tuning"}}',1.79581223464607095722e+09,'queued',NULL,0,NULL,NULL);
INSERT INTO "outbox" VALUES(3,'68f4c572e6434d5594f1b0488d0f80b9/1','68f4c572e6434d5594f1b0488d0f80b9','trial','{"kind": "trial", "study_id": "68f4c572e6434d5594f1b0488d0f80b9", "study_name": "study", "number": 1, "state": "complete", "params": {"x": 0.4488318299689684, "k": "b"}, "metric": "value", "value": 0.3037863516553561, "std": null, "best_so_far": 0.26200573801979987, "metrics": {}, "reports": [], "step_unit": "step", "started_at": 1795812234.6472483, "ended_at": 1795812234.652801, "cost_usd": 0.0, "config": {"objective": "mcp_server.testing.objectives:quadratic", "params": {"x": 0.4488318299689684, "k": "b"}, "seed": 0}, "error": null, "explanation": null, "source": "sampler", "tags": {"user": "tester", "agent": "tuning"}}',1.79581223465447044375e+09,'queued',NULL,0,NULL,NULL);
INSERT INTO "outbox" VALUES(4,'68f4c572e6434d5594f1b0488d0f80b9/end/0','68f4c572e6434d5594f1b0488d0f80b9','study_end','{"kind": "study_end", "study_id": "68f4c572e6434d5594f1b0488d0f80b9", "study_name": "study", "state": "finished", "stop_reason": "trials", "ended_at": 1795812234.7600083, "metrics": {"best_value": 0.26200573801979987, "cost_usd": 0.0}, "best_trial": null, "sequence": 0}',1.79581223476486039154e+09,'queued',NULL,0,NULL,NULL);
CREATE TABLE plans (
	id VARCHAR(40) NOT NULL, 
	owner VARCHAR(200) NOT NULL, 
	spec JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE reports (
	study_id VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	value FLOAT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (study_id, number, attempt, step), 
	FOREIGN KEY(study_id, number) REFERENCES trials (study_id, number) ON DELETE CASCADE
);
CREATE TABLE sealed_reads (
	id INTEGER NOT NULL, 
	study_id VARCHAR(32) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	number INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	value FLOAT, 
	low FLOAT, 
	high FLOAT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
CREATE TABLE spaces (
	study_id VARCHAR(32) NOT NULL, 
	version INTEGER NOT NULL, 
	space JSON NOT NULL, 
	owner VARCHAR(200) NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (study_id, version), 
	FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
CREATE TABLE studies (
	id VARCHAR(32) NOT NULL, 
	name VARCHAR(120) NOT NULL, 
	name_key VARCHAR(240) NOT NULL, 
	owner VARCHAR(200) NOT NULL, 
	idempotency_key VARCHAR(200), 
	spec JSON NOT NULL, 
	dataset JSON, 
	direction VARCHAR(8) NOT NULL, 
	metric VARCHAR(120) NOT NULL, 
	n_trials INTEGER NOT NULL, 
	timeout_s FLOAT, 
	desired VARCHAR(8) NOT NULL, 
	state VARCHAR(24) NOT NULL, 
	parallel INTEGER, 
	priority VARCHAR(8) DEFAULT 'normal' NOT NULL, 
	waits_for VARCHAR(4), 
	waiting_since FLOAT, 
	team VARCHAR(60), 
	approved_usd FLOAT, 
	approval JSON, 
	tags JSON, 
	stop_reason VARCHAR(40), 
	error TEXT, 
	elapsed_s FLOAT NOT NULL, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE (name), 
	UNIQUE (name_key), 
	UNIQUE (idempotency_key)
);
INSERT INTO "studies" VALUES('68f4c572e6434d5594f1b0488d0f80b9','study','study','tester',NULL,'{"spec": {"study_name": "study", "model_type": null, "n_trials": 2, "epochs_max": 5, "cost_budget_usd": null, "estimator": "auto", "metric": null, "fixed": {}, "sampler": {"type": "tpe", "n_startup_trials": 10, "multivariate": true, "constant_liar": true}, "pruner": {"n_startup_trials": 5, "n_warmup_steps": 1, "interval_steps": 1, "type": "median"}, "search_space": {"x": {"when": {}, "type": "float", "low": -5.0, "high": 5.0, "log": false, "step": null}, "k": {"when": {}, "type": "categorical", "choices": ["a", "b"]}}, "baseline": true, "parallel": 1, "gpus": 0, "timeout_s": null, "trial_timeout_s": null, "limits": {"failures": null, "consecutive_failures": null, "deadline": null, "cpu_seconds": null, "target": null, "patience": null, "min_trials": 0, "min_delta": 0.0, "plateau": null, "trial_memory_mb": null, "trial_disk_mb": null, "at_limit": "prune"}, "data": null, "target": null, "task": null, "drop": [], "group": null, "time": null, "validation_data": null, "cv_folds": 5, "test_size": 0.2, "encoding": null, "separator": null, "missing_target": "drop", "seed": 0, "priority": "normal", "tags": {}, "objective": "mcp_server.testing.objectives:quadratic", "direction": "minimize", "python_path": [], "payload": {}, "preload": []}, "objective": "mcp_server.testing.objectives:quadratic", "payload": {}, "space": {"x": {"when": {}, "type": "float", "low": -5.0, "high": 5.0, "log": false, "step": null}, "k": {"when": {}, "type": "categorical", "choices": ["a", "b"]}}, "metric": "value", "direction": "minimize", "baseline": null, "python_path": [], "preload": [], "warnings": [], "n_steps": null, "design_size": 2}','null','minimize','value',2,NULL,'run','finished',1,'normal',NULL,NULL,NULL,NULL,NULL,'null','trials',NULL,1.38846849999936239328e-01,1.79581223446682238581e+09,1.79581223462185764314e+09,1.79581223476000833511e+09);
CREATE TABLE trials (
	study_id VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	source VARCHAR(20) NOT NULL, 
	params JSON NOT NULL, 
	optuna_number INTEGER NOT NULL, 
	value FLOAT, 
	std FLOAT, 
	folds JSON, 
	metrics JSON, 
	error TEXT, 
	cause VARCHAR(40), 
	explanation TEXT, 
	space_version INTEGER DEFAULT '1' NOT NULL, 
	started_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	PRIMARY KEY (study_id, number), 
	FOREIGN KEY(study_id) REFERENCES studies (id) ON DELETE CASCADE
);
INSERT INTO "trials" VALUES('68f4c572e6434d5594f1b0488d0f80b9',0,'complete','sampler','{"x": 0.48813503927324753, "k": "a"}',0,2.62005738019799871985e-01,NULL,'null','{}',NULL,NULL,NULL,1,1.79581223463970685006e+09,1.79581223464270901685e+09);
INSERT INTO "trials" VALUES('68f4c572e6434d5594f1b0488d0f80b9',1,'complete','sampler','{"x": 0.4488318299689684, "k": "b"}',1,3.03786351655356112733e-01,NULL,'null','{}',NULL,NULL,NULL,1,1.79581223464724826807e+09,1.79581223465280103682e+09);
CREATE TABLE workspace_info (
	"key" VARCHAR(40) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "workspace_info" VALUES('schema_version','1');
INSERT INTO "workspace_info" VALUES('created_at','1795812234.4638884');
CREATE INDEX ix_outbox_open ON outbox (state, id);
CREATE INDEX ix_outbox_study ON outbox (study_id, state);
CREATE INDEX ix_trials_state_value ON trials (study_id, state, value);
CREATE INDEX ix_events_study ON events (study_id, id);
CREATE INDEX ix_notifications_state ON notifications (state);
CREATE INDEX ix_attempts_state ON attempts (study_id, state);
COMMIT;
