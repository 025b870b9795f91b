--# comments
--- comment-glued-to-concat
--: the comment begins within the run of operator characters
SELECT name ||-- '
 name FROM customers; DROP TABLE jobs; -- '
--- comment-glued-to-match
SELECT name ~-- '
 'C' FROM customers; DROP TABLE jobs; -- '
--- comment-glued-to-overlap
SELECT tags &&-- '
 tags FROM customers; DROP TABLE jobs; -- '
--- comment-glued-to-contained
SELECT tags <@-- '
 tags FROM customers; DROP TABLE jobs; -- '
--- comment-glued-to-at-least
SELECT id >=-- '
 3 FROM customers; DROP TABLE jobs; -- '
--- comment-glued-to-modulo
SELECT id %-- '
 3 FROM customers; DROP TABLE jobs; -- '
--- comment-glued-to-xor
SELECT id #-- '
 3 FROM customers; DROP TABLE jobs; -- '
--- comment-glued-to-and
SELECT id &-- '
 3 FROM customers; DROP TABLE jobs; -- '
--- comment-glued-to-arrow
SELECT profile ->-- '
 'age' FROM customers; DROP TABLE jobs; -- '
--- comment-glued-to-shift
SELECT id <<-- '
 3 FROM customers; DROP TABLE jobs; -- '
--- comment-block-glued-to-operator
SELECT 1 +/* ' */ 2; DROP TABLE jobs; /* ' */
--- comment-block-glued-to-star
SELECT 2 */* ' */ 3; DROP TABLE jobs; SELECT '/* '
--- comment-nested-then-quote
--: a reader that does not nest comments sees a string from the quote on
SELECT 1 /* /* */ ' */ ; DROP TABLE jobs; -- '
--- comment-two-blocks
--: a greedy pattern takes it all for one comment
SELECT 1 /* first */ ; DROP TABLE jobs; /* last */
--- comment-line-opens-block
SELECT 1 -- /*
; DROP TABLE jobs -- */
--- comment-block-holds-dashes
--: dashes mean nothing within a block
SELECT 1 /* -- */ ; DROP TABLE jobs
--- comment-ends-at-carriage-return
--: a carriage return alone ends the comment
SELECT 1 -- nothing; DROP TABLE jobs
--- comment-line-separator
--: U+2028 ends no comment
SELECT 1 --   /*
; DROP TABLE jobs -- */
--- comment-next-line-character
--: U+0085 ends no comment
SELECT 1 --  '
; DROP TABLE jobs; -- '
--- comment-vertical-tab-is-no-end
--: a vertical tab ends no comment
SELECT 1 --  '
; DROP TABLE jobs; -- '
--- comment-hash-is-an-operator
--: a comment in MySQL, exclusive or here
SELECT 1 # 2; DROP TABLE jobs
--- comment-marks-in-string
SELECT '/*'; DROP TABLE jobs; SELECT '*/'
--- comment-dashes-in-string
SELECT '--'; DROP TABLE jobs
--- comment-marks-in-identifier
SELECT 1 AS "/*"; DROP TABLE jobs; SELECT 2 AS "*/"
--- comment-dashes-in-identifier
SELECT 1 AS "--"; DROP TABLE jobs
--- comment-marks-in-dollar-string
SELECT $$/*$$; DROP TABLE jobs; SELECT $$*/$$
--- comment-instead-of-spaces
DROP/**/TABLE/**/jobs
--- comment-says-select
/* SELECT * FROM jobs */ DELETE FROM jobs
--- comment-hint-says-read-only
--: extended
/*+ read-only */ DELETE FROM jobs -- WHERE id = 3
--- comment-swallows-where
--: extended
DELETE FROM orders -- 
WHERE id = id
--- comment-where-is-comment
DELETE FROM orders /* WHERE id = 3 */
--- comment-nested-deep
/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/* SELECT 1 */*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/ DROP TABLE jobs
--- comment-between-name-parts
DELETE FROM public/* */./* */jobs
--- comment-slash-star-slash
--: the slash after the star closes nothing
SELECT 1 /*/ ; DROP TABLE archive; */ ; DROP TABLE jobs
--- comment-star-run
SELECT 1 /***/ ; DROP TABLE jobs /****/

--# strings and identifiers
--- string-backslash-is-plain
--: no escape in a standard string
SELECT '\'; DROP TABLE jobs; --'
--- string-escaped-backslash
SELECT E'\\'; DROP TABLE jobs; --'
--- string-four-quotes
SELECT ''''; DROP TABLE jobs; --'
--- string-quote-octal
--: the octal quote ends no string; the next one does
SELECT E'\047'; DROP TABLE jobs; --'
--- string-dollars-in-identifier
--: an identifier may hold dollars: no string begins here
SELECT 1 AS a$$; DROP TABLE jobs; SELECT 2 AS b$$
--- string-tag-in-identifier
SELECT 1 AS a$t$; DROP TABLE jobs; SELECT 2 AS b$t$
--- string-tags-differ
SELECT $a$ $b$ ; $a$; DROP TABLE jobs; SELECT $b$ x $b$
--- string-tag-case-differs
--: tags are told apart by case
SELECT $a$ $A$ $a$; DROP TABLE jobs; SELECT $A$ x $A$
--- string-tag-not-ascii
DO $é$BEGIN DELETE FROM jobs; END$é$
--- string-continued-on-next-line
--: two literals with a line end between are one
DO 'BEGIN DEL'
'ETE FROM jobs; END'
--- string-continued-past-comment
DO 'BEGIN TRUNC' -- and
'ATE jobs; END'
--- string-hex-escapes
DO E'BEGIN \x44\x45\x4c\x45\x54\x45 FROM jobs; END'
--- string-unicode-escapes
DO U&'BEGIN \0044\0045LETE FROM jobs; END'
--- string-unicode-own-escape
DO U&'BEGIN !0044!0045LETE FROM jobs; END' UESCAPE '!'
--- string-e-unicode
DO E'BEGIN \u0044\U00000045LETE FROM jobs; END'
--- string-ends-before-u-ampersand
SELECT U&'a\\'; DROP TABLE jobs; --'
--- identifier-unicode-table
--: extended
DROP TABLE U&"\006Aobs"
--- identifier-unicode-function
--: extended
SELECT U&"\0070urge_orders"()
--- identifier-unicode-own-escape
SELECT U&"!0070urge!005Forders" UESCAPE '!' ()
--- identifier-unicode-builtin
SELECT pg_catalog.U&"lo\005Funlink"(4242)
--- identifier-unicode-option
EXPLAIN (U&"\0061nalyze") DELETE FROM jobs
--- identifier-quoted-function
SELECT "purge_orders"()
--- identifier-quoted-builtin
SELECT "pg_catalog"."lo_unlink"(4242)
--- identifier-doubled-quote
SELECT 1 AS """"; DROP TABLE jobs; --"
--- identifier-keyword-alias
DELETE FROM orders "where"
--- identifier-alias-reads-as-where
--: extended
DELETE FROM orders "WHERE id = 3"
--- identifier-alias-reads-as-limit
UPDATE customers AS "LIMIT 1" SET balance = 0
--- identifier-set-as-alias
UPDATE customers "set" SET balance = 0
--- identifier-using-alias-reads-as-where
DELETE FROM orders USING customers "WHERE orders.id = 3"
--- identifier-glued-to-keyword
DELETE FROM"jobs"
--- identifier-cut-table
--: cut at 63 bytes before it is looked up
DROP TABLE quarterly_settlement_archive_of_the_northern_and_western_branch_scratch_copy
--- identifier-cut-delete
--: extended
DELETE FROM "quarterly_settlement_archive_of_the_northern_and_western_branch (test)"
--- identifier-cut-prepared
--: all four names are one, after 63 bytes
PREPARE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_one AS SELECT 1; DEALLOCATE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_two; PREPARE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_three AS DELETE FROM jobs; EXECUTE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_one
--- identifier-cut-cursor
BEGIN; DECLARE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_one CURSOR FOR SELECT 1; CLOSE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_two; DECLARE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_three CURSOR FOR SELECT purge_orders(); FETCH aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_one; COMMIT
--- identifier-cut-cte
WITH aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1 AS (DELETE FROM jobs RETURNING id) SELECT * FROM aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2

--# tails of harmless statements
--- tail-end-as-alias
SELECT 1 END; DROP TABLE jobs
--- tail-commit-as-alias
SELECT 1 COMMIT; DROP TABLE jobs
--- tail-copy-from-stdin
--: the tail is no inline data; the client must answer CopyInResponse
COPY staging FROM STDIN; DROP TABLE jobs
--- tail-copy-to-stdout
COPY staging TO STDOUT; DROP TABLE jobs
--- tail-copy-csv
--: the client must answer CopyInResponse
COPY staging (id, name, amount) FROM STDIN WITH (FORMAT text);
DROP TABLE jobs
--- tail-after-explain
EXPLAIN DELETE FROM archive; DELETE FROM jobs
--- tail-after-prepare
PREPARE p AS SELECT 1; TRUNCATE jobs
--- tail-after-show
SHOW work_mem; TRUNCATE jobs
--- tail-empty-statements
;;/**/;
;DROP TABLE jobs;;
--- tail-after-set
SET statement_timeout = '5s'; SELECT 1; DELETE FROM jobs
--- tail-after-many-selects
SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; DROP TABLE jobs
--- tail-after-wide-blank
SELECT 1                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                        ; DROP TABLE jobs
--- tail-after-blank-lines
SELECT 1







































































































































































































; DROP TABLE jobs
--- tail-after-begin-atomic
CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END; DROP TABLE jobs
--- tail-after-string-with-semicolon
SELECT ';'';'; DROP TABLE jobs
--- tail-committed-before-rollback
--: what is rolled back is the second transaction
BEGIN; DELETE FROM jobs; COMMIT; BEGIN; SELECT 1; ROLLBACK
--- tail-savepoint-named-twice
--: the rollback goes to the second savepoint, behind the deletion
BEGIN; SAVEPOINT s; DELETE FROM jobs; SAVEPOINT s; ROLLBACK TO s; COMMIT
--- tail-rollback-first
ROLLBACK; DELETE FROM jobs
--- tail-commit-and-chain
BEGIN; DELETE FROM jobs; COMMIT AND CHAIN; ROLLBACK
--- tail-read-only-left
BEGIN READ ONLY; SELECT 1; COMMIT; DELETE FROM jobs
--- tail-read-only-undone
--: allowed as long as the transaction has read nothing
BEGIN; SET TRANSACTION READ ONLY; SET TRANSACTION READ WRITE; DELETE FROM jobs; COMMIT
--- tail-abort-closed-early
BEGIN; DELETE FROM jobs; END; ABORT

--# case, blanks and parentheses
--- blank-mixed-case
--: extended
dRoP tAbLe JoBs
--- blank-tabs-and-lines
drop
		table
	jobs
--- blank-form-feed
--: a form feed is a blank
DROPTABLEjobs
--- blank-spaced-name
DELETE FROM public . "jobs"
--- blank-only-star
TRUNCATE	TABLE
ONLY jobs
--- blank-truncate-glued
TRUNCATE"jobs",archive
--- blank-truncate-star
TRUNCATE jobs * RESTART IDENTITY CASCADE
--- blank-delete-only-parentheses
DELETE FROM ONLY (jobs)
--- blank-parenthesised-cte
((WITH d AS (DELETE FROM jobs RETURNING id) SELECT id FROM d))
--- blank-drop-several
DROP TABLE IF EXISTS no_such_table, jobs
--- blank-catalog-qualified
SELECT pg_catalog . lo_unlink ( 4242 )
--- blank-upper-builtin
--: extended
SELECT LO_UNLINK/**/(4242)
--- blank-database-qualified-no
DROP VIEW IF EXISTS public.active_customers RESTRICT

--# common table expressions
--- cte-delete-counted
--: extended
WITH d AS (DELETE FROM order_items RETURNING *) SELECT count(*) FROM d
--- cte-delete-unused
WITH _ AS (DELETE FROM jobs) SELECT * FROM customers WHERE id = 3
--- cte-second-of-three
WITH a AS (SELECT 1 AS x), b AS (UPDATE products SET stock = 0 RETURNING id), c AS (SELECT 2 AS y) SELECT x, y FROM a, c
--- cte-recursive
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3), d AS (DELETE FROM jobs RETURNING id) SELECT * FROM n
--- cte-quoted-keyword-name
WITH "select" AS (DELETE FROM jobs RETURNING *) SELECT * FROM "select"
--- cte-materialized
WITH d AS MATERIALIZED (DELETE FROM jobs RETURNING id) SELECT 1
--- cte-before-values
--: extended
WITH d AS (DELETE FROM jobs) VALUES (1)
--- cte-before-table
WITH d AS (DELETE FROM jobs RETURNING id) TABLE d
--- cte-before-union
WITH d AS (DELETE FROM jobs RETURNING id) SELECT id FROM customers UNION ALL SELECT id FROM d ORDER BY 1 LIMIT 1
--- cte-in-bounded-update
WITH d AS (DELETE FROM jobs RETURNING id) UPDATE customers SET notes = 'x' WHERE id = 3
--- cte-in-bounded-delete
--: extended
WITH d AS (DELETE FROM jobs) DELETE FROM orders WHERE id = 3
--- cte-in-insert
WITH d AS (DELETE FROM jobs RETURNING id) INSERT INTO staging (id) SELECT id FROM d
--- cte-in-copy
COPY (WITH d AS (DELETE FROM jobs RETURNING *) SELECT * FROM d) TO STDOUT
--- cte-in-merge
WITH s AS (SELECT id FROM jobs) MERGE INTO jobs j USING s ON j.id = s.id WHEN MATCHED THEN DELETE
--- cte-calls-function
WITH a AS MATERIALIZED (SELECT purge_orders() AS n) SELECT n FROM a
--- cte-delete-bounded-by-itself
WITH d AS (DELETE FROM jobs WHERE id IN (SELECT id FROM jobs) RETURNING id) SELECT min(id) FROM d
--- copy-delete-returning
COPY (DELETE FROM jobs RETURNING *) TO STDOUT
--- copy-update-returning
COPY (UPDATE customers SET balance = 0 RETURNING id) TO STDOUT WITH (FORMAT csv, HEADER)

--# EXPLAIN
--- explain-analyze
EXPLAIN ANALYZE DELETE FROM jobs
--- explain-analyse-british
EXPLAIN ANALYSE VERBOSE DELETE FROM jobs
--- explain-option
--: extended
EXPLAIN (ANALYZE) DELETE FROM jobs
--- explain-option-last
EXPLAIN (COSTS off, TIMING off, SUMMARY off, ANALYZE) DELETE FROM jobs
--- explain-option-quoted
EXPLAIN ("analyze" 'on') DELETE FROM jobs
--- explain-option-one
--: extended
EXPLAIN (FORMAT json, ANALYSE 1) DELETE FROM jobs
--- explain-option-twice
--: the last one counts
EXPLAIN (ANALYZE false, ANALYZE true) DELETE FROM jobs
--- explain-option-string-true
EXPLAIN (ANALYZE 'TRUE') UPDATE customers SET balance = 0
--- explain-execute
PREPARE p AS DELETE FROM jobs; EXPLAIN (ANALYZE) EXECUTE p
--- explain-create-table-as
EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1 AS one
--- explain-cte
EXPLAIN (ANALYZE, FORMAT yaml) WITH d AS (DELETE FROM jobs RETURNING id) SELECT * FROM d
--- explain-select-function
EXPLAIN ANALYZE SELECT purge_orders()
--- explain-insert-function
EXPLAIN (ANALYZE, COSTS off) INSERT INTO staging (id) SELECT purge_orders()
--- explain-merge
EXPLAIN ANALYZE MERGE INTO jobs USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE
--- explain-declare
EXPLAIN ANALYZE DECLARE c CURSOR FOR SELECT purge_orders()
--- explain-planner-runs-stable
--: without ANALYZE: the planner calls a stable function to estimate
EXPLAIN SELECT * FROM orders WHERE id < order_limit()
--- explain-planner-runs-builtin
--: without ANALYZE, and with built-in functions alone: the planner reads the view, which deletes
EXPLAIN SELECT * FROM customers WHERE name < table_to_xml('order_health', true, false, '')::text
--- explain-planner-runs-under-prepare
PREPARE p AS SELECT * FROM orders WHERE id < order_limit(); EXPLAIN EXECUTE p

--# prepared statements and cursors
--- prepare-execute
PREPARE p AS DELETE FROM jobs; EXECUTE p
--- prepare-case-folds
--: unquoted P is p
PREPARE "P" AS SELECT 1; PREPARE p AS DELETE FROM jobs; EXECUTE P
--- prepare-name-again
PREPARE p AS SELECT 1; DEALLOCATE p; PREPARE p AS DELETE FROM jobs; EXECUTE p
--- prepare-discard-all-not-needed
PREPARE p AS SELECT 1; DEALLOCATE PREPARE ALL; PREPARE p AS UPDATE customers SET balance = 0; EXECUTE p
--- prepare-runs-text
PREPARE p (text) AS SELECT run_text($1); EXECUTE p ('DELETE FROM jobs')
--- prepare-function-as-argument
--: the argument is executed
PREPARE p (bigint) AS SELECT $1; EXECUTE p (purge_orders())
--- prepare-inside-do
DO $$BEGIN EXECUTE 'PREPARE q AS DELETE FROM jobs'; END$$; EXECUTE q
--- prepare-inside-function
SELECT run_text('PREPARE q AS DELETE FROM jobs'); EXECUTE q
--- prepare-parameter-makes-where-true
PREPARE p (integer) AS DELETE FROM orders WHERE $1 = 3; EXECUTE p (3)
--- prepare-or-parameter
PREPARE p (integer, boolean) AS DELETE FROM orders WHERE id = $1 OR $2; EXECUTE p (3, true)
--- prepare-domain-argument
--: catalog: the type of the parameter runs a check that deletes
PREPARE p (shadow.fine) AS SELECT $1; EXECUTE p (3)
--- prepare-rolled-back-stays
--: ROLLBACK does not undo PREPARE
BEGIN; PREPARE p AS DELETE FROM jobs; ROLLBACK; EXECUTE p
--- execute-into-table
PREPARE p AS SELECT * FROM customers; CREATE TABLE copied AS EXECUTE p
--- cursor-fetch-runs-function
BEGIN; DECLARE c CURSOR FOR SELECT purge_orders(); FETCH c; COMMIT
--- cursor-move-runs-function
--: MOVE executes as FETCH does
BEGIN; DECLARE c CURSOR FOR SELECT purge_orders(); MOVE 1 IN c; COMMIT
--- cursor-hold-without-fetch
--: executed at commit, though nothing is fetched
DECLARE c CURSOR WITH HOLD FOR SELECT purge_orders()
--- cursor-current-of
BEGIN; DECLARE c CURSOR FOR SELECT * FROM orders FOR UPDATE; MOVE 7 IN c; DELETE FROM orders WHERE CURRENT OF c; COMMIT
--- cursor-name-again
BEGIN; DECLARE c CURSOR FOR SELECT 1; CLOSE c; DECLARE c CURSOR FOR SELECT purge_orders(); FETCH c; COMMIT
--- cursor-quoted-name
BEGIN; DECLARE "c; --" CURSOR FOR SELECT purge_orders(); FETCH ALL FROM "c; --"; COMMIT
--- cursor-made-by-function
BEGIN; SELECT run_text('DECLARE hid CURSOR FOR SELECT purge_orders()'); FETCH hid; COMMIT
--- cursor-to-xml
BEGIN; DECLARE c CURSOR FOR SELECT purge_orders(); SELECT cursor_to_xml('c', 1, true, false, ''); COMMIT

--# DO and CALL
--- do-plain
--: extended
DO $$BEGIN DELETE FROM jobs; END$$
--- do-concatenated
DO $$BEGIN EXECUTE 'DEL' || 'ETE FROM jobs'; END$$
--- do-format
DO $$BEGIN EXECUTE format('%s FROM %I', 'DELETE', 'jobs'); END$$
--- do-chr
DO $$BEGIN EXECUTE chr(68) || chr(82) || chr(79) || chr(80) || ' TABLE jobs'; END$$
--- do-convert-from
DO $$BEGIN EXECUTE convert_from('\x44524f50205441424c45206a6f6273', 'UTF8'); END$$
--- do-base64
--: extended
DO $$BEGIN EXECUTE convert_from(decode('RFJPUCBUQUJMRSBqb2Jz', 'base64'), 'UTF8'); END$$
--- do-reverse
DO $$BEGIN EXECUTE reverse('sboj ELBAT PORD'); END$$
--- do-translate
DO $$BEGIN EXECUTE translate('QEBC GNOYR wbof', 'QEBCGNOYRwbof', 'DROPTABLEjobs'); END$$
--- do-nested-quotes
DO $a$BEGIN EXECUTE $b$DO $c$BEGIN DELETE FROM jobs; END$c$$b$; END$a$
--- do-text-from-table
--: the text comes from a row
INSERT INTO staging (id, name) VALUES (99, 'DELETE FROM jobs'); DO $$BEGIN EXECUTE (SELECT name FROM staging WHERE id = 99); END$$
--- do-text-from-comment
--: the text comes from its own comment
DO $$BEGIN /* DELETE FROM jobs */ EXECUTE substring(current_query() FROM 'DELETE FROM jobs'); END$$
--- do-loop-over-tables
DO $$DECLARE r record; BEGIN FOR r IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'j%' LOOP EXECUTE format('DROP TABLE %I', r.tablename); END LOOP; END$$
--- do-perform
DO $$BEGIN PERFORM purge_orders(); END$$
--- do-assignment
--: the declaration alone executes it
DO $$DECLARE n bigint := purge_orders(); BEGIN END$$
--- do-exception-hidden
DO $$BEGIN BEGIN DELETE FROM jobs; EXCEPTION WHEN OTHERS THEN NULL; END; END$$
--- do-commits
--: extended
DO $$BEGIN DELETE FROM jobs; COMMIT; ROLLBACK; END$$
--- do-assert
DO $$BEGIN ASSERT purge_orders() >= 0; END$$
--- do-language-last
DO $$BEGIN DELETE FROM jobs; END$$ LANGUAGE plpgsql
--- do-cursor-over-function
DO $$DECLARE c refcursor; n bigint; BEGIN OPEN c FOR EXECUTE 'SELECT purge_' || 'orders()'; FETCH c INTO n; END$$
--- do-if-condition
DO $$BEGIN IF (SELECT purge_orders()) > 0 THEN NULL; END IF; END$$
--- call-procedure
--: extended
CALL close_orders('infinity')
--- call-argument-runs
CALL close_orders('-infinity'::timestamptz + purge_orders() * interval '1 day')

--# functions that run what they are given
--- run-query-to-xml
--: extended
SELECT query_to_xml('SELECT purge_orders()', true, false, '')
--- run-query-to-xml-named
SELECT query_to_xml(query => 'SELECT purge_orders()', nulls => true, tableforest => false, targetns => '')
--- run-query-to-xml-and-schema
SELECT query_to_xml_and_xmlschema('SELECT purge_orders()', true, false, '')
--- run-query-to-xml-nested
SELECT query_to_xml($a$SELECT query_to_xml($b$SELECT purge_orders()$b$, true, false, '')$a$, true, false, '')
--- run-query-to-xml-concatenated
SELECT query_to_xml('SELECT pur' || 'ge_ord' || 'ers()', true, false, '')
--- run-query-to-xml-large-object
SELECT query_to_xml('SELECT lo_unlink(4242)', false, false, '')
--- run-query-in-xmltable
SELECT x.n FROM XMLTABLE('//purge_orders' PASSING (query_to_xml('SELECT purge_orders()', false, false, '')) COLUMNS n text PATH '.') AS x
--- run-query-in-xpath
SELECT xpath('//text()', query_to_xml('SELECT purge_orders()', true, false, ''))
--- run-table-to-xml
--: catalog: the view deletes
SELECT table_to_xml('order_health', true, false, '')
--- run-schema-to-xml
--: catalog: one of the views of the schema deletes
SELECT length(schema_to_xml('public', true, false, '')::text)
--- run-database-to-xml
--: catalog: one of the views deletes
--: extended
SELECT length(database_to_xml(true, false, '')::text)
--- run-ts-stat
SELECT * FROM ts_stat('SELECT to_tsvector(purge_orders()::text)')
--- run-ts-stat-weights
--: extended
SELECT count(*) FROM ts_stat($$SELECT to_tsvector('simple', lo_unlink(4242)::text)$$, 'ab')
--- run-ts-rewrite
SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, (purge_orders()::text)::tsquery')
--- run-user-function
--: extended
SELECT run_text('DELETE FROM jobs')
--- run-user-function-encoded
SELECT run_text(convert_from(decode('REVMRVRFIEZST00gam9icw==', 'base64'), 'UTF8'))
--- run-user-function-from-row
SELECT run_text('TRUNCATE ' || relname) FROM pg_class WHERE relname = 'jobs'

--# where a function can stand
--- place-from
SELECT * FROM purge_orders()
--- place-rows-from
SELECT * FROM ROWS FROM (generate_series(1, 2), purge_orders()) WITH ORDINALITY
--- place-lateral
SELECT c.id FROM customers c, LATERAL purge_orders() AS p WHERE c.id = 3
--- place-join-condition
SELECT c.id FROM customers c JOIN products p ON p.id = c.id AND purge_orders() >= 0
--- place-where
--: extended
SELECT 1 FROM customers WHERE id = 3 AND purge_orders() >= 0
--- place-order-by
SELECT 1 ORDER BY purge_orders()
--- place-limit
SELECT * FROM customers LIMIT purge_orders()
--- place-offset
SELECT * FROM customers OFFSET (SELECT purge_orders())
--- place-group-by
SELECT count(*) FROM customers GROUP BY purge_orders()
--- place-having
SELECT count(*) FROM customers HAVING purge_orders() >= 0
--- place-distinct-on
SELECT DISTINCT ON (purge_orders()) id FROM customers
--- place-filter
SELECT count(*) FILTER (WHERE purge_orders() >= 0) FROM customers
--- place-window
SELECT count(*) OVER (PARTITION BY purge_orders()) FROM customers
--- place-window-frame
SELECT sum(id) OVER (ORDER BY id ROWS purge_orders() PRECEDING) FROM customers
--- place-aggregate-argument
SELECT max(purge_orders()) FROM customers
--- place-aggregate-order
SELECT array_agg(id ORDER BY purge_orders()) FROM customers
--- place-case
SELECT CASE WHEN now() > '2000-01-01' THEN purge_orders() END
--- place-coalesce
SELECT coalesce(NULL, purge_orders())
--- place-values
--: extended
VALUES (1), (purge_orders())
--- place-array
SELECT (ARRAY[1, 2])[purge_orders()]
--- place-row
SELECT ROW(1, purge_orders())
--- place-subquery
SELECT (SELECT purge_orders())
--- place-exists
SELECT EXISTS (SELECT 1 WHERE purge_orders() >= 0)
--- place-in-list
SELECT 3 IN (1, purge_orders())
--- place-sample
SELECT count(*) FROM customers TABLESAMPLE BERNOULLI (purge_orders())
--- place-union
SELECT 1 UNION ALL SELECT purge_orders()
--- place-returning
INSERT INTO staging (id) VALUES (5) RETURNING purge_orders()
--- place-insert-values
INSERT INTO staging (id) VALUES (purge_orders())
--- place-on-conflict
INSERT INTO products (id, sku, name, price) VALUES (1, 'x', 'x', 1) ON CONFLICT (id) DO UPDATE SET stock = purge_orders()
--- place-bounded-update
--: extended
UPDATE customers SET balance = purge_orders() WHERE id = 3
--- place-bounded-where
UPDATE customers SET notes = 'x' WHERE id = 3 AND purge_orders() >= 0
--- place-copy
COPY (SELECT purge_orders()) TO STDOUT
--- place-copy-where
--: executed for each row that the client sends; it must send one
COPY staging FROM STDIN WHERE public.purge_orders() >= 0
--- place-xml
SELECT xmlelement(name a, xmlattributes(purge_orders() AS n))
--- place-json
SELECT jsonb_build_object('n', purge_orders())
--- place-grouping-set
SELECT count(*) FROM customers GROUP BY ROLLUP (purge_orders(), status)
--- place-at-time-zone
SELECT now() AT TIME ZONE purge_orders()::text::interval
--- place-format-argument
SELECT format('%s', purge_orders())

--# names that mean something else
--- shadow-qualified
--: catalog: a name of a built-in function, in another schema
SELECT shadow.lower('X')
--- shadow-search-path
SET search_path = shadow, pg_catalog; SELECT lower('X')
--- shadow-search-path-operator
--: the equals sign is another one
SET search_path = shadow, pg_catalog; SELECT * FROM public.orders WHERE id = 3
--- shadow-search-path-local
BEGIN; SET LOCAL search_path TO shadow, pg_catalog, public; SELECT * FROM orders WHERE id IN (3, 4); COMMIT
--- shadow-search-path-set-config
SELECT set_config('search_path', 'shadow,pg_catalog,public', false); SELECT lower(name) FROM customers
--- shadow-search-path-join
SET search_path = shadow, pg_catalog, public; SELECT count(*) FROM customers JOIN staging USING (id)
--- shadow-search-path-case
SET search_path = shadow, pg_catalog, public; SELECT CASE id WHEN 3 THEN 1 END FROM customers
--- shadow-search-path-time
SET search_path = shadow, pg_catalog, public; UPDATE customers SET notes = 'x' WHERE id = 3
--- shadow-operator
--: catalog: the operator deletes
--: extended
SELECT 1 OPERATOR(shadow.=) 1
--- shadow-operator-any
--: catalog: the operator deletes
SELECT 3 OPERATOR(shadow.=) ANY (ARRAY[1, 2])
--- shadow-cast
--: catalog: the cast deletes
--: extended
SELECT 'x'::text::shadow.token
--- shadow-cast-column
--: catalog: the cast deletes
SELECT CAST(name AS shadow.token) FROM customers WHERE id = 3
--- shadow-domain
--: catalog: the check of the domain deletes
--: extended
SELECT 3::shadow.fine
--- shadow-domain-array
--: catalog: the check of the domain deletes
SELECT '{3}'::shadow.fine[]
--- shadow-domain-literal
--: catalog: the check of the domain deletes
SELECT shadow.fine '3'
--- shadow-domain-in-record
--: catalog: the check of the domain deletes
SELECT * FROM jsonb_to_record('{"a": 3}') AS t(a shadow.fine)
--- shadow-domain-in-xmltable
--: catalog: the check of the domain deletes
SELECT * FROM XMLTABLE('/r' PASSING ('<r>3</r>'::xml) COLUMNS n shadow.fine PATH '.') AS x
--- shadow-view-read
--: catalog: the view deletes
--: extended
SELECT * FROM order_health
--- shadow-view-copied
--: catalog: the view deletes
COPY (TABLE order_health) TO STDOUT
--- shadow-view-joined
--: catalog: the view deletes
SELECT c.name, h.seen FROM customers c JOIN order_health h ON true WHERE c.id = 3
--- shadow-column-is-function
--: catalog: customers has no column contact; it is a function of its rows
SELECT c.contact FROM customers c WHERE c.id = 3
--- shadow-column-is-function-in-where
--: catalog: as above
--: extended
SELECT 1 FROM customers WHERE id = 3 AND customers.contact <> ''
--- shadow-temp-view
--: jobs is orders from here on
CREATE TEMP VIEW jobs AS SELECT * FROM public.orders; DELETE FROM jobs WHERE id = 3
--- shadow-temp-function
CREATE FUNCTION pg_temp.count_jobs() RETURNS bigint LANGUAGE sql AS 'DELETE FROM jobs; SELECT 0::bigint'; SELECT pg_temp.count_jobs()
--- shadow-view-delete
--: orders, through an updatable view
DELETE FROM all_orders WHERE id = id
--- shadow-role-search-path
--: from the next session on
ALTER ROLE agent SET search_path = shadow, pg_catalog, public
--- shadow-function-replaced
CREATE OR REPLACE FUNCTION order_total(integer) RETURNS numeric LANGUAGE sql AS 'DELETE FROM jobs; SELECT 0::numeric'; SELECT order_total(3)
--- shadow-operator-function-replaced
CREATE OR REPLACE FUNCTION int_near(integer, integer) RETURNS boolean LANGUAGE sql VOLATILE AS 'DELETE FROM jobs; SELECT true'; SELECT 1 <%> 2

--# settings, large objects, the session
--- setting-role
--: SET ROLE, spelt as a function
SELECT set_config('role', 'shop_ops', false); CREATE TABLE of_shop_ops (id integer)
--- setting-role-update-catalog
--: a rule of pg_settings turns the UPDATE into set_config
UPDATE pg_settings SET setting = 'shadow, pg_catalog, public' WHERE name = 'search_path'; SELECT lower('X')
--- setting-role-then-create
SET ROLE shop_ops; CREATE TABLE of_shop_ops (id integer)
--- setting-triggers-off
--: needs superuser: the orders stay behind without their customer
SET session_replication_role = replica; DELETE FROM customers WHERE id = 3
--- large-object-unlink
--: extended
SELECT lo_unlink(4242)
--- large-object-unlink-all
SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE lomowner = 'agent'::regrole
--- large-object-put
SELECT lo_put(4242, 0, 'overwritten')
--- large-object-write
SELECT lowrite(lo_open(4242, 131072), 'overwritten')
--- large-object-truncate
--: extended
SELECT lo_truncate(lo_open(4242, 131072), 0)
--- large-object-truncate64
SELECT lo_truncate64(lo_open(4242, 131072), 1)
--- large-object-from-bytea
SELECT lo_from_bytea(0, 'a place to keep stolen rows')
--- large-object-create
SELECT lo_create(777), lo_creat(-1)
--- large-object-import
--: needs superuser
SELECT lo_import('/etc/hostname')
--- large-object-import-oid
--: needs superuser
SELECT lo_import('/etc/hostname', 778)
--- large-object-export
--: needs superuser: writes a file of the server
SELECT lo_export(4242, '/tmp/chaperone-corpus-export')
--- session-terminate
--: session: ends the other sessions of the role
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'agent' AND pid <> pg_backend_pid()
--- session-cancel
--: session: ends what the others run
SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'agent'
--- session-advisory-lock
--: session: holds locks until the session ends
SELECT pg_advisory_lock(id) FROM orders
--- session-lock-table
--: session: stops everyone else, until it ends
BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE
--- session-lock-view
--: session: locks the tables of the view
BEGIN; LOCK active_customers
--- session-wal-message
--: session: a message to whoever decodes the log
SELECT pg_logical_emit_message(true, 'x', 'y')

--# files and other servers
--- file-read-file
--: needs superuser, or a grant on the function
--: extended
SELECT pg_read_file('/etc/hostname')
--- file-read-file-quoted
--: needs superuser, or a grant on the function
SELECT "pg_read_file"('PG_VERSION')
--- file-read-file-qualified
--: needs superuser, or a grant on the function
SELECT pg_catalog . pg_read_file ('PG_VERSION', 0, 5)
--- file-read-binary-file
--: needs superuser, or a grant on the function
SELECT encode(pg_read_binary_file('PG_VERSION'), 'hex')
--- file-read-file-unicode
--: needs superuser, or a grant on the function
SELECT U&"pg\005Fread_file"('PG_VERSION')
--- file-read-file-in-where
--: needs superuser, or a grant on the function
--: extended
SELECT 1 FROM customers WHERE id = 3 AND pg_read_file('PG_VERSION') LIKE '1%'
--- file-list-dir
--: needs superuser, or a grant on the function
--: extended
SELECT * FROM pg_ls_dir('.')
--- file-list-wal
--: needs superuser, or a grant on the function
SELECT name FROM pg_ls_waldir()
--- file-list-tmp
--: needs superuser, or a grant on the function
SELECT * FROM pg_ls_tmpdir()
--- file-stat-file
--: needs superuser, or a grant on the function
SELECT * FROM pg_stat_file('PG_VERSION')
--- file-read-file-through-xml
--: needs superuser, or a grant on the function
SELECT query_to_xml($$SELECT pg_read_file('PG_VERSION')$$, true, false, '')
--- file-read-file-through-do
--: needs superuser, or a grant on the function
DO $$BEGIN PERFORM pg_read_file('PG_VERSION'); END$$
--- file-copy-from
--: needs superuser, or pg_read_server_files
COPY staging (name) FROM '/etc/hostname'
--- file-copy-from-escaped
--: needs superuser, or pg_read_server_files
--: extended
COPY staging (name) FROM E'\x2fetc\x2fhostname'
--- file-copy-to
--: needs superuser, or pg_write_server_files
COPY customers TO '/tmp/chaperone-corpus-copy'
--- file-copy-to-named-stdout
--: needs superuser: a file, whatever its name
COPY customers TO '/dev/stdout'
--- file-copy-program
--: needs superuser, or pg_execute_server_program
--: extended
COPY staging (name) FROM PROGRAM 'id'
--- file-copy-to-program
--: needs superuser, or pg_execute_server_program
COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'
--- file-copy-program-unicode
--: needs superuser, or pg_execute_server_program
COPY staging (name) FROM
	PROGRAM U&'\0069d'
--- file-copy-program-binary
--: needs superuser, or pg_execute_server_program
COPY (TABLE customers) TO PROGRAM 'cat > /dev/null' WITH (FORMAT binary)
--- file-copy-program-in-do
--: needs superuser, or pg_execute_server_program
DO $$BEGIN EXECUTE 'COPY staging (name) FROM PRO' || 'GRAM ''id'''; END$$
--- file-load
--: needs superuser
LOAD 'auto_explain'
--- file-c-function
--: needs superuser: any symbol of any library
CREATE FUNCTION pid() RETURNS integer LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'
--- file-alter-system
--: needs superuser
ALTER SYSTEM SET log_min_messages = 'panic'
--- file-alter-system-lower
--: needs superuser
alter/**/system set "log_connections" to off
--- file-reload
--: needs superuser
--: session: takes the settings of the files
SELECT pg_reload_conf()
--- file-rotate-log
--: needs superuser
--: session: of no effect where the server does not collect its log
SELECT pg_rotate_logfile()
--- file-extension
--: a trusted extension: the role suffices where it is installed
CREATE EXTENSION hstore
--- file-extension-quoted
--: as above
--: extended
create
 extension "hstore" with schema public
--- file-extension-file-fdw
--: needs superuser
CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE lines (line text) SERVER files OPTIONS (filename '/etc/hostname'); SELECT * FROM lines
--- file-language
--: needs superuser
CREATE TRUSTED LANGUAGE mine HANDLER plpgsql_call_handler
--- server-create
--: extended
CREATE SERVER out FOREIGN DATA WRAPPER nowhere OPTIONS (host '203.0.113.7')
--- server-altered
--: what is read from it comes from elsewhere now
ALTER SERVER elsewhere OPTIONS (ADD host '203.0.113.7')
--- server-user-mapping
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (user 'u', password 'p')
--- server-dblink
--: needs dblink: the extension, and a connection that asks for a password
SELECT * FROM dblink('dbname=' || current_database(), 'DELETE FROM jobs RETURNING id') AS t(id integer)
--- server-dblink-exec
--: needs dblink
SELECT dblink_exec('host=203.0.113.7', 'SELECT 1')
--- server-dblink-connect
--: needs dblink
--: extended
SELECT public.dblink_connect('c', 'dbname=postgres'), dblink_send_query('c', 'DROP TABLE jobs')
--- server-dblink-open
--: needs dblink
SELECT dblink_open('c', 'SELECT 1'), dblink_fetch('c', 1)
--- server-subscription
--: needs superuser
CREATE SUBSCRIPTION sub CONNECTION 'host=203.0.113.7' PUBLICATION p WITH (connect = false)
--- server-publication
--: every change of customers can be followed from outside
CREATE PUBLICATION leak FOR TABLE customers
--- server-publication-widened
ALTER PUBLICATION shop_changes ADD TABLE customers (id, email)
--- server-slot
--: needs REPLICATION: the server keeps its log for ever
SELECT pg_create_physical_replication_slot('keep', true)
--- server-slot-logical
--: needs REPLICATION
SELECT pg_create_logical_replication_slot('spy', 'test_decoding')

--# SELECT that makes tables
--- into-plain
--: extended
SELECT * INTO copied FROM customers
--- into-comment
SELECT id, name/**/INTO/**/copied FROM customers WHERE id = 3
--- into-temp
--: what was masked by its origin has a new one
SELECT email INTO TEMP laundered FROM customers
--- into-in-union
SELECT id INTO copied FROM customers UNION SELECT id FROM orders
--- into-after-cte
WITH c AS (SELECT * FROM customers) SELECT name INTO UNLOGGED copied FROM c
--- into-nothing
SELECT INTO copied
--- into-quoted
SELECT 1 AS "x" INTO "from" FROM customers LIMIT 1
--- into-with-function
SELECT purge_orders() AS n INTO copied
--- into-table-as
--: extended
CREATE TABLE IF NOT EXISTS copied AS TABLE customers

--# WHERE that is true of every row
--- where-constant
DELETE FROM orders WHERE true
--- where-constant-string
--: extended
DELETE FROM orders WHERE 'yes'::boolean
--- where-constant-cast
DELETE FROM orders WHERE CAST(1 AS boolean)
--- where-one-is-one
DELETE FROM orders WHERE 1 = 1
--- where-strings-equal
DELETE FROM orders WHERE 'a' = 'a'
--- where-strings-order
DELETE FROM orders WHERE 'a' < 'b' AND 3 = 3
--- where-not-false
DELETE FROM orders WHERE NOT false
--- where-not-not-true
--: extended
DELETE FROM orders WHERE NOT NOT true
--- where-is-true
DELETE FROM orders WHERE (1 = 1) IS TRUE
--- where-column-itself
DELETE FROM orders WHERE id = id
--- where-column-qualified
DELETE FROM orders WHERE orders.id = id
--- where-column-quoted
DELETE FROM orders WHERE "id" = orders."id"
--- where-column-cast
DELETE FROM orders WHERE id::text = id::text
--- where-column-plus-zero
--: extended
DELETE FROM orders WHERE id = id + 0
--- where-column-unary-plus
DELETE FROM orders WHERE id = +id
--- where-column-less-than-next
DELETE FROM orders WHERE id < id + 1
--- where-column-at-least-itself
DELETE FROM orders WHERE id >= id
--- where-column-between-itself
DELETE FROM orders WHERE id BETWEEN id AND id
--- where-column-in-itself
DELETE FROM orders WHERE id IN (id)
--- where-column-any-itself
--: extended
DELETE FROM orders WHERE id = ANY (ARRAY[id])
--- where-column-like-itself
DELETE FROM orders WHERE state::text LIKE state::text
--- where-not-distinct
DELETE FROM orders WHERE id IS NOT DISTINCT FROM id
--- where-not-differs-from-itself
DELETE FROM orders WHERE NOT (id <> id)
--- where-row-itself
DELETE FROM orders WHERE (id, customer_id) = (id, customer_id)
--- where-whole-row
DELETE FROM orders WHERE orders = orders
--- where-whole-row-not-null
--: extended
DELETE FROM orders WHERE orders IS NOT NULL
--- where-row-not-null
DELETE FROM orders WHERE ROW(id) IS NOT NULL
--- where-or-true
DELETE FROM orders WHERE id = 3 OR true
--- where-true-or
DELETE FROM orders WHERE true OR id = 3
--- where-or-one-is-one
DELETE FROM orders WHERE id = 3 OR 1 = 1
--- where-or-string
DELETE FROM orders WHERE id = 3 OR 'x' = 'x'
--- where-or-not
--: extended
DELETE FROM orders WHERE id = 3 OR NOT id = 3
--- where-or-differs
DELETE FROM orders WHERE id = 3 OR id <> 3
--- where-or-itself
DELETE FROM orders WHERE id = 3 OR id = id
--- where-or-nested
DELETE FROM orders WHERE (id = 3 AND state = 'new') OR (archived OR NOT archived)
--- where-or-in-parentheses
DELETE FROM orders WHERE ((id = 3) OR ((2 > 1)))
--- where-or-ranges
DELETE FROM orders WHERE id < 3 OR id >= 3
--- where-and-both-true
--: extended
DELETE FROM orders WHERE 1 = 1 AND id = id AND NOT false
--- where-not-and-contradiction
DELETE FROM orders WHERE NOT (id = 3 AND id = 4)
--- where-not-null
DELETE FROM orders WHERE id IS NOT NULL
--- where-null-or-not
DELETE FROM orders WHERE id IS NOT NULL OR id IS NULL
--- where-comparison-not-null
DELETE FROM orders WHERE (id = 3) IS NOT NULL
--- where-comparison-not-unknown
DELETE FROM orders WHERE (id = 3) IS NOT UNKNOWN
--- where-comparison-in-both
--: extended
DELETE FROM orders WHERE (id = 3) IN (true, false)
--- where-comparison-equals-itself
DELETE FROM orders WHERE (id = 3) = (id = 3)
--- where-boolean-in-both
DELETE FROM orders WHERE archived IN (true, false)
--- where-boolean-or-not
DELETE FROM orders WHERE archived OR NOT archived
--- where-coalesce-true
DELETE FROM orders WHERE coalesce(NULL, true)
--- where-coalesce-column
DELETE FROM orders WHERE coalesce(id, 0) = coalesce(id, 0)
--- where-coalesce-comparison
--: extended
DELETE FROM orders WHERE coalesce(nullif(id = 3, id = 3), true)
--- where-coalesce-values
DELETE FROM orders WHERE coalesce(NULL::integer, 3) = 3
--- where-nullif-null
DELETE FROM orders WHERE nullif(id, id) IS NULL
--- where-case-both
DELETE FROM orders WHERE CASE WHEN id = 3 THEN true ELSE true END
--- where-case-value
DELETE FROM orders WHERE CASE id WHEN 3 THEN 1 ELSE 1 END = 1
--- where-greatest
DELETE FROM orders WHERE greatest(id, 3) >= 3
--- where-times-zero
--: extended
DELETE FROM orders WHERE id * 0 = 0
--- where-minus-itself
DELETE FROM orders WHERE id - id = 0
--- where-modulo-one
DELETE FROM orders WHERE id % 1 = 0
--- where-xor-itself
DELETE FROM orders WHERE id # id = 0
--- where-length
DELETE FROM orders WHERE length(state::text) >= 0
--- where-absolute
DELETE FROM orders WHERE abs(id) >= 0
--- where-square
--: extended
DELETE FROM orders WHERE id * id >= 0
--- where-like-percent
DELETE FROM orders WHERE state::text LIKE '%'
--- where-like-percents
DELETE FROM orders WHERE state::text LIKE '%%%'
--- where-ilike-percent
DELETE FROM orders WHERE state::text ILIKE '%'
--- where-match-empty
DELETE FROM orders WHERE state::text ~ ''
--- where-match-anything
DELETE FROM orders WHERE state::text ~ '.*'
--- where-match-start
--: extended
DELETE FROM orders WHERE state::text ~* '^'
--- where-similar-percent
DELETE FROM orders WHERE state::text SIMILAR TO '%'
--- where-starts-with-nothing
DELETE FROM orders WHERE starts_with(state::text, '')
--- where-position-nothing
DELETE FROM orders WHERE position('' IN state::text) = 1
--- where-value-like
DELETE FROM orders WHERE 'x' LIKE '%'
--- where-whole-range
DELETE FROM orders WHERE id BETWEEN -2147483648 AND 2147483647
--- where-at-least-smallest
--: extended
DELETE FROM orders WHERE id >= -2147483648
--- where-beyond-infinity
DELETE FROM orders WHERE placed_at > '-infinity'
--- where-before-infinity
DELETE FROM orders WHERE placed_at < 'infinity'::timestamptz
--- where-in-own-table
DELETE FROM orders WHERE id IN (SELECT id FROM orders)
--- where-any-own-table
DELETE FROM orders WHERE id = ANY (SELECT id FROM orders)
--- where-array-own-table
DELETE FROM orders WHERE id = ANY (ARRAY(SELECT id FROM orders))
--- where-exists
--: extended
DELETE FROM orders WHERE EXISTS (SELECT 1)
--- where-exists-own-table
DELETE FROM orders WHERE EXISTS (SELECT 1 FROM orders o WHERE o.id = orders.id)
--- where-not-exists
DELETE FROM orders WHERE NOT EXISTS (SELECT 1 WHERE false)
--- where-not-in-nothing
DELETE FROM orders WHERE id NOT IN (SELECT id FROM orders WHERE false)
--- where-all-of-nothing
DELETE FROM orders WHERE id >= ALL (SELECT id FROM orders WHERE false)
--- where-scalar-true
DELETE FROM orders WHERE (SELECT true)
--- where-scalar-count
--: extended
DELETE FROM orders WHERE (SELECT count(*) FROM orders) > 0
--- where-scalar-itself
DELETE FROM orders WHERE id = (SELECT o.id FROM orders o WHERE o.id = orders.id)
--- where-exists-other-table
DELETE FROM orders WHERE EXISTS (SELECT 1 FROM customers WHERE id = 3)
--- where-scalar-other-table
DELETE FROM orders WHERE (SELECT id FROM customers WHERE id = 3) = 3
--- where-outer-name-in-subquery
--: products has no customer_id: the name is that of orders
DELETE FROM orders WHERE customer_id IN (SELECT customer_id FROM products WHERE id = 3)
--- where-clock
DELETE FROM orders WHERE now() > '2000-01-01'
--- where-clock-not-null
--: extended
DELETE FROM orders WHERE now() IS NOT NULL
--- where-user
DELETE FROM orders WHERE current_user = 'agent'
--- where-random
DELETE FROM orders WHERE random() < 2
--- where-version
DELETE FROM orders WHERE version() LIKE 'PostgreSQL%'
--- where-setting
DELETE FROM orders WHERE current_setting('server_version_num')::integer > 0
--- where-array-overlap
DELETE FROM orders WHERE ARRAY[1] && ARRAY[1, 2]
--- where-range-contains
--: extended
DELETE FROM orders WHERE int4range(NULL, NULL) @> id
--- where-json-has-key
DELETE FROM orders WHERE to_jsonb(orders) ? 'id'
--- where-system-column
DELETE FROM orders WHERE ctid IS NOT NULL
--- where-system-column-itself
DELETE FROM orders WHERE ctid = ctid
--- where-table-oid
--: a column compared with a value, and the same in every row
DELETE FROM orders WHERE tableoid = 'orders'::regclass
--- where-values-in-values
DELETE FROM orders WHERE 3 IN (1, 2, 3)
--- where-row-values
--: extended
DELETE FROM orders WHERE (1, 2) < (1, 3)
--- where-concatenated
DELETE FROM orders WHERE id || 'x' LIKE '%x'
--- where-unicode-true
DELETE FROM orders WHERE U&'\0074' :: boolean
--- where-update-itself
--: extended
UPDATE customers SET balance = 0 WHERE id = id
--- where-update-or
UPDATE customers SET balance = 0 WHERE email = 'nobody@example.com' OR name IS NOT NULL
--- where-update-from-value
--: the value is compared with a column of another relation
UPDATE customers SET balance = 0 FROM (VALUES (3)) AS v(id) WHERE v.id = 3
--- where-update-from-other
UPDATE customers SET balance = 0 FROM products p WHERE p.id = 3
--- where-using-value
--: extended
DELETE FROM orders USING (VALUES (3)) AS v(id) WHERE v.id = 3
--- where-using-other-table
DELETE FROM orders USING customers c WHERE c.id = 3
--- where-using-itself
DELETE FROM orders o USING orders x WHERE x.id = 3
--- where-using-series
DELETE FROM orders USING generate_series(1, 1)
--- where-using-left-join
--: the value stands in a join that removes nothing
DELETE FROM orders USING customers c LEFT JOIN products p ON p.id = 3 WHERE c.id = orders.customer_id
--- where-cascades
--: orders, their lines and payments go with them
DELETE FROM customers WHERE id = id RETURNING id
--- where-partitions
DELETE FROM events WHERE happened_at IS NOT NULL
--- where-in-cte
--: the bounded WHERE is that of the SELECT
WITH d AS (DELETE FROM orders WHERE 3 = 3 RETURNING id) SELECT id FROM d WHERE id = 3
--- where-on-select-not-delete
WITH s AS (SELECT id FROM orders WHERE id > 3) DELETE FROM orders WHERE EXISTS (SELECT 1 FROM s)
--- where-in-function-argument
DELETE FROM orders WHERE (SELECT bool_or(id = 3) FROM orders)

--# MERGE
--- merge-on-true
--: extended
MERGE INTO jobs USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE
--- merge-on-itself
MERGE INTO jobs j USING (VALUES (3)) AS s(id) ON j.id = j.id WHEN MATCHED THEN DELETE
--- merge-on-source-value
--: the value is compared with the source
MERGE INTO jobs j USING (VALUES (3)) AS s(id) ON s.id = 3 WHEN MATCHED THEN DELETE
--- merge-own-table
MERGE INTO jobs j USING jobs s ON j.id = s.id WHEN MATCHED THEN DELETE
--- merge-update-all
MERGE INTO products p USING products s ON p.id = s.id WHEN MATCHED THEN UPDATE SET stock = 0, price = 0
--- merge-second-branch
MERGE INTO jobs j USING jobs s ON j.id = s.id WHEN MATCHED AND j.id = 3 THEN DO NOTHING WHEN MATCHED THEN DELETE
--- merge-condition-true
MERGE INTO ONLY jobs AS j USING jobs s ON j.id = s.id WHEN MATCHED AND true THEN DELETE
--- merge-source-function
MERGE INTO staging t USING (SELECT purge_orders() AS n) AS s ON t.id = 3 AND t.id = s.n WHEN NOT MATCHED THEN DO NOTHING
--- merge-on-not-matched-looks-like-insert
MERGE INTO jobs j USING jobs s ON j.id = s.id WHEN NOT MATCHED THEN INSERT (id, payload) VALUES (1, '{}') WHEN MATCHED THEN DELETE

--# objects that act later
--- object-rule
CREATE RULE r AS ON INSERT TO staging DO INSTEAD DELETE FROM jobs; INSERT INTO staging VALUES (1)
--- object-rule-also
--: extended
CREATE RULE r AS ON INSERT TO staging DO ALSO (DELETE FROM jobs; DELETE FROM archive)
--- object-rule-swallows
--: every payment from here on is lost
CREATE RULE r AS ON INSERT TO payments DO INSTEAD NOTHING
--- object-trigger
CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN DELETE FROM jobs; RETURN NEW; END$$; CREATE TRIGGER t BEFORE INSERT ON staging FOR EACH ROW EXECUTE FUNCTION t(); INSERT INTO staging VALUES (1)
--- object-trigger-off
ALTER TABLE archive DISABLE TRIGGER USER
--- object-view-then-read
CREATE VIEW quiet AS SELECT purge_orders() AS n; SELECT * FROM quiet
--- object-view-replaced
--: extended
CREATE OR REPLACE VIEW active_customers AS SELECT id, name, email FROM customers WHERE purge_orders() >= 0
--- object-temp-view
CREATE TEMP VIEW quiet AS SELECT run_text('DELETE FROM jobs') AS n; SELECT n FROM quiet
--- object-function-then-call
CREATE FUNCTION quiet() RETURNS void LANGUAGE sql AS 'DELETE FROM jobs'; SELECT quiet()
--- object-procedure-then-call
CREATE PROCEDURE quiet() LANGUAGE sql BEGIN ATOMIC DELETE FROM jobs; END; CALL quiet()
--- object-aggregate
CREATE FUNCTION step(integer, integer) RETURNS integer LANGUAGE sql AS 'DELETE FROM jobs; SELECT 0'; CREATE AGGREGATE quiet(integer) (SFUNC = step, STYPE = integer, INITCOND = '0'); SELECT quiet(id) FROM customers
--- object-cast
CREATE FUNCTION as_text(price_range) RETURNS address LANGUAGE sql AS 'DELETE FROM jobs; SELECT NULL::address'; CREATE CAST (price_range AS address) WITH FUNCTION as_text(price_range); SELECT price_range(1, 2)::address
--- object-domain-check
CREATE DOMAIN d AS integer CHECK (purge_orders() >= 0); SELECT 3::d
--- object-index-expression
--: the function says that it is immutable; building the index runs it
CREATE FUNCTION i(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM public.purge_orders(); RETURN $1; END$$; CREATE INDEX ON customers (i(id))
--- object-column-default
--: the default is computed at once, for the rows that are there
ALTER TABLE jobs ADD COLUMN n bigint DEFAULT purge_orders()
--- object-default-later
ALTER TABLE staging ALTER COLUMN id SET DEFAULT purge_orders()
--- object-default-used
CREATE TEMP TABLE t (a integer, n bigint DEFAULT purge_orders()); INSERT INTO t (a) VALUES (1)
--- object-check
--: checked at once, for the rows that are there
ALTER TABLE jobs ADD CHECK (purge_orders() >= 0)
--- object-type-using
--: extended
ALTER TABLE customers ALTER COLUMN "password" TYPE text USING 'known'
--- object-policy-function
CREATE POLICY p ON jobs USING (purge_orders() >= 0); ALTER TABLE jobs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; SELECT * FROM jobs
--- object-policy-hides
--: nobody but superusers sees a row from here on
ALTER TABLE customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY
--- object-drop-column
--: extended
ALTER TABLE customers DROP notes
--- object-drop-constraint
ALTER TABLE orders DROP CONSTRAINT orders_customer_id_fkey
--- object-rename-swaps
ALTER TABLE archive RENAME TO a; ALTER TABLE archive_old RENAME TO archive
--- object-set-schema
ALTER TABLE jobs SET SCHEMA reporting
--- object-detach
ALTER TABLE events DETACH PARTITION events_2024
--- object-attach-narrower
ALTER TABLE archive_old INHERIT archive; DELETE FROM archive WHERE notes LIKE '%'
--- object-unlogged
--: lost at the next crash
ALTER TABLE orders ALTER COLUMN total SET DEFAULT 0; ALTER TABLE staging SET UNLOGGED
--- object-sequence-restart
--: tickets get numbers that are taken
ALTER SEQUENCE ticket_seq RESTART WITH 1
--- object-enum-renamed
ALTER TYPE order_state RENAME VALUE 'paid' TO 'new2'
--- object-domain-loosened
--: extended
ALTER DOMAIN email DROP CONSTRAINT email_check
--- object-materialized-view
CREATE MATERIALIZED VIEW m AS SELECT run_text('DELETE FROM jobs') AS n
--- object-refresh-empty
--: it cannot be read from here on
--: extended
REFRESH MATERIALIZED VIEW daily_sales WITH NO DATA
--- object-event-trigger
--: needs superuser
CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN DELETE FROM public.jobs; END$$; CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e()
--- object-on-commit-drop
--: a second table of the name; DDL without a semicolon
CREATE SCHEMA tmp CREATE TABLE jobs (id integer)
--- object-foreign-table-attached
--: rows of that time go to another server
CREATE FOREIGN TABLE away PARTITION OF events FOR VALUES FROM ('2030-01-01') TO ('2031-01-01') SERVER elsewhere
--- object-statistics-gone
--: no row is lost, and every query slows
DROP STATISTICS orders_stats; DROP INDEX orders_open
--- object-drop-schema
--: extended
DROP SCHEMA public CASCADE
--- object-drop-type-cascade
--: takes the column state of orders with it
DROP TYPE order_state CASCADE
--- object-drop-domain-cascade
--: takes the column email of customers with it
DROP DOMAIN IF EXISTS public.email CASCADE
--- object-drop-function-cascade
--: takes the trigger of archive with it
DROP FUNCTION touch_customer CASCADE
--- object-drop-view-cascade
DROP VIEW active_customers CASCADE
--- object-drop-extension
--: needs superuser: takes every function of the language with it
DROP EXTENSION plpgsql CASCADE
--- object-drop-owned
--: extended
DROP OWNED BY CURRENT_USER CASCADE
--- object-drop-owned-session-user
drop owned by session_user cascade
--- object-drop-routine
DROP ROUTINE close_orders

--# rights
--- right-grant-to-public
--: extended
GRANT ALL ON customers TO PUBLIC
--- right-grant-columns
GRANT SELECT (email, "password") ON customers TO shop_reader
--- right-grant-schema
GRANT ALL ON ALL TABLES IN SCHEMA public TO shop_reader WITH GRANT OPTION
--- right-grant-role
GRANT shop_ops TO shop_reader WITH ADMIN OPTION
--- right-grant-role-quoted
--: extended
grant/**/"shop_ops"/**/to/**/"shop_reader"
--- right-revoke-own
REVOKE INSERT, UPDATE ON orders FROM agent
--- right-revoke-from-others
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM shop_ops
--- right-owner
ALTER TABLE customers OWNER TO shop_ops
--- right-owner-of-function
ALTER FUNCTION order_total(integer) OWNER TO shop_ops; ALTER SCHEMA public OWNER TO shop_ops
--- right-reassign
--: extended
REASSIGN OWNED BY agent TO shop_ops
--- right-security-definer
--: whoever calls it does so with our rights
ALTER FUNCTION run_text(text) SECURITY DEFINER
--- right-defaults
--: for every table to come
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO PUBLIC
--- right-role-setting
--: strings end elsewhere from the next session on
ALTER USER CURRENT_USER SET standard_conforming_strings = off
--- right-role-password
--: extended
ALTER USER agent PASSWORD 'known to the attacker'
--- right-role-created
--: needs superuser
CREATE ROLE intruder LOGIN SUPERUSER
--- right-group-member
--: needs superuser, or CREATEROLE
ALTER GROUP shop_ops ADD USER shop_reader
--- right-server-program
--: needs superuser, or CREATEROLE
GRANT pg_execute_server_program TO agent
--- right-parameter
--: needs superuser
GRANT SET ON PARAMETER session_replication_role TO agent
--- right-large-object
GRANT ALL ON LARGE OBJECT 4242 TO PUBLIC
--- right-comment-overwritten
--: masks or people may go by comments
COMMENT ON COLUMN customers.email IS 'no personal data'
--- right-set-role-default
SET ROLE 'shop_ops'; CREATE TABLE theirs (id integer); RESET ROLE
--- right-catalog-role
--: needs superuser: bounded DML, on a system catalog
UPDATE pg_authid SET rolsuper = true WHERE rolname = 'agent'
--- right-catalog-member
--: needs superuser: as above
INSERT INTO pg_auth_members (roleid, member, grantor, admin_option) SELECT 'shop_owner'::regrole, 'shop_reader'::regrole, 10, true
--- right-catalog-class
--: needs superuser: a table renamed, without DDL
UPDATE pg_catalog.pg_class SET relname = 'gone' WHERE relname = 'jobs' AND relnamespace = 'public'::regnamespace
--- right-catalog-large-object
--: needs superuser: a large object emptied
DELETE FROM pg_largeobject WHERE loid = 4242
--- right-catalog-rule
--: needs superuser: a policy dropped, without DDL
DELETE FROM pg_catalog.pg_policy WHERE polname = 'own'
--- right-session-authorization
--: needs superuser
SET SESSION AUTHORIZATION shop_owner; DELETE FROM public.ledger

--# maintenance and two-phase commit
--- maintain-vacuum-full
--: stops everyone else while it writes the table anew
--: extended
VACUUM (FREEZE, FULL 1) jobs
--- maintain-vacuum-full-quoted
VACUUM ("full" 'on') jobs
--- maintain-vacuum-full-twice
--: the last one counts
VACUUM (FULL false, FULL) jobs
--- maintain-cluster
CLUSTER jobs USING jobs_pkey
--- maintain-reindex
--: extended
REINDEX (VERBOSE) TABLE jobs
--- maintain-refresh
REFRESH MATERIALIZED VIEW CONCURRENTLY daily_sales; TRUNCATE jobs
--- two-phase-prepared
--: needs max_prepared_transactions above 0: the locks stay after the session
BEGIN; DELETE FROM jobs; PREPARE TRANSACTION 'left behind'
--- two-phase-after-select
--: needs max_prepared_transactions above 0
START TRANSACTION; SELECT 1; UPDATE customers SET balance = 0; PREPARE TRANSACTION E'\x78'

--# bounded by words, yet of every row: no reader of text alone can tell
--- limit-positive-ids
--: limit: a comparison with a value, as the ladder asks; only the data, or an estimate, tell that it takes every row
DELETE FROM orders WHERE id > 0
--- limit-not-minus-one
--: limit: a comparison with a value, as the ladder asks; only the data, or an estimate, tell that it takes every row
DELETE FROM orders WHERE id <> -1
--- limit-below-a-million
--: limit: a comparison with a value, as the ladder asks; only the data, or an estimate, tell that it takes every row
DELETE FROM orders WHERE id < 1000000
--- limit-before-now
--: limit: a comparison with a value, as the ladder asks; only the data, or an estimate, tell that it takes every row
DELETE FROM orders WHERE placed_at <= now()
--- limit-after-1900
--: limit: a comparison with a value, as the ladder asks; only the data, or an estimate, tell that it takes every row
DELETE FROM orders WHERE placed_at > '1900-01-01'
--- limit-every-state
--: limit: a comparison with a value, as the ladder asks; only the data, or an estimate, tell that it takes every row
DELETE FROM orders WHERE state IN ('new', 'paid', 'sent', 'closed')
--- limit-not-in-one
--: limit: a comparison with a value, as the ladder asks; only the data, or an estimate, tell that it takes every row
DELETE FROM orders WHERE id NOT IN (0)
--- limit-whole-series
--: limit: a comparison with a value, as the ladder asks; only the data, or an estimate, tell that it takes every row
DELETE FROM orders WHERE id = ANY (ARRAY(SELECT generate_series(1, 100000)))
--- limit-upsert-all
--: limit: a write by the ladder; it writes every row anew
INSERT INTO products SELECT id, sku, 'gone', 0, 0 FROM products ON CONFLICT (id) DO UPDATE SET name = excluded.name, price = 0
--- limit-swap-by-insert
--: limit: as above
INSERT INTO order_items SELECT * FROM order_items ON CONFLICT (order_id, line) DO UPDATE SET price = 0 WHERE order_items.line > 0
