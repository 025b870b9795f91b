-- A command's words and names; the row's number is the command's. Without content, positions and
-- columns: only which commands have a word.
CREATE VIRTUAL TABLE document USING fts5 (text, content = '', contentless_delete = 1, detail = none, tokenize = 'unicode61');
INSERT INTO document (document, rank) VALUES ('usermerge', 2);

-- The numbers that stand for names in `document`.
CREATE TABLE name (
    id   INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (kind, text)
) STRICT;

-- When the commands of a block of numbers began.
CREATE TABLE block (
    id       INTEGER PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL
) STRICT;

-- Commands that were passed and had no outcome.
CREATE TABLE unfinished (
    seq INTEGER PRIMARY KEY
) STRICT;

-- Up to which record the log is indexed, the tree's hashes there, and how far the removal of what
-- was erased has come: 0 done, 1 asked for, 2 under way.
CREATE TABLE state (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    indexed INTEGER NOT NULL,
    hashes  BLOB,
    purge   INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 0, NULL, 0);
