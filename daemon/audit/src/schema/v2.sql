-- Which version and run of an agent it was, and as whom the target accepted it.

ALTER TABLE session_opened ADD COLUMN agent_version TEXT;
ALTER TABLE session_opened ADD COLUMN run TEXT;

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
CREATE TRIGGER session_signed_on_u BEFORE UPDATE ON session_signed_on BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_signed_on_d BEFORE DELETE ON session_signed_on BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER session_signed_on_i BEFORE INSERT ON session_signed_on WHEN NEW.seq <= (SELECT max(seq) FROM session_signed_on) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

-- `user` is who it was at the target, `asked_user` what the agent said.
DROP VIEW sessions;
CREATE VIEW sessions AS
SELECT o.seq AS id,
       strftime('%Y-%m-%dT%H:%M:%S', o.at / 1000000, 'unixepoch') || printf('.%06dZ', o.at % 1000000) AS opened,
       strftime('%Y-%m-%dT%H:%M:%S', c.at / 1000000, 'unixepoch') || printf('.%06dZ', c.at % 1000000) AS closed,
       o.agent, o.agent_version, o.run, o.uid, o.pid, o.executable, o.command_line, o.cgroup,
       o.target, o.protocol, o.server, coalesce(t.user, s.user) AS user, s.user AS asked_user, s.database, s.application,
       t.method AS sign_on, t.agent_tls, t.target_tls, t.application AS target_application,
       (SELECT count(*) FROM intent i WHERE i.session = o.seq AND i.kind <> 'prepare') AS commands,
       c.closed_by, c.detail, c.bytes_up, c.bytes_down, o.at AS opened_us
FROM session_opened o
LEFT JOIN session_started s ON s.session = o.seq
LEFT JOIN session_signed_on t ON t.session = o.seq
LEFT JOIN session_closed c ON c.session = o.seq;

DROP VIEW commands;
CREATE VIEW commands AS
SELECT i.seq AS id,
       coalesce(r.part, 0) AS part,
       strftime('%Y-%m-%dT%H:%M:%S', i.at / 1000000, 'unixepoch') || printf('.%06dZ', i.at % 1000000) AS time,
       i.session, o.agent, o.agent_version, o.run, o.target, coalesce(t.user, s.user) AS user, s.database,
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
LEFT JOIN session_signed_on t ON t.session = i.session
WHERE i.kind <> 'prepare' OR r.status IN ('error', 'refused', 'unknown');
