-- What standards ask of a log, as rows. PCI DSS 10.2.2: who, what type of event, when, with what
-- outcome, from where, on what. `who` is the agent with its version, or the person who decided.
CREATE VIEW trail AS
SELECT c.id, c.time, c.agent || coalesce(' ' || c.agent_version, '') AS who, c.user AS account,
       c.kind || coalesce(' ' || c.class, '') AS event,
       CASE WHEN c.status IN ('ok', 'suspended') THEN 'success' WHEN c.status IN ('unknown', 'pending') THEN c.status ELSE 'failure' END AS outcome,
       c.lineage || ', process ' || c.pid || ' of user id ' || c.uid || ', run ' || c.run AS origin,
       c.target || coalesce('/' || c.database, '')
         || coalesce(': ' || (SELECT group_concat(DISTINCT atom) FROM json_tree(c.summary) WHERE path LIKE '%.reads' OR path LIKE '%.writes'), '') AS object,
       coalesce(c.statement, '(text not known)') AS detail, c.session, c.time_us
FROM commands c
UNION ALL
SELECT s.id, s.opened, s.agent || coalesce(' ' || s.agent_version, ''), s.user, 'session opened',
       iif(s.sign_on IS NULL AND s.commands = 0 AND s.closed_by = 'daemon', 'failure', 'success'),
       s.lineage || ', process ' || s.pid || ' of user id ' || s.uid || ', run ' || s.run, s.target || coalesce('/' || s.database, ''),
       coalesce(s.detail, ''), s.id, s.opened_us
FROM sessions s
UNION ALL
SELECT v.seq, strftime('%Y-%m-%dT%H:%M:%S', v.at / 1000000, 'unixepoch') || printf('.%06dZ', v.at % 1000000), v.person, NULL,
       iif(v.approves, 'approval', 'denial'), 'success', 'user id ' || v.uid, 'command ' || v.hold, coalesce(v.reason, ''), NULL, v.at
FROM hold_voted v
UNION ALL
SELECT x.seq, strftime('%Y-%m-%dT%H:%M:%S', x.at / 1000000, 'unixepoch') || printf('.%06dZ', x.at % 1000000), coalesce(x.person, x.agent), NULL,
       'unmasking ' || x.step, iif(x.step = 'denied', 'failure', 'success'), coalesce('user id ' || x.uid, 'daemon'),
       'mask ' || x.mask || ' for ' || x.agent || ', run ' || x.run || coalesce(', on ' || x.target, ''), coalesce(x.reason, ''), NULL, x.at
FROM exception x
UNION ALL
SELECT e.seq, strftime('%Y-%m-%dT%H:%M:%S', e.at / 1000000, 'unixepoch') || printf('.%06dZ', e.at % 1000000), e.person, NULL,
       'erasure', 'success', 'user id ' || e.uid, 'command ' || e.command, e.reason, NULL, e.at
FROM erased e
UNION ALL
SELECT e.id, e.time, 'chaperone', NULL, e.kind, 'success', 'daemon', 'log', e.detail, e.session, e.time_us
FROM events e WHERE e.kind IN ('daemon-started', 'daemon-stopping', 'detached', 'enrolled', 'log-turned', 'log-retired', 'log-damaged');

-- SOC 2 CC7.2: what is out of the ordinary, one row each.
CREATE VIEW anomalies AS
SELECT c.id, c.time, iif(c.verdict <> 'allow', c.verdict, c.status) AS kind, c.agent, c.session,
       coalesce(c.rule, '') || ': ' || coalesce(c.statement, '(text not known)') AS detail, c.time_us
FROM commands c WHERE c.verdict <> 'allow' OR c.status IN ('refused', 'unknown')
UNION ALL
SELECT x.seq, strftime('%Y-%m-%dT%H:%M:%S', x.at / 1000000, 'unixepoch') || printf('.%06dZ', x.at % 1000000), 'unmasked', x.agent, NULL,
       'mask ' || x.mask || ' for run ' || x.run || coalesce(' on ' || x.target, ''), x.at
FROM exception x WHERE x.step = 'granted'
UNION ALL
SELECT s.id, s.opened, 'doubt', s.agent, s.id, s.doubts, s.opened_us FROM sessions s WHERE s.doubts IS NOT NULL
UNION ALL
SELECT e.seq, strftime('%Y-%m-%dT%H:%M:%S', e.at / 1000000, 'unixepoch') || printf('.%06dZ', e.at % 1000000), 'erasure', NULL, NULL,
       'command ' || e.command || ', by ' || e.person || ': ' || e.reason, e.at
FROM erased e
UNION ALL
SELECT e.id, e.time, e.kind, u.agent, e.session, e.detail, e.time_us
FROM events e
LEFT JOIN session_opened o ON o.seq = e.session LEFT JOIN process p ON p.seq = o.process LEFT JOIN run u ON u.seq = p.run
WHERE e.kind NOT IN ('daemon-started', 'daemon-stopping', 'enrolled', 'log-turned', 'log-retired');
