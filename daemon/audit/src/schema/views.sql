-- One row a session: who connected where, as whom, and how it ended. `user` is who it was at the
-- target, `asked_user` what the agent said; `inside` the session whose tunnel it is in.
CREATE VIEW sessions AS
SELECT o.seq AS id,
       strftime('%Y-%m-%dT%H:%M:%S', o.at / 1000000, 'unixepoch') || printf('.%06dZ', o.at % 1000000) AS opened,
       strftime('%Y-%m-%dT%H:%M:%S', c.at / 1000000, 'unixepoch') || printf('.%06dZ', c.at % 1000000) AS closed,
       u.agent, u.version AS agent_version, u.name AS run, u.unit, u.container, u.image, o.process, p.lineage, p.uid, p.pid, p.executable, p.binary,
       p.script, p.script_digest, p.command_line, p.folder, p.cgroup, p.login_uid, o.comm, o.doubts,
       o.target, o.protocol, o.server, coalesce(t.user, s.user) AS user, s.user AS asked_user, s.database, s.application,
       t.method AS sign_on, t.agent_tls, t.target_tls, t.application AS target_application,
       (SELECT count(*) FROM intent i WHERE i.session = o.seq AND i.kind <> 'prepare' AND i.seq >= (SELECT first_seq FROM file WHERE one = 1)) AS commands,
       c.closed_by, c.detail, c.bytes_up, c.bytes_down, o.at AS opened_us, o.inside
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
       coalesce(i.text, e.text, (SELECT x.text FROM intent x WHERE x.seq = coalesce(i.text_of, e.text_of))) AS statement,
       i.parameters, i.parameters_cut,
       i.verdict, i.rule,
       coalesce(i.rung, e.rung) AS class, coalesce(i.summary, e.summary, (SELECT x.summary FROM intent x WHERE x.seq = coalesce(i.summary_of, e.summary_of))) AS summary, i.approval, i.unmasked,
       coalesce(r.status, 'pending') AS status,
       r.tag, r.rows, r.bytes, r.bytes_in, r.duration_us / 1000.0 AS duration_ms,
       r.error_code, r.error_message, r.transaction_state, r.masked,
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
       i.session, coalesce(i.text, q.text, (SELECT x.text FROM intent x WHERE x.seq = coalesce(i.text_of, q.text_of))) AS statement, i.parameters, coalesce(i.rung, q.rung) AS class, coalesce(i.summary, q.summary, (SELECT x.summary FROM intent x WHERE x.seq = coalesce(i.summary_of, q.summary_of))) AS summary,
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

-- One row a mask that was lifted for a run of an agent, or asked to be. `state` is `asked`, `granted`,
-- `denied`, `revoked`, `expired` or `ended`; `until` is when it ends or ended by itself, once it was
-- granted; `uses` counts the commands that were shown something by it.
CREATE VIEW exceptions AS
SELECT a.exception AS id, strftime('%Y-%m-%dT%H:%M:%S', a.at / 1000000, 'unixepoch') || printf('.%06dZ', a.at % 1000000) AS time,
       a.mask, a.agent, a.run, a.target, a.person AS asked_by, a.reason, a.approvers,
       coalesce(e.step, g.step, 'asked') AS state,
       strftime('%Y-%m-%dT%H:%M:%S', g.at / 1000000, 'unixepoch') || printf('.%06dZ', g.at % 1000000) AS granted,
       strftime('%Y-%m-%dT%H:%M:%S', g.until / 1000000, 'unixepoch') || printf('.%06dZ', g.until % 1000000) AS until,
       strftime('%Y-%m-%dT%H:%M:%S', e.at / 1000000, 'unixepoch') || printf('.%06dZ', e.at % 1000000) AS ended,
       e.person AS ended_by, e.reason AS detail,
       (SELECT json_group_array(json_object('person', v.person, 'uid', v.uid, 'approves', json(iif(v.step = 'approved', 'true', 'false')), 'reason', v.reason,
               'time', strftime('%Y-%m-%dT%H:%M:%S', v.at / 1000000, 'unixepoch') || printf('.%06dZ', v.at % 1000000)))
        FROM exception v WHERE v.exception = a.exception AND v.step IN ('approved', 'denied')) AS words,
       (SELECT count(*) FROM intent i, json_each(i.unmasked) j WHERE i.unmasked IS NOT NULL AND j.value = a.exception) AS uses,
       a.at AS time_us
FROM exception a
LEFT JOIN exception g ON g.exception = a.exception AND g.step = 'granted'
LEFT JOIN exception e ON e.exception = a.exception AND e.step IN ('denied', 'revoked', 'expired', 'ended')
WHERE a.step = 'asked';

-- One row a run of an agent, with what it opened; a run that several daemons saw is one.
CREATE VIEW runs AS
SELECT min(u.seq) AS id, u.agent, u.version AS agent_version, u.version_source, u.name AS run, u.unit, u.container, u.image,
       strftime('%Y-%m-%dT%H:%M:%S', min(u.at) / 1000000, 'unixepoch') || printf('.%06dZ', min(u.at) % 1000000) AS first_seen,
       count(CASE WHEN o.seq >= (SELECT first_seq FROM file WHERE one = 1) THEN o.seq END) AS sessions, group_concat(DISTINCT o.target) AS targets,
       strftime('%Y-%m-%dT%H:%M:%S', max(o.at) / 1000000, 'unixepoch') || printf('.%06dZ', max(o.at) % 1000000) AS last_session,
       min(u.at) AS first_us
FROM run u
LEFT JOIN process p ON p.run = u.seq
LEFT JOIN session_opened o ON o.process = p.seq
GROUP BY u.agent, u.version, u.name;

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
       count(DISTINCT CASE WHEN o.seq >= (SELECT first_seq FROM file WHERE one = 1) THEN o.seq END) AS sessions,
       strftime('%Y-%m-%dT%H:%M:%S', min(o.at) / 1000000, 'unixepoch') || printf('.%06dZ', min(o.at) % 1000000) AS first_session,
       strftime('%Y-%m-%dT%H:%M:%S', max(o.at) / 1000000, 'unixepoch') || printf('.%06dZ', max(o.at) % 1000000) AS last_session,
       max(o.at) AS last_us
FROM session_opened o
JOIN (WITH RECURSIVE above (leaf, seq) AS (
          SELECT DISTINCT process, process FROM session_opened
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
       i.session, i.statement AS number, coalesce(i.text, (SELECT x.text FROM intent x WHERE x.seq = i.text_of)) AS statement, i.verdict, i.rule,
       coalesce(r.status, 'pending') AS status, r.error_code, r.error_message
FROM intent i
LEFT JOIN outcome r ON r.intent = i.seq
WHERE i.kind = 'prepare';

-- What came back: the rows that were kept, as a JSON array of arrays, and whether some were not.
CREATE VIEW responses AS
SELECT r.intent AS id, r.part, r.columns, coalesce(r.response, s.response) AS rows, r.kept, r.rows AS total,
       r.truncated, r.notices
FROM outcome r LEFT JOIN outcome s ON s.seq = r.response_of
WHERE r.response IS NOT NULL OR r.response_of IS NOT NULL OR r.notices IS NOT NULL;

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
