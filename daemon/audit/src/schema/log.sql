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
    container      TEXT,
    image          TEXT
) STRICT;

-- A process and the program in it; after an exec the same process has another row.
CREATE TABLE process (
    seq            INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    run            INTEGER NOT NULL,
    parent         INTEGER,
    pid            INTEGER NOT NULL,
    started_ns     INTEGER NOT NULL,
    exec_id        INTEGER NOT NULL,
    uid            INTEGER NOT NULL,
    gid            INTEGER NOT NULL,
    cgroup_id      INTEGER NOT NULL,
    cgroup         TEXT,
    executable     TEXT,
    binary         TEXT,
    script         TEXT,
    script_digest  TEXT,
    folder         TEXT,
    login_uid      INTEGER,
    lineage        TEXT NOT NULL,
    command_line   TEXT,
    content_key    BLOB,
    content_digest BLOB
) STRICT;
CREATE INDEX process_run ON process (run);

-- `inside` is the session whose tunnel it is in.
CREATE TABLE session_opened (
    seq      INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    process  INTEGER NOT NULL,
    comm     TEXT NOT NULL,
    doubts   TEXT,
    target   TEXT NOT NULL,
    protocol TEXT NOT NULL,
    server   TEXT NOT NULL,
    client   TEXT NOT NULL,
    inside   INTEGER
) STRICT;
CREATE INDEX session_opened_process ON session_opened (process);
CREATE INDEX session_opened_inside ON session_opened (inside) WHERE inside IS NOT NULL;

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

-- A command that was decided. What was written before is referred to: `text_of` and `summary_of`
-- are earlier intents with the same text or summary.
CREATE TABLE intent (
    seq            INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    session        INTEGER NOT NULL,
    kind           TEXT NOT NULL,
    statement      INTEGER,
    text_of        INTEGER,
    parameters_cut INTEGER NOT NULL,
    verdict        TEXT NOT NULL,
    rule           TEXT NOT NULL,
    rung           TEXT,
    summary        TEXT,
    summary_of     INTEGER,
    approval       INTEGER,
    unmasked       TEXT,
    text           TEXT,
    parameters     TEXT,
    content_key    BLOB,
    content_digest BLOB
) STRICT;
CREATE INDEX intent_session ON intent (session);
CREATE INDEX intent_prepare ON intent (session, statement) WHERE kind = 'prepare';
CREATE INDEX intent_approval ON intent (approval) WHERE approval IS NOT NULL;
CREATE INDEX intent_unmasked ON intent (seq) WHERE unmasked IS NOT NULL;

-- What came of a command. `response_of` is an earlier outcome with the same rows.
CREATE TABLE outcome (
    seq               INTEGER PRIMARY KEY,
    at                INTEGER NOT NULL,
    intent            INTEGER NOT NULL,
    part              INTEGER NOT NULL,
    status            TEXT NOT NULL,
    tag               TEXT,
    error_code        TEXT,
    duration_us       INTEGER NOT NULL,
    rows              INTEGER NOT NULL,
    bytes             INTEGER NOT NULL,
    bytes_in          INTEGER NOT NULL,
    columns           TEXT,
    response_of       INTEGER,
    kept              INTEGER,
    truncated         INTEGER,
    transaction_state TEXT,
    masked            TEXT,
    error_message     TEXT,
    response          TEXT,
    notices           TEXT,
    content_key       BLOB,
    content_digest    BLOB
) STRICT;
CREATE INDEX outcome_intent ON outcome (intent);

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

-- A step of an exception from a mask; `exception` is the number of its first one.
CREATE TABLE exception (
    seq       INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    exception INTEGER NOT NULL,
    step      TEXT NOT NULL,
    mask      TEXT NOT NULL,
    agent     TEXT NOT NULL,
    run       TEXT NOT NULL,
    target    TEXT,
    approvers TEXT,
    until     INTEGER,
    uid       INTEGER,
    person    TEXT,
    reason    TEXT
) STRICT;
CREATE INDEX exception_exception ON exception (exception);

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

-- The daemon was alive; the state of its clocks.
CREATE TABLE heartbeat (
    seq            INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    boot_id        TEXT NOT NULL,
    monotonic_us   INTEGER NOT NULL,
    clock          TEXT NOT NULL,
    clock_error_us INTEGER NOT NULL
) STRICT;

-- The content of records was erased: those whose `content_digest` is set.
CREATE TABLE erased (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    command INTEGER NOT NULL,
    records TEXT NOT NULL,
    uid     INTEGER NOT NULL,
    person  TEXT NOT NULL,
    reason  TEXT NOT NULL
) STRICT;

-- A record of an earlier file that stands here again, with its number, because records of this file
-- refer to it.
CREATE TABLE carried (
    seq    INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    record INTEGER NOT NULL,
    leaf   TEXT NOT NULL
) STRICT;
CREATE INDEX carried_record ON carried (record);

-- The tree (RFC 6962) over all records. `hashes` is the record's leaf hash, followed by those of the
-- complete subtrees of 2, 4, 8 … leaves that end with it.
CREATE TABLE tree (
    seq    INTEGER PRIMARY KEY,
    hashes BLOB NOT NULL
) STRICT;

-- The signed heads of the tree (c2sp.org/tlog-checkpoint): each covers the records up to `size`.
-- Then, all commands up to `settled` had an outcome.
CREATE TABLE checkpoint (
    size    INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    note    TEXT NOT NULL,
    settled INTEGER NOT NULL
) STRICT;

-- This file: the first record that was appended to it, the name of the one before it in the chain,
-- and when its records were removed, where only the tree is kept.
CREATE TABLE file (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    first_seq INTEGER NOT NULL,
    began     INTEGER NOT NULL,
    before    TEXT,
    retired   INTEGER
) STRICT;
