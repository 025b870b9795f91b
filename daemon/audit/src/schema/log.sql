CREATE TABLE daemon_started (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    version TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    host    TEXT NOT NULL,
    policy  TEXT NOT NULL
) STRICT;

-- An agent in one of its versions, in one of its runs.
CREATE TABLE run (
    seq            INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    agent          TEXT NOT NULL,
    version        TEXT,
    version_source TEXT,
    name           TEXT NOT NULL,
    unit           TEXT,
    container      TEXT
) STRICT;

-- A process and the program in it; after an exec the same process has another row.
CREATE TABLE process (
    seq           INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    run           INTEGER NOT NULL,
    parent        INTEGER,
    pid           INTEGER NOT NULL,
    started_ns    INTEGER NOT NULL,
    exec_id       INTEGER NOT NULL,
    uid           INTEGER NOT NULL,
    gid           INTEGER NOT NULL,
    cgroup_id     INTEGER NOT NULL,
    cgroup        TEXT,
    executable    TEXT,
    binary        TEXT,
    script        TEXT,
    script_digest TEXT,
    command_line  TEXT,
    folder        TEXT,
    login_uid     INTEGER,
    lineage       TEXT NOT NULL
) STRICT;
CREATE INDEX process_run ON process (run);

CREATE TABLE session_opened (
    seq      INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    process  INTEGER NOT NULL,
    comm     TEXT NOT NULL,
    doubts   TEXT,
    target   TEXT NOT NULL,
    protocol TEXT NOT NULL,
    server   TEXT NOT NULL,
    client   TEXT NOT NULL
) STRICT;
CREATE INDEX session_opened_process ON session_opened (process);

CREATE TABLE session_started (
    seq         INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    session     INTEGER NOT NULL,
    user        TEXT,
    database    TEXT,
    application TEXT,
    parameters  TEXT NOT NULL
) STRICT;
CREATE INDEX session_started_session ON session_started (session);

CREATE TABLE session_signed_on (
    seq         INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    session     INTEGER NOT NULL,
    user        TEXT,
    method      TEXT NOT NULL,
    agent_tls   TEXT,
    target_tls  TEXT,
    application TEXT
) STRICT;
CREATE INDEX session_signed_on_session ON session_signed_on (session);

CREATE TABLE intent (
    seq            INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    session        INTEGER NOT NULL,
    kind           TEXT NOT NULL,
    text           TEXT,
    statement      INTEGER,
    parameters     TEXT,
    parameters_cut INTEGER NOT NULL,
    verdict        TEXT NOT NULL,
    rule           TEXT NOT NULL
) STRICT;
CREATE INDEX intent_session ON intent (session);
CREATE INDEX intent_prepare ON intent (session, statement) WHERE kind = 'prepare';

CREATE TABLE outcome (
    seq           INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    intent        INTEGER NOT NULL,
    part          INTEGER NOT NULL,
    status        TEXT NOT NULL,
    tag           TEXT,
    error_code    TEXT,
    error_message TEXT,
    duration_us   INTEGER NOT NULL,
    rows          INTEGER NOT NULL,
    bytes         INTEGER NOT NULL,
    bytes_in      INTEGER NOT NULL,
    columns       TEXT,
    response      TEXT,
    kept          INTEGER,
    truncated     INTEGER,
    notices       TEXT,
    transaction_state TEXT
) STRICT;
CREATE INDEX outcome_intent ON outcome (intent);

CREATE TABLE session_closed (
    seq        INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    session    INTEGER NOT NULL,
    closed_by  TEXT NOT NULL,
    detail     TEXT,
    bytes_up   INTEGER NOT NULL,
    bytes_down INTEGER NOT NULL
) STRICT;
CREATE INDEX session_closed_session ON session_closed (session);

CREATE TABLE event (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    session INTEGER,
    kind    TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;

-- Nothing is changed or removed, and nothing added but at the end: REPLACE removes a row without
-- asking the triggers for DELETE.
CREATE TRIGGER daemon_started_u BEFORE UPDATE ON daemon_started BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER daemon_started_d BEFORE DELETE ON daemon_started BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER daemon_started_i BEFORE INSERT ON daemon_started WHEN NEW.seq <= (SELECT max(seq) FROM daemon_started) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER run_u BEFORE UPDATE ON run BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER run_d BEFORE DELETE ON run BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER run_i BEFORE INSERT ON run WHEN NEW.seq <= (SELECT max(seq) FROM run) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER process_u BEFORE UPDATE ON process BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER process_d BEFORE DELETE ON process BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER process_i BEFORE INSERT ON process WHEN NEW.seq <= (SELECT max(seq) FROM process) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_opened_u BEFORE UPDATE ON session_opened BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_opened_d BEFORE DELETE ON session_opened BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_opened_i BEFORE INSERT ON session_opened WHEN NEW.seq <= (SELECT max(seq) FROM session_opened) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_started_u BEFORE UPDATE ON session_started BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_started_d BEFORE DELETE ON session_started BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_started_i BEFORE INSERT ON session_started WHEN NEW.seq <= (SELECT max(seq) FROM session_started) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_signed_on_u BEFORE UPDATE ON session_signed_on BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_signed_on_d BEFORE DELETE ON session_signed_on BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_signed_on_i BEFORE INSERT ON session_signed_on WHEN NEW.seq <= (SELECT max(seq) FROM session_signed_on) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER intent_u BEFORE UPDATE ON intent BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER intent_d BEFORE DELETE ON intent BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER intent_i BEFORE INSERT ON intent WHEN NEW.seq <= (SELECT max(seq) FROM intent) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER outcome_u BEFORE UPDATE ON outcome BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER outcome_d BEFORE DELETE ON outcome BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER outcome_i BEFORE INSERT ON outcome WHEN NEW.seq <= (SELECT max(seq) FROM outcome) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_closed_u BEFORE UPDATE ON session_closed BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_closed_d BEFORE DELETE ON session_closed BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_closed_i BEFORE INSERT ON session_closed WHEN NEW.seq <= (SELECT max(seq) FROM session_closed) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER event_u BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER event_d BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER event_i BEFORE INSERT ON event WHEN NEW.seq <= (SELECT max(seq) FROM event) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

-- One row a session: who connected where, as whom, and how it ended. `user` is who it was at the
-- target, `asked_user` what the agent said.
CREATE VIEW sessions AS
SELECT o.seq AS id,
       strftime('%Y-%m-%dT%H:%M:%S', o.at / 1000000, 'unixepoch') || printf('.%06dZ', o.at % 1000000) AS opened,
       strftime('%Y-%m-%dT%H:%M:%S', c.at / 1000000, 'unixepoch') || printf('.%06dZ', c.at % 1000000) AS closed,
       u.agent, u.version AS agent_version, u.name AS run, u.unit, u.container, o.process, p.lineage, p.uid, p.pid, p.executable, p.binary,
       p.script, p.script_digest, p.command_line, p.folder, p.cgroup, p.login_uid, o.comm, o.doubts,
       o.target, o.protocol, o.server, coalesce(t.user, s.user) AS user, s.user AS asked_user, s.database, s.application,
       t.method AS sign_on, t.agent_tls, t.target_tls, t.application AS target_application,
       (SELECT count(*) FROM intent i WHERE i.session = o.seq AND i.kind <> 'prepare') AS commands,
       c.closed_by, c.detail, c.bytes_up, c.bytes_down, o.at AS opened_us
FROM session_opened o
LEFT JOIN process p ON p.seq = o.process
LEFT JOIN run u ON u.seq = p.run
LEFT JOIN session_started s ON s.session = o.seq
LEFT JOIN session_signed_on t ON t.session = o.seq
LEFT JOIN session_closed c ON c.session = o.seq;

-- One row a statement that was run, refused or tried. A text of several statements has a row for
-- each, told apart by `part`. Preparing a statement is not running it: see `prepared`.
CREATE VIEW commands AS
SELECT i.seq AS id,
       coalesce(r.part, 0) AS part,
       strftime('%Y-%m-%dT%H:%M:%S', i.at / 1000000, 'unixepoch') || printf('.%06dZ', i.at % 1000000) AS time,
       i.session, u.agent, u.version AS agent_version, u.name AS run, p.lineage, o.target, coalesce(t.user, s.user) AS user, s.database,
       i.kind,
       coalesce(i.text, (SELECT e.text FROM intent e
                         WHERE e.session = i.session AND e.statement = i.statement AND e.kind = 'prepare')) AS statement,
       i.parameters, i.parameters_cut,
       i.verdict, i.rule,
       coalesce(r.status, 'pending') AS status,
       r.tag, r.rows, r.bytes, r.bytes_in, r.duration_us / 1000.0 AS duration_ms,
       r.error_code, r.error_message, r.transaction_state,
       p.uid, p.pid, p.executable, p.binary, p.script, p.script_digest, o.doubts,
       r.seq AS outcome, i.at AS time_us
FROM intent i
LEFT JOIN outcome r ON r.intent = i.seq
LEFT JOIN session_opened o ON o.seq = i.session
LEFT JOIN process p ON p.seq = o.process
LEFT JOIN run u ON u.seq = p.run
LEFT JOIN session_started s ON s.session = i.session
LEFT JOIN session_signed_on t ON t.session = i.session
WHERE i.kind <> 'prepare' OR r.status IN ('error', 'refused', 'unknown');

-- One row a run of an agent, with what it opened.
CREATE VIEW runs AS
SELECT u.seq AS id, u.agent, u.version AS agent_version, u.version_source, u.name AS run, u.unit, u.container,
       strftime('%Y-%m-%dT%H:%M:%S', u.at / 1000000, 'unixepoch') || printf('.%06dZ', u.at % 1000000) AS first_seen,
       count(o.seq) AS sessions, group_concat(DISTINCT o.target) AS targets,
       strftime('%Y-%m-%dT%H:%M:%S', max(o.at) / 1000000, 'unixepoch') || printf('.%06dZ', max(o.at) % 1000000) AS last_session,
       u.at AS first_us
FROM run u
LEFT JOIN process p ON p.run = u.seq
LEFT JOIN session_opened o ON o.process = p.seq
GROUP BY u.seq;

-- One row a process and the program in it, also of those that only stood above one that connected.
CREATE VIEW processes AS
SELECT p.seq AS id, strftime('%Y-%m-%dT%H:%M:%S', p.at / 1000000, 'unixepoch') || printf('.%06dZ', p.at % 1000000) AS seen,
       u.agent, u.version AS agent_version, u.name AS run, p.parent, p.lineage, p.pid, p.uid, p.gid, p.cgroup, p.executable, p.binary, p.script,
       p.script_digest, p.command_line, p.folder, p.login_uid,
       (SELECT count(*) FROM session_opened o WHERE o.process = p.seq) AS sessions
FROM process p LEFT JOIN run u ON u.seq = p.run;

-- One row a program or script that opened a target, or stood above what did.
CREATE VIEW binaries AS
SELECT f.kind, f.path, f.digest, u.agent, u.version AS agent_version, o.target,
       count(DISTINCT o.seq) AS sessions,
       strftime('%Y-%m-%dT%H:%M:%S', min(o.at) / 1000000, 'unixepoch') || printf('.%06dZ', min(o.at) % 1000000) AS first_session,
       strftime('%Y-%m-%dT%H:%M:%S', max(o.at) / 1000000, 'unixepoch') || printf('.%06dZ', max(o.at) % 1000000) AS last_session,
       max(o.at) AS last_us
FROM session_opened o
JOIN (WITH RECURSIVE above (leaf, seq) AS (
          SELECT seq, seq FROM process
          UNION ALL
          SELECT above.leaf, process.parent FROM above JOIN process ON process.seq = above.seq WHERE process.parent IS NOT NULL)
      SELECT above.leaf, 'program' AS kind, p.executable AS path, p.binary AS digest FROM above JOIN process p ON p.seq = above.seq
      UNION ALL
      SELECT above.leaf, 'script', p.script, p.script_digest FROM above JOIN process p ON p.seq = above.seq WHERE p.script IS NOT NULL) f
  ON f.leaf = o.process
JOIN process p ON p.seq = o.process
JOIN run u ON u.seq = p.run
GROUP BY f.kind, f.path, f.digest, u.agent, u.version, o.target;

-- One row a statement that was sent to be parsed.
CREATE VIEW prepared AS
SELECT i.seq AS id,
       strftime('%Y-%m-%dT%H:%M:%S', i.at / 1000000, 'unixepoch') || printf('.%06dZ', i.at % 1000000) AS time,
       i.session, i.statement AS number, i.text AS statement, i.verdict, i.rule,
       coalesce(r.status, 'pending') AS status, r.error_code, r.error_message
FROM intent i
LEFT JOIN outcome r ON r.intent = i.seq
WHERE i.kind = 'prepare';

-- What came back: the rows that were kept, as a JSON array of arrays, and whether some were not.
CREATE VIEW responses AS
SELECT r.intent AS id, r.part, r.columns, r.response AS rows, r.kept, r.rows AS total,
       r.truncated, r.notices
FROM outcome r
WHERE r.response IS NOT NULL OR r.notices IS NOT NULL;

-- What else happened, with the daemon's starts.
CREATE VIEW events AS
SELECT seq AS id,
       strftime('%Y-%m-%dT%H:%M:%S', at / 1000000, 'unixepoch') || printf('.%06dZ', at % 1000000) AS time,
       session, kind, detail, at AS time_us
FROM event
UNION ALL
SELECT seq,
       strftime('%Y-%m-%dT%H:%M:%S', at / 1000000, 'unixepoch') || printf('.%06dZ', at % 1000000),
       NULL, 'daemon-started',
       'version ' || version || ' on ' || host || ', boot ' || boot_id || ', policy ' || policy, at
FROM daemon_started;
