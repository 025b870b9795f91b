-- What was read out of a statement, and what people say of those that wait for them.
ALTER TABLE intent ADD COLUMN rung TEXT;
ALTER TABLE intent ADD COLUMN summary TEXT;
ALTER TABLE intent ADD COLUMN approval INTEGER;

-- A command that waits for a person; `hold` is the command's own number.
CREATE TABLE hold_opened (
    seq       INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    hold      INTEGER NOT NULL,
    approvers TEXT NOT NULL,
    quorum    INTEGER NOT NULL,
    deadline  INTEGER NOT NULL,
    wait      TEXT NOT NULL,
    digest    TEXT NOT NULL
) STRICT;
CREATE INDEX hold_opened_hold ON hold_opened (hold);

CREATE TABLE hold_voted (
    seq      INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    hold     INTEGER NOT NULL,
    approves INTEGER NOT NULL,
    uid      INTEGER NOT NULL,
    person   TEXT NOT NULL,
    reason   TEXT
) STRICT;
CREATE INDEX hold_voted_hold ON hold_voted (hold);

CREATE TABLE hold_ended (
    seq    INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    hold   INTEGER NOT NULL,
    how    TEXT NOT NULL,
    detail TEXT
) STRICT;
CREATE INDEX hold_ended_hold ON hold_ended (hold);

CREATE TRIGGER hold_opened_u BEFORE UPDATE ON hold_opened BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER hold_opened_d BEFORE DELETE ON hold_opened BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER hold_opened_i BEFORE INSERT ON hold_opened WHEN NEW.seq <= (SELECT max(seq) FROM hold_opened) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER hold_voted_u BEFORE UPDATE ON hold_voted BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER hold_voted_d BEFORE DELETE ON hold_voted BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER hold_voted_i BEFORE INSERT ON hold_voted WHEN NEW.seq <= (SELECT max(seq) FROM hold_voted) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER hold_ended_u BEFORE UPDATE ON hold_ended BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER hold_ended_d BEFORE DELETE ON hold_ended BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER hold_ended_i BEFORE INSERT ON hold_ended WHEN NEW.seq <= (SELECT max(seq) FROM hold_ended) BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

DROP VIEW commands;

-- One row a statement that was run, refused or tried. A text of several statements has a row for
-- each, told apart by `part`. Preparing a statement is not running it: see `prepared`.
CREATE VIEW commands AS
SELECT i.seq AS id,
       coalesce(r.part, 0) AS part,
       strftime('%Y-%m-%dT%H:%M:%S', i.at / 1000000, 'unixepoch') || printf('.%06dZ', i.at % 1000000) AS time,
       i.session, u.agent, u.version AS agent_version, u.name AS run, p.lineage, o.target, coalesce(t.user, s.user) AS user, s.database,
       i.kind,
       coalesce(i.text, e.text) AS statement,
       i.parameters, i.parameters_cut,
       i.verdict, i.rule,
       coalesce(i.rung, e.rung) AS class, coalesce(i.summary, e.summary) AS summary, i.approval,
       coalesce(r.status, 'pending') AS status,
       r.tag, r.rows, r.bytes, r.bytes_in, r.duration_us / 1000.0 AS duration_ms,
       r.error_code, r.error_message, r.transaction_state,
       p.uid, p.pid, p.executable, p.binary, p.script, p.script_digest, o.doubts,
       r.seq AS outcome, i.at AS time_us,
       (SELECT d.policy FROM daemon_started d WHERE d.seq < i.seq ORDER BY d.seq DESC LIMIT 1) AS policy
FROM intent i
LEFT JOIN intent e ON e.session = i.session AND e.statement = i.statement AND e.kind = 'prepare' AND i.kind <> 'prepare'
LEFT JOIN outcome r ON r.intent = i.seq
LEFT JOIN session_opened o ON o.seq = i.session
LEFT JOIN process p ON p.seq = o.process
LEFT JOIN run u ON u.seq = p.run
LEFT JOIN session_started s ON s.session = i.session
LEFT JOIN session_signed_on t ON t.session = i.session
WHERE i.kind <> 'prepare' OR r.status IN ('error', 'refused', 'unknown');

-- One row a command that waited for a person. `state` is `open`, `approved`, `denied`, `expired` or
-- `withdrawn`; an approval that lasts lets later commands through: `uses` counts them.
CREATE VIEW holds AS
SELECT h.hold AS id, strftime('%Y-%m-%dT%H:%M:%S', h.at / 1000000, 'unixepoch') || printf('.%06dZ', h.at % 1000000) AS time,
       u.agent, u.version AS agent_version, u.name AS run, p.lineage, o.target, coalesce(t.user, s.user) AS user, s.database,
       i.session, coalesce(i.text, q.text) AS statement, i.parameters, coalesce(i.rung, q.rung) AS class, coalesce(i.summary, q.summary) AS summary,
       i.rule, h.approvers, h.quorum, h.wait, h.digest,
       strftime('%Y-%m-%dT%H:%M:%S', h.deadline / 1000000, 'unixepoch') || printf('.%06dZ', h.deadline % 1000000) AS deadline,
       coalesce(e.how, 'open') AS state,
       strftime('%Y-%m-%dT%H:%M:%S', e.at / 1000000, 'unixepoch') || printf('.%06dZ', e.at % 1000000) AS ended,
       e.detail,
       (SELECT json_group_array(json_object('person', v.person, 'uid', v.uid, 'approves', json(iif(v.approves, 'true', 'false')), 'reason', v.reason,
               'time', strftime('%Y-%m-%dT%H:%M:%S', v.at / 1000000, 'unixepoch') || printf('.%06dZ', v.at % 1000000)))
        FROM hold_voted v WHERE v.hold = h.hold) AS words,
       (SELECT count(*) FROM intent a WHERE a.approval = h.hold) AS uses,
       h.at AS time_us
FROM hold_opened h
JOIN intent i ON i.seq = h.hold
LEFT JOIN intent q ON q.session = i.session AND q.statement = i.statement AND q.kind = 'prepare' AND i.kind <> 'prepare'
LEFT JOIN hold_ended e ON e.hold = h.hold
LEFT JOIN session_opened o ON o.seq = i.session
LEFT JOIN process p ON p.seq = o.process
LEFT JOIN run u ON u.seq = p.run
LEFT JOIN session_started s ON s.session = i.session
LEFT JOIN session_signed_on t ON t.session = i.session;
CREATE INDEX intent_approval ON intent (approval) WHERE approval IS NOT NULL;
