CREATE TABLE daemon_started (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    version TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    host    TEXT NOT NULL,
    policy  TEXT NOT NULL
) STRICT;

CREATE TABLE session_opened (
    seq          INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    agent        TEXT NOT NULL,
    uid          INTEGER NOT NULL,
    gid          INTEGER NOT NULL,
    pid          INTEGER NOT NULL,
    started_ns   INTEGER NOT NULL,
    cgroup_id    INTEGER NOT NULL,
    comm         TEXT NOT NULL,
    executable   TEXT,
    command_line TEXT,
    cgroup       TEXT,
    target       TEXT NOT NULL,
    protocol     TEXT NOT NULL,
    server       TEXT NOT NULL,
    client       TEXT NOT NULL
) STRICT;

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
CREATE TRIGGER session_opened_u BEFORE UPDATE ON session_opened BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_opened_d BEFORE DELETE ON session_opened BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_opened_i BEFORE INSERT ON session_opened WHEN NEW.seq <= (SELECT max(seq) FROM session_opened) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_started_u BEFORE UPDATE ON session_started BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_started_d BEFORE DELETE ON session_started BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_started_i BEFORE INSERT ON session_started WHEN NEW.seq <= (SELECT max(seq) FROM session_started) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
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

-- One row a session: who connected where, as whom, and how it ended.
CREATE VIEW sessions AS
SELECT o.seq AS id,
       strftime('%Y-%m-%dT%H:%M:%S', o.at / 1000000, 'unixepoch') || printf('.%06dZ', o.at % 1000000) AS opened,
       strftime('%Y-%m-%dT%H:%M:%S', c.at / 1000000, 'unixepoch') || printf('.%06dZ', c.at % 1000000) AS closed,
       o.agent, o.uid, o.pid, o.executable, o.command_line, o.cgroup,
       o.target, o.protocol, o.server, s.user, s.database, s.application,
       (SELECT count(*) FROM intent i WHERE i.session = o.seq AND i.kind <> 'prepare') AS commands,
       c.closed_by, c.detail, c.bytes_up, c.bytes_down, o.at AS opened_us
FROM session_opened o
LEFT JOIN session_started s ON s.session = o.seq
LEFT JOIN session_closed c ON c.session = o.seq;

-- One row a statement that was run, refused or tried. A text of several statements has a row for
-- each, told apart by `part`. Preparing a statement is not running it: see `prepared`.
CREATE VIEW commands AS
SELECT i.seq AS id,
       coalesce(r.part, 0) AS part,
       strftime('%Y-%m-%dT%H:%M:%S', i.at / 1000000, 'unixepoch') || printf('.%06dZ', i.at % 1000000) AS time,
       i.session, o.agent, o.target, s.user, s.database,
       i.kind,
       coalesce(i.text, (SELECT p.text FROM intent p
                         WHERE p.session = i.session AND p.statement = i.statement AND p.kind = 'prepare')) AS statement,
       i.parameters, i.parameters_cut,
       i.verdict, i.rule,
       coalesce(r.status, 'pending') AS status,
       r.tag, r.rows, r.bytes, r.bytes_in, r.duration_us / 1000.0 AS duration_ms,
       r.error_code, r.error_message, r.transaction_state,
       o.uid, o.pid, o.executable,
       r.seq AS outcome, i.at AS time_us
FROM intent i
LEFT JOIN outcome r ON r.intent = i.seq
LEFT JOIN session_opened o ON o.seq = i.session
LEFT JOIN session_started s ON s.session = i.session
WHERE i.kind <> 'prepare' OR r.status IN ('error', 'refused', 'unknown');

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
