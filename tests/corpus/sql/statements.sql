--# SELECT and its clauses
--- read SELECT
SELECT 1
--- read SELECT
SELECT;
--- read SELECT
SELECT * FROM customers
--- read SELECT
SELECT id, name AS "the name", balance * 2 AS doubled FROM customers WHERE id = 7
--- read SELECT
SELECT ALL name FROM public.customers c WHERE c.status = 'active' AND c.balance > 50 ORDER BY name LIMIT 5 OFFSET 2
--- read SELECT
SELECT DISTINCT state FROM orders
--- read SELECT
SELECT DISTINCT ON (customer_id) customer_id, id, placed_at FROM orders ORDER BY customer_id, placed_at DESC
--- read SELECT
SELECT name FROM customers ORDER BY balance DESC NULLS LAST, name COLLATE "C" ASC NULLS FIRST
--- read SELECT
SELECT name FROM customers ORDER BY name USING <
--- read SELECT
SELECT name FROM customers ORDER BY balance FETCH FIRST 3 ROWS ONLY
--- read SELECT
SELECT name FROM customers ORDER BY balance OFFSET 1 ROW FETCH NEXT ROW WITH TIES
--- read SELECT
SELECT customer_id, count(*), sum(total), avg(total)::numeric(10,2) FROM orders GROUP BY customer_id HAVING count(*) > 2
--- read SELECT
SELECT customer_id, state, sum(total) FROM orders GROUP BY GROUPING SETS ((customer_id, state), (customer_id), ())
--- read SELECT
SELECT state, archived, grouping(state, archived), count(*) FROM orders GROUP BY ROLLUP (state, archived)
--- read SELECT
SELECT state, archived, count(*) FROM orders GROUP BY DISTINCT CUBE (state, archived), ROLLUP (state)
--- read SELECT
SELECT count(*) FILTER (WHERE state = 'new') AS fresh, count(DISTINCT customer_id) FROM orders
--- read SELECT
SELECT string_agg(name, ', ' ORDER BY name), array_agg(id ORDER BY id DESC) FROM customers
--- read SELECT
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total), mode() WITHIN GROUP (ORDER BY state) FROM orders
--- read SELECT
SELECT rank(30) WITHIN GROUP (ORDER BY total) FROM orders
--- read SELECT
SELECT id, row_number() OVER (PARTITION BY customer_id ORDER BY placed_at), lag(total) OVER w, lead(total, 2, 0) OVER w FROM orders WINDOW w AS (ORDER BY placed_at)
--- read SELECT
SELECT id, sum(total) OVER (ORDER BY id ROWS BETWEEN 3 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM orders
--- read SELECT
SELECT id, avg(total) OVER (ORDER BY placed_at RANGE BETWEEN '7 days' PRECEDING AND '1 day' FOLLOWING), ntile(4) OVER (ORDER BY id), first_value(id) OVER w, nth_value(id, 2) OVER w FROM orders WINDOW w AS (ORDER BY id GROUPS UNBOUNDED PRECEDING)
--- read SELECT
SELECT rank() OVER w, dense_rank() OVER w, percent_rank() OVER w, cume_dist() OVER w FROM employees WINDOW w AS (ORDER BY salary)
--- read SELECT
SELECT c.name, o.id FROM customers c JOIN orders o ON o.customer_id = c.id
--- read SELECT
SELECT c.name, o.id FROM customers c LEFT OUTER JOIN orders o ON o.customer_id = c.id AND o.state = 'new' WHERE o.id IS NULL
--- read SELECT
SELECT * FROM products p RIGHT JOIN order_items i ON i.product_id = p.id
--- read SELECT
SELECT coalesce(a.id, b.id) FROM customers a FULL JOIN employees b USING (id)
--- read SELECT
SELECT * FROM customers NATURAL JOIN staging
--- read SELECT
SELECT joined.id FROM customers JOIN staging USING (id) AS joined
--- read SELECT
SELECT a.id, b.id FROM customers AS a CROSS JOIN products AS b LIMIT 4
--- read SELECT
SELECT c.name, last.id FROM customers c, LATERAL (SELECT id FROM orders o WHERE o.customer_id = c.id ORDER BY placed_at DESC LIMIT 1) AS last
--- read SELECT
SELECT c.name, t.tag, t.n FROM customers c LEFT JOIN LATERAL unnest(c.tags) WITH ORDINALITY AS t(tag, n) ON true
--- read SELECT
SELECT * FROM generate_series(1, 10, 3) AS g(n)
--- read SELECT
SELECT * FROM ROWS FROM (generate_series(1, 2), unnest(ARRAY['a', 'b', 'c'])) WITH ORDINALITY AS t(n, s, o)
--- read SELECT
SELECT * FROM jsonb_to_recordset('[{"a":1,"b":"x"},{"a":2}]') AS t(a integer, b text)
--- read SELECT
SELECT * FROM (VALUES (1, 'one'), (2, 'two')) AS v(n, word) WHERE n > 1
--- read SELECT
SELECT id FROM ONLY events
--- read SELECT
SELECT count(*) FROM events *
--- read SELECT
SELECT * FROM orders TABLESAMPLE BERNOULLI (50) REPEATABLE (42)
--- read SELECT
SELECT id FROM orders TABLESAMPLE SYSTEM (10)
--- read SELECT
SELECT id FROM customers UNION SELECT id FROM employees
--- read SELECT
SELECT id FROM customers UNION ALL SELECT id FROM employees ORDER BY 1 LIMIT 3
--- read SELECT
(SELECT id FROM customers EXCEPT ALL SELECT customer_id FROM orders) INTERSECT SELECT id FROM products
--- read SELECT
SELECT name FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE total > 100)
--- read SELECT
SELECT name FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id) AND NOT EXISTS (SELECT FROM employees e WHERE e.id = c.id)
--- read SELECT
SELECT name FROM products WHERE price > ALL (SELECT price FROM order_items WHERE line = 1) OR stock = ANY (ARRAY[10, 20])
--- read SELECT
SELECT (SELECT max(total) FROM orders), ARRAY(SELECT id FROM products ORDER BY id)
--- read SELECT
WITH big AS (SELECT * FROM orders WHERE total > 100) SELECT count(*) FROM big
--- read SELECT
WITH a AS MATERIALIZED (SELECT 1 AS x), b AS NOT MATERIALIZED (SELECT x + 1 AS y FROM a) SELECT * FROM a, b
--- read SELECT
WITH RECURSIVE chain AS (SELECT id, name, 1 AS depth FROM employees WHERE manager_id IS NULL UNION ALL SELECT e.id, e.name, depth + 1 FROM employees e JOIN chain c ON e.manager_id = c.id) SELECT * FROM chain
--- read SELECT
WITH RECURSIVE tree(id, parent) AS (SELECT id, parent FROM products WHERE id = 1 UNION SELECT p.id, p.parent FROM products p, tree t WHERE p.parent = t.id) SEARCH DEPTH FIRST BY id SET ordering CYCLE id SET looped USING path SELECT id FROM tree ORDER BY ordering
--- read SELECT
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 100) SELECT sum(n) FROM t
--- read SELECT
SELECT CASE WHEN balance > 100 THEN 'rich' WHEN balance > 50 THEN 'well' ELSE 'poor' END, CASE status WHEN 'active' THEN 1 ELSE 0 END FROM customers
--- read SELECT
SELECT coalesce(notes, 'none'), nullif(status, 'closed'), greatest(id, 3), least(id, 3) FROM customers
--- read SELECT
SELECT name FROM customers WHERE name LIKE 'Cust%' AND name NOT ILIKE '%9' AND email ~* 'example' AND name SIMILAR TO '%(1|2)%' ESCAPE '!'
--- read SELECT
SELECT id FROM orders WHERE placed_at BETWEEN '2024-02-01' AND '2024-03-01' AND total NOT BETWEEN SYMMETRIC 90 AND 10
--- read SELECT
SELECT id FROM customers WHERE notes IS NULL AND (status IS NOT NULL) AND (balance > 10) IS NOT FALSE AND status IS DISTINCT FROM 'closed'
--- read SELECT
SELECT (home).city, (c).name, c.* FROM customers c WHERE (home).postcode = '10001'
--- read SELECT
SELECT ROW(1, 'a', NULL), ROW(id, name) = ROW(1, 'Customer 1') FROM customers
--- read SELECT
SELECT (id, customer_id) IN ((1, 2), (2, 3)) FROM orders WHERE (id, total) < (5, 100)
--- read SELECT
SELECT 'x' AS select, 1 "from", 2 AS "where"
--- read SELECT
SELECT "password" FROM customers WHERE "id" = 1
--- read SELECT
TABLE customers
--- read SELECT
TABLE ONLY products ORDER BY id LIMIT 2
--- read SELECT
VALUES (1, 'one'), (2, 'two') ORDER BY 1 DESC
--- read SELECT
((SELECT 1))
--- read SELECT
--: a view on plain tables: only the catalog tells it from a table
SELECT * FROM active_customers WHERE id = 3
--- read SELECT
SELECT * FROM daily_sales ORDER BY day LIMIT 3
--- read SELECT
SELECT id, happened_at, tableoid::regclass, ctid, xmin FROM events WHERE happened_at >= DATE '2025-01-01'
--- read SELECT
--: the keywords stand in strings, names and comments alone
SELECT 'DROP TABLE customers; --' AS "DELETE FROM orders" /* TRUNCATE orders; */ FROM customers -- ; DROP TABLE orders
--- read SELECT
SELECT $$it's; DELETE FROM orders;$$, $tag$ a $$ b $tag$, E'a\'b\\', U&'\0041\+000042', U&'d!0061t!+000061' UESCAPE '!', B'101', X'1F', N'n'
--- read SELECT
SELECT 'one '
  'string', 1.5e3, .5, 5., 1::int4
--- read SELECT
select/**/id/* nested /* comment */ */from--x
customers

--# expressions and functions that are harmless
--- read SELECT
SELECT now(), current_timestamp, current_date, localtime(0), statement_timestamp(), transaction_timestamp(), clock_timestamp(), timeofday()
--- read SELECT
SELECT current_user, session_user, user, current_role, current_catalog, current_schema, current_schemas(true)
--- read SELECT
SELECT date_trunc('month', placed_at), extract(epoch FROM placed_at), date_part('dow', placed_at), to_char(placed_at, 'YYYY-MM-DD'), age(placed_at) FROM orders
--- read SELECT
SELECT placed_at AT TIME ZONE 'UTC', placed_at + interval '1 day 2 hours', make_date(2024, 2, 29), make_interval(days => 3), justify_hours(interval '27 hours') FROM orders LIMIT 1
--- read SELECT
SELECT DATE '2024-01-01' + 7, TIMESTAMP '2024-01-01 10:00' - INTERVAL '1' DAY, INTERVAL '1-2' YEAR TO MONTH, (DATE '2024-01-01', DATE '2024-02-01') OVERLAPS (DATE '2024-01-15', DATE '2024-03-01')
--- read SELECT
SELECT to_date('20240101', 'YYYYMMDD'), to_timestamp(0), to_number('12,454.8-', '99G999D9S'), date_bin('15 minutes', now(), '2001-01-01')
--- read SELECT
SELECT lower(name), upper(name), initcap(name), length(name), char_length(name), octet_length(name), reverse(name) FROM customers
--- read SELECT
SELECT substring(name FROM 1 FOR 3), substring(name, 2), position('o' IN name), overlay(name PLACING 'XX' FROM 2 FOR 2), trim(BOTH 'C' FROM name), ltrim(name), rtrim(name, '0') FROM customers
--- read SELECT
SELECT left(name, 2), right(name, 2), lpad(name, 20, '.'), rpad(name, 20), repeat('ab', 3), replace(name, 'C', 'K'), translate(name, 'abc', 'xyz'), split_part(email, '@', 2), strpos(name, 'm') FROM customers
--- read SELECT
SELECT concat(name, '-', id), concat_ws(',', name, id), name || '!' || id, format('%s has %L and %I', name, balance, 'weird name'), quote_literal(name), quote_ident(name), quote_nullable(NULL) FROM customers
--- read SELECT
SELECT regexp_replace(name, '\d+', 'N', 'g'), regexp_matches(name, '(\w+)'), regexp_split_to_array(name, '\s'), regexp_count(name, 'o'), regexp_like(name, 'C'), regexp_substr(name, '\d'), starts_with(name, 'Cust') FROM customers
--- read SELECT
SELECT regexp_split_to_table('a b c', ' '), string_to_array('a,b', ','), array_to_string(ARRAY[1, 2], '-'), string_to_table('x~y', '~')
--- read SELECT
SELECT md5(name), sha256(name::bytea), encode(name::bytea, 'hex'), decode('616263', 'hex'), convert_from('\x616263', 'UTF8'), convert_to('abc', 'UTF8'), ascii('a'), chr(65), to_hex(255) FROM customers LIMIT 1
--- read SELECT
SELECT abs(-1), ceil(1.2), ceiling(1.2), floor(1.8), round(1.2345, 2), trunc(1.9), mod(7, 3), power(2, 3), sqrt(16), exp(1), ln(10), log(100), sign(-3), pi(), div(7, 2), gcd(8, 12), width_bucket(5, 0, 10, 5)
--- read SELECT
SELECT 1 + 2 - 3 * 4 / 5 % 6, 2 ^ 3, |/ 16, @ -5, 5 & 3, 5 | 3, 5 # 3, ~ 5, 1 << 3, 16 >> 2, 1 <> 2, 1 != 2, NOT true, true AND false OR true
--- read SELECT
SELECT random() < 2, gen_random_uuid() IS NOT NULL
--- read SELECT
SELECT CAST('12' AS integer), '12'::int8, int4 '5', 'new'::order_state, '{1,2}'::int[], 1::text::varchar(5), float8 '1.5', true::int, 'a'::char(3), '1.2.3.4'::inet, numeric(5, 2) '1.234'
--- read SELECT
SELECT ARRAY[1, 2, 3], (ARRAY[[1, 2], [3, 4]])[2][1], (ARRAY['a', 'b', 'c'])[2:3], tags[1], array_length(tags, 1), cardinality(tags), 'all' = ANY (tags), tags @> ARRAY['all'], tags && '{x}', tags || 'new'::text FROM customers
--- read SELECT
SELECT array_append(tags, 'x'), array_prepend('x', tags), array_cat(tags, tags), array_remove(tags, 'all'), array_replace(tags, 'all', 'any'), array_position(tags, 'all'), unnest(tags), array_ndims(tags), array_lower(tags, 1), array_upper(tags, 1), array_fill(0, ARRAY[2]) FROM customers
--- read SELECT
SELECT profile -> 'langs' -> 0, profile ->> 'age', profile #> '{langs,1}', profile #>> '{langs,1}', profile @> '{"age":21}', profile ? 'age', profile ?| ARRAY['a'], profile ?& ARRAY['age'], profile - 'age', profile || '{"x":1}', profile['age'] FROM customers
--- read SELECT
SELECT jsonb_build_object('a', 1), json_build_array(1, 'x'), to_jsonb(c), row_to_json(c), jsonb_agg(id), json_object_agg(id, name), jsonb_set('{}', '{a}', '1'), jsonb_insert('[]', '{0}', '1'), jsonb_strip_nulls('{"a":null}'), jsonb_pretty('{}') FROM customers c GROUP BY c.id
--- read SELECT
SELECT k, v FROM customers, jsonb_each_text(profile) AS t(k, v) WHERE id = 1
--- read SELECT
SELECT jsonb_array_elements(profile -> 'langs'), jsonb_object_keys(profile), jsonb_typeof(profile), jsonb_array_length(profile -> 'langs') FROM customers
--- read SELECT
SELECT jsonb_path_query(profile, '$.langs[*] ? (@ == "en")'), profile @? '$.age', profile @@ '$.age > 25', jsonb_path_exists(profile, '$.age'), jsonb_path_query_array(profile, '$.*') FROM customers
--- read SELECT
SELECT to_tsvector('english', title) @@ to_tsquery('english', 'first & !second'), ts_rank(search, plainto_tsquery('fox')), ts_headline(body, phraseto_tsquery('lazy dog')), websearch_to_tsquery('"quick brown" -dog'), setweight(search, 'A'), numnode('a & b'::tsquery) FROM documents
--- read SELECT
SELECT xmlelement(name item, xmlattributes(id AS n), name), xmlforest(id, name), xmlconcat('<a/>', '<b/>'), xmlcomment('x'), xmlparse(CONTENT '<a/>'), xmlserialize(CONTENT '<a/>'::xml AS text), xmlroot('<a/>'::xml, version '1.0'), xmlpi(name php, 'x'), '<a/>' IS DOCUMENT FROM products LIMIT 1
--- read SELECT
SELECT x.* FROM XMLTABLE('/r/i' PASSING ('<r><i n="1">a</i></r>'::xml) COLUMNS n int PATH '@n', v text PATH '.' DEFAULT 'none') AS x
--- read SELECT
SELECT xpath('/a/text()', '<a>b</a>'), xmlexists('//a' PASSING ('<a/>'::xml)), xml_is_well_formed('<a>')
--- read SELECT
SELECT int4range(1, 10) @> 5, numrange(1, 2) && numrange(2, 3), lower(int4range(1, 5)), isempty('empty'::int4range), int4range(1, 5) * int4range(3, 9), range_merge(int4range(1, 2), int4range(5, 6)), '{[1,2),[5,6)}'::int4multirange, tstzrange(now(), NULL)
--- read SELECT
SELECT host('10.0.0.1/8'::inet), '10.0.0.1'::inet << '10.0.0.0/8'::cidr, masklen('10.0.0.0/8'), network('10.0.0.1/8'), family('::1'), macaddr '08:00:2b:01:02:03', set_masklen('10.0.0.1/8', 16)
--- read SELECT
SELECT point(1, 2) <-> point(3, 4), circle(point(0, 0), 2) @> point(1, 1), box '((0,0),(1,1))' && box '((1,1),(2,2))', area(circle '<(0,0),1>'), lseg '[(0,0),(1,1)]' ?# lseg '[(0,1),(1,0)]'
--- read SELECT
SELECT enum_range(NULL::order_state), enum_first(NULL::order_state), enum_last('new'::order_state)
--- read SELECT
SELECT stddev(total), variance(total), corr(total, id), regr_slope(total, id), bool_and(archived), bool_or(archived), every(archived), bit_and(id), bit_or(id), min(total), max(total) FROM orders
--- read SELECT
SELECT version(), current_database(), pg_backend_pid(), current_setting('work_mem'), pg_is_in_recovery(), pg_postmaster_start_time(), inet_server_port(), pg_typeof(1), current_setting('no.such', true)
--- read SELECT
SELECT pg_size_pretty(pg_total_relation_size('orders')), pg_relation_size('orders'), pg_table_size('orders'), pg_indexes_size('orders'), pg_column_size(1), pg_database_size(current_database())
--- read SELECT
SELECT pg_get_viewdef('active_customers'), pg_get_indexdef('orders_open'::regclass), pg_get_functiondef('order_total'::regproc), pg_get_constraintdef(oid), pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE contype = 'f' LIMIT 1
--- read SELECT
SELECT has_table_privilege('agent', 'orders', 'SELECT'), has_schema_privilege('public', 'USAGE'), pg_has_role('shop_ops', 'MEMBER'), to_regclass('orders'), 'orders'::regclass::oid > 0, format_type(23, -1), obj_description('orders'::regclass), col_description('orders'::regclass, 1)
--- read SELECT
SELECT c.relname, n.nspname, pg_table_is_visible(c.oid), pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname = 'public'
--- read SELECT
SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' ORDER BY ordinal_position
--- read SELECT
SELECT datname, state, wait_event FROM pg_stat_activity WHERE pid = pg_backend_pid()
--- read SELECT
SELECT attname, n_distinct FROM pg_stats WHERE tablename = 'orders'
--- read SELECT
SELECT name, setting FROM pg_settings WHERE name LIKE 'max_%'
--- read SELECT
SELECT locktype, mode FROM pg_locks WHERE NOT granted
--- read SELECT
SELECT relation::regclass, mode FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype OPERATOR(pg_catalog.=) 'relation'
--- read SELECT
--: judgement: it reads where the sequence stands in this session, and moves nothing
SELECT last_value FROM ticket_seq
--- read SELECT
SELECT pg_catalog.count(*), pg_catalog.lower('X') FROM public.orders

--# SELECT that does more than read
--- write SELECT
SELECT * FROM orders WHERE id = 1 FOR UPDATE
--- write SELECT
SELECT * FROM jobs WHERE NOT done ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
--- write SELECT
SELECT o.id FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id = 1 FOR NO KEY UPDATE OF o NOWAIT
--- write SELECT
--: judgement: a lock as FOR UPDATE is, if a weaker one
SELECT id FROM customers WHERE id = 2 FOR SHARE
--- write SELECT
--: judgement: as FOR SHARE
SELECT id FROM customers WHERE id = 2 FOR KEY SHARE OF customers
--- write SELECT
SELECT (SELECT id FROM orders WHERE id = 1 FOR UPDATE)
--- write SELECT
SELECT nextval('ticket_seq')
--- write SELECT
SELECT setval('ticket_seq', 5000, true)
--- write SELECT
SELECT id, nextval('public.ticket_seq'::regclass) FROM orders WHERE id < 4
--- write SELECT
--: judgement: it is NOTIFY spelt as a function
SELECT pg_notify('shop', 'hello')
--- destructive SELECT
SELECT purge_orders()
--- destructive SELECT
--: judgement: stable and harmless, as the catalog would show; read is right where it was asked
SELECT order_total(3)
--- destructive SELECT
SELECT run_text('SELECT 1')
--- read SELECT
--: catalog: the text alone does not show that this view deletes; who made it needed a person's word
SELECT * FROM order_health
--- destructive SELECT
SELECT set_config('work_mem', '8MB', false)
--- destructive SELECT
SELECT lo_put(4242, 0, '\x00')
--- destructive SELECT
SELECT lo_unlink(4242)
--- destructive SELECT
SELECT lo_create(0)
--- destructive SELECT
SELECT lo_from_bytea(0, 'new')
--- destructive SELECT
--: judgement: reads a large object, whose rights no rule on relations sees; no list names it as safe
SELECT lo_get(4242)
--- destructive SELECT
SELECT query_to_xml('SELECT 1', true, false, '')
--- destructive SELECT
SELECT database_to_xml(true, false, '')
--- destructive SELECT
SELECT word FROM ts_stat('SELECT search FROM documents')
--- destructive SELECT
SELECT ts_rewrite('a & b'::tsquery, 'SELECT ''a''::tsquery, ''c''::tsquery')
--- forbidden SELECT
--: stricter than the ladder's own words: it reaches other sessions or the server itself
SELECT pg_logical_emit_message(false, 'x', 'y')
--- forbidden SELECT
--: stricter than the ladder's own words: it reaches other sessions or the server itself
SELECT pg_terminate_backend(0)
--- forbidden SELECT
--: stricter than the ladder's own words: it reaches other sessions or the server itself
SELECT pg_cancel_backend(0)
--- destructive SELECT
--: judgement: a session's lock that outlives the statement; on no list
SELECT pg_advisory_lock(1)
--- destructive SELECT
SELECT pg_advisory_xact_lock_shared(1, 2)
--- destructive SELECT
--: judgement: holds a connection for as long as it likes; on no list
SELECT pg_sleep(0)
--- forbidden SELECT
--: stricter than the ladder's own words: it reaches other sessions or the server itself
--: fails 42501
SELECT pg_reload_conf()
--- forbidden SELECT
--: stricter than the ladder's own words: it reaches other sessions or the server itself
--: fails 42501
SELECT pg_switch_wal()
--- forbidden SELECT
--: stricter than the ladder's own words: it reaches other sessions or the server itself
--: fails 42501
SELECT pg_stat_reset()
--- destructive SELECT
--: fails 42883
SELECT no_such_function(1)
--- destructive SELECT
SELECT shadow.lower('X')
--- destructive SELECT
SELECT 1 OPERATOR(shadow.=) 2
--- destructive SELECT
SELECT gin_clean_pending_list('documents_search')
--- destructive SELECT INTO
SELECT * INTO customers_copy FROM customers
--- destructive SELECT INTO
SELECT id INTO TEMPORARY TABLE ids FROM orders WHERE id < 10
--- destructive SELECT INTO
WITH a AS (SELECT 1 AS x) SELECT x INTO UNLOGGED one FROM a
--- write SELECT
WITH added AS (INSERT INTO staging VALUES (9, 'nine', 9) RETURNING id) SELECT * FROM added
--- write SELECT
WITH changed AS (UPDATE orders SET archived = true WHERE id = 5 RETURNING *) SELECT count(*) FROM changed
--- write SELECT
WITH gone AS (DELETE FROM staging WHERE id = 1 RETURNING *) SELECT * FROM gone
--- destructive SELECT
WITH gone AS (DELETE FROM order_items RETURNING *) SELECT count(*) FROM gone
--- destructive SELECT
WITH a AS (SELECT 1), b AS (UPDATE products SET stock = 0) SELECT * FROM a
--- forbidden SELECT
--: fails 42501
SELECT pg_read_file('/etc/hostname')
--- forbidden SELECT
--: fails 42501
SELECT pg_read_binary_file('PG_VERSION', 0, 10)
--- forbidden SELECT
--: fails 42501
SELECT * FROM pg_ls_dir('.')
--- forbidden SELECT
--: fails 42501
SELECT * FROM pg_ls_waldir()
--- forbidden SELECT
--: fails 42501
SELECT * FROM pg_ls_logdir()
--- forbidden SELECT
--: fails 42501
SELECT * FROM pg_ls_tmpdir()
--- forbidden SELECT
--: judgement: it reaches the server's files, though no pattern of the list has its name
--: fails 42501
SELECT * FROM pg_stat_file('PG_VERSION')
--- forbidden SELECT
--: fails 42501
SELECT lo_import('/etc/hostname')
--- forbidden SELECT
--: fails 42501
SELECT lo_export(4242, '/tmp/out')
--- forbidden SELECT
--: fails 42883
SELECT * FROM dblink('dbname=postgres', 'SELECT 1') AS t(a integer)
--- forbidden SELECT
--: fails 42883
SELECT dblink_exec('dbname=postgres', 'DROP TABLE x')
--- forbidden SELECT
--: judgement: replication, spelt as a function
--: fails 42501
SELECT pg_create_logical_replication_slot('spy', 'test_decoding')
--- forbidden SELECT
--: judgement: replication, spelt as a function
--: fails 42501
SELECT pg_drop_replication_slot('spy')

--# INSERT
--- write INSERT
INSERT INTO staging VALUES (3, 'three', 3.5)
--- write INSERT
INSERT INTO customers (id, name, email) VALUES (100, 'New', 'new@example.com'), (101, 'Newer', 'newer@example.com')
--- write INSERT
INSERT INTO jobs (id, payload) VALUES (10, '{}') RETURNING id, payload
--- write INSERT
INSERT INTO staging DEFAULT VALUES
--- write INSERT
INSERT INTO staging SELECT id, name, balance FROM customers WHERE status = 'active'
--- write INSERT
INSERT INTO staging TABLE staging
--- write INSERT
INSERT INTO payments (id, order_id, amount) OVERRIDING SYSTEM VALUE VALUES (900, 1, 5)
--- write INSERT
INSERT INTO payments OVERRIDING USER VALUE SELECT 901, 1, 5, now()
--- write INSERT
INSERT INTO products AS p (id, sku, name, price) VALUES (1, 'SKU-1', 'P', 1) ON CONFLICT DO NOTHING
--- write INSERT
INSERT INTO products AS p (id, sku, name, price) VALUES (1, 'SKU-1', 'P', 1) ON CONFLICT (id) DO UPDATE SET price = excluded.price, name = p.name || '!' WHERE p.stock > 0 RETURNING *
--- write INSERT
INSERT INTO products (id, sku, name, price) VALUES (50, 'SKU-1', 'P', 1) ON CONFLICT ON CONSTRAINT products_sku_key DO UPDATE SET (price, stock) = (excluded.price, DEFAULT)
--- write INSERT
WITH src AS (SELECT id FROM orders WHERE state = 'closed') INSERT INTO staging (id) SELECT id FROM src
--- write INSERT
INSERT INTO events VALUES (9, '2025-03-03', 'login', NULL)
--- write INSERT
INSERT INTO customers (id, name, tags[1], home.city) VALUES (102, 'Odd', 'first', 'Town')
--- destructive INSERT
WITH gone AS (DELETE FROM jobs RETURNING id) INSERT INTO staging (id) SELECT id FROM gone
--- destructive INSERT
INSERT INTO staging (id) SELECT purge_orders()
--- destructive INSERT
INSERT INTO staging (name) VALUES (run_text('DELETE FROM jobs'))

--# UPDATE
--- write UPDATE
UPDATE customers SET balance = 0 WHERE id = 3
--- write UPDATE
UPDATE customers AS c SET balance = balance + 1, notes = DEFAULT WHERE c.id = 3 AND c.status = 'active' RETURNING c.balance
--- write UPDATE
UPDATE ONLY customers SET notes = 'x' WHERE id IN (1, 2, 3)
--- write UPDATE
UPDATE orders SET total = i.sum FROM (SELECT order_id, sum(price) AS sum FROM order_items GROUP BY 1) i WHERE i.order_id = orders.id AND orders.id = 4
--- write UPDATE
UPDATE orders SET (total, archived) = (SELECT sum(price), true FROM order_items WHERE order_id = 5) WHERE id = 5
--- write UPDATE
UPDATE customers SET (name, notes) = ROW ('A', 'B') WHERE email = 'customer1@example.com'
--- write UPDATE
UPDATE customers SET tags[1] = 'x', profile['age'] = '30', home.city = 'Town' WHERE id = 1
--- write UPDATE
UPDATE orders SET archived = true WHERE placed_at < '2024-02-03' OR id = 60
--- write UPDATE
UPDATE orders SET archived = true WHERE id = ANY ('{1,2,3}'::int[]) AND true
--- write UPDATE
UPDATE orders SET archived = true WHERE id BETWEEN 10 AND 20
--- write UPDATE
UPDATE orders SET archived = true WHERE (id, customer_id) = (4, 5)
--- write UPDATE
WITH late AS (SELECT id FROM orders WHERE state = 'new') UPDATE orders SET archived = true FROM late WHERE orders.id = late.id AND orders.total > 400
--- destructive UPDATE
UPDATE customers SET balance = 0
--- destructive UPDATE
UPDATE customers SET balance = 0 WHERE true
--- destructive UPDATE
UPDATE customers SET balance = 0 WHERE 1 = 1
--- destructive UPDATE
UPDATE customers SET balance = 0 WHERE id = id
--- destructive UPDATE
UPDATE customers SET balance = 0 WHERE id = 3 OR true
--- destructive UPDATE
UPDATE customers SET balance = 0 WHERE name IS NOT NULL
--- destructive UPDATE
UPDATE orders SET total = c.balance FROM customers c WHERE c.id = orders.customer_id
--- destructive UPDATE
--: judgement: the comparison with a value picks customers, not orders
UPDATE orders SET total = 0 WHERE customer_id IN (SELECT id FROM customers)
--- destructive UPDATE
UPDATE jobs SET done = true WHERE done IS FALSE OR done IS NOT FALSE
--- destructive UPDATE
--: the inner update has no WHERE
WITH u AS (UPDATE products SET stock = 0 RETURNING id) UPDATE orders SET archived = true WHERE id = 1
--- destructive UPDATE
UPDATE customers SET notes = run_text('DELETE FROM jobs') WHERE id = 1

--# DELETE
--- write DELETE
DELETE FROM staging WHERE id = 1
--- write DELETE
--: rows of order_items and payments go with it
DELETE FROM orders WHERE id = 3 RETURNING *
--- write DELETE
DELETE FROM ONLY orders AS o WHERE o.id = 5 AND o.state IN ('new', 'paid')
--- write DELETE
DELETE FROM order_items USING orders WHERE orders.id = order_items.order_id AND orders.id = 12
--- write DELETE
DELETE FROM events WHERE happened_at < DATE '2024-05-15'
--- write DELETE
DELETE FROM orders WHERE total > 400 AND customer_id = customer_id
--- write DELETE
DELETE FROM customers WHERE name LIKE 'Customer 1_'
--- destructive DELETE
DELETE FROM orders
--- destructive DELETE
DELETE FROM orders *
--- destructive DELETE
DELETE FROM orders WHERE TRUE
--- destructive DELETE
DELETE FROM orders WHERE NOT false
--- destructive DELETE
DELETE FROM orders USING customers c WHERE orders.customer_id = c.id
--- destructive DELETE
DELETE FROM orders WHERE id IN (SELECT id FROM orders)
--- destructive DELETE
DELETE FROM orders WHERE EXISTS (SELECT 1)
--- destructive DELETE
--: judgement: one row, but no comparison with a value says which
BEGIN; DECLARE c CURSOR FOR SELECT * FROM orders WHERE id = 1 FOR UPDATE; FETCH 1 FROM c; DELETE FROM orders WHERE CURRENT OF c; COMMIT
--- destructive DELETE
DELETE FROM all_orders
--- destructive DELETE
WITH x AS (SELECT 1) DELETE FROM jobs RETURNING id

--# MERGE
--- write MERGE
MERGE INTO products p USING staging s ON p.id = s.id AND p.id = 1 WHEN MATCHED THEN UPDATE SET stock = 5
--- write MERGE
MERGE INTO products AS p USING (SELECT 2 AS id) AS s ON p.id = s.id AND p.id = 2 WHEN MATCHED AND p.stock > 500 THEN DELETE WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN DO NOTHING
--- destructive MERGE
--: judgement: it only adds rows, but the ON clause compares with no value
MERGE INTO products p USING staging s ON p.id = s.id WHEN NOT MATCHED THEN INSERT (id, sku, name, price) VALUES (s.id, 'S' || s.id, s.name, s.amount)
--- destructive MERGE
MERGE INTO products p USING staging s ON p.id = s.id WHEN MATCHED THEN DELETE
--- destructive MERGE
MERGE INTO jobs j USING jobs k ON true WHEN MATCHED AND j.id = k.id THEN DELETE
--- destructive MERGE
WITH s AS (SELECT id FROM staging) MERGE INTO ONLY products p USING s ON p.id = s.id WHEN MATCHED THEN UPDATE SET stock = 0, parent = DEFAULT WHEN NOT MATCHED AND s.id > 5 THEN DO NOTHING

--# COPY
--- read COPY
COPY customers TO STDOUT
--- read COPY
COPY public.customers (id, name) TO STDOUT WITH (FORMAT csv, HEADER true, DELIMITER ';', NULL 'null', QUOTE '"', ESCAPE '\', FORCE_QUOTE (name), ENCODING 'UTF8')
--- read COPY
COPY (SELECT id, name FROM customers WHERE id < 5) TO STDOUT (FORMAT binary)
--- read COPY
COPY (VALUES (1), (2)) TO STDOUT CSV HEADER
--- read COPY
COPY BINARY orders TO STDOUT
--- write COPY
COPY staging FROM STDIN
--- write COPY
COPY staging (id, name, amount) FROM STDIN WITH (FORMAT text, FREEZE false) WHERE id > 0
--- write COPY
COPY staging FROM STDIN DELIMITER AS E'\t' NULL AS ''
--- write COPY
COPY (INSERT INTO staging VALUES (7, 'seven', 7) RETURNING *) TO STDOUT
--- write COPY
COPY (DELETE FROM staging WHERE id = 1 RETURNING *) TO STDOUT
--- destructive COPY
COPY (DELETE FROM order_items RETURNING *) TO STDOUT
--- destructive COPY
COPY (WITH g AS (DELETE FROM order_items RETURNING 1) SELECT * FROM g) TO STDOUT
--- destructive COPY
COPY (SELECT purge_orders()) TO STDOUT
--- forbidden COPY
--: fails 42501
COPY customers TO '/tmp/customers.csv'
--- forbidden COPY
--: fails 42501
COPY staging FROM '/etc/passwd'
--- forbidden COPY
--: fails 42501
COPY (SELECT 1) TO '/tmp/one'
--- forbidden COPY
--: fails 42501
COPY staging FROM PROGRAM 'id'
--- forbidden COPY
--: fails 42501
COPY customers TO PROGRAM 'cat > /tmp/customers' WITH (FORMAT csv)
--- forbidden COPY
--: fails 42501
COPY (SELECT 1) TO PROGRAM 'sh'

--# cursors
--- read DECLARE CURSOR
BEGIN; DECLARE c CURSOR FOR SELECT * FROM customers; COMMIT
--- read DECLARE CURSOR
BEGIN; DECLARE c NO SCROLL CURSOR FOR SELECT id FROM orders; FETCH 5 FROM c; CLOSE c; COMMIT
--- read DECLARE CURSOR
DECLARE kept SCROLL CURSOR WITH HOLD FOR SELECT id FROM orders ORDER BY id; FETCH LAST FROM kept; MOVE BACKWARD 3 IN kept; CLOSE kept
--- read DECLARE CURSOR
BEGIN; DECLARE c BINARY INSENSITIVE CURSOR WITHOUT HOLD FOR VALUES (1), (2); FETCH ALL c; END
--- write DECLARE CURSOR
BEGIN; DECLARE c CURSOR FOR SELECT * FROM orders WHERE id < 9 FOR UPDATE; FETCH FORWARD ALL IN c; COMMIT
--- destructive DECLARE CURSOR
BEGIN; DECLARE c CURSOR FOR SELECT purge_orders(); FETCH c; COMMIT
--- destructive FETCH
--: nobody has said what the cursor reads
--: fails 34000
FETCH NEXT FROM unknown_cursor
--- destructive FETCH
--: fails 34000
FETCH ABSOLUTE 5 FROM unknown_cursor
--- destructive MOVE
--: fails 34000
MOVE FORWARD ALL IN unknown_cursor
--- read CLOSE CURSOR ALL
CLOSE ALL

--# PREPARE, EXECUTE, DEALLOCATE
--- read PREPARE
PREPARE p AS SELECT * FROM customers
--- read EXECUTE
PREPARE p (integer) AS SELECT name FROM customers WHERE id = $1; EXECUTE p (3)
--- write EXECUTE
PREPARE p (integer, text) AS UPDATE customers SET notes = $2 WHERE id = $1; EXECUTE p (3, 'x')
--- write PREPARE
PREPARE p AS INSERT INTO staging VALUES (5, 'five', 5)
--- destructive PREPARE
PREPARE p AS DELETE FROM orders
--- destructive EXECUTE
PREPARE p AS DELETE FROM order_items; EXECUTE p
--- destructive EXECUTE
--: fails 26000
EXECUTE never_prepared
--- destructive EXECUTE
--: fails 26000
EXECUTE never_prepared (1, 'a')
--- destructive CREATE TABLE AS
PREPARE p AS SELECT 1 AS one; CREATE TABLE made AS EXECUTE p
--- read DEALLOCATE ALL
DEALLOCATE ALL
--- read DEALLOCATE
PREPARE p AS SELECT 1; DEALLOCATE PREPARE p
--- read DEALLOCATE ALL
DEALLOCATE PREPARE ALL

--# EXPLAIN
--- read EXPLAIN
EXPLAIN SELECT * FROM orders
--- read EXPLAIN
EXPLAIN VERBOSE SELECT * FROM orders
--- read EXPLAIN
EXPLAIN (VERBOSE, COSTS off, FORMAT json, SETTINGS on) SELECT * FROM orders WHERE id = 1
--- read EXPLAIN
EXPLAIN ANALYZE SELECT * FROM orders
--- read EXPLAIN
EXPLAIN (ANALYZE, BUFFERS, TIMING off, WAL, SUMMARY) SELECT count(*) FROM orders
--- read EXPLAIN
--: planned, not executed
EXPLAIN DELETE FROM orders
--- destructive EXPLAIN
--: the planner runs a function that says it is stable, to learn its value
EXPLAIN SELECT * FROM orders WHERE id < order_limit()
--- read EXPLAIN
EXPLAIN (ANALYZE false) UPDATE customers SET balance = 0
--- read EXPLAIN
EXPLAIN (ANALYZE off, FORMAT yaml) DELETE FROM orders
--- read EXPLAIN
EXPLAIN (FORMAT xml) INSERT INTO staging VALUES (1)
--- read EXPLAIN
--: planned, not executed: no table is made
EXPLAIN CREATE TABLE made AS SELECT 1
--- write EXPLAIN
EXPLAIN ANALYZE DELETE FROM orders WHERE id = 1
--- write EXPLAIN
EXPLAIN (ANALYZE) INSERT INTO staging VALUES (1)
--- destructive EXPLAIN
EXPLAIN ANALYZE DELETE FROM order_items
--- destructive EXPLAIN
EXPLAIN ANALYZE VERBOSE UPDATE customers SET balance = 0
--- destructive EXPLAIN
EXPLAIN (ANALYZE) DELETE FROM order_items
--- destructive EXPLAIN
EXPLAIN (ANALYZE true, COSTS) DELETE FROM order_items
--- destructive EXPLAIN
EXPLAIN (COSTS, ANALYZE on) DELETE FROM order_items
--- destructive EXPLAIN
EXPLAIN (ANALYSE 1) DELETE FROM order_items
--- destructive EXPLAIN
EXPLAIN ANALYSE DELETE FROM order_items
--- destructive EXPLAIN
EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1
--- destructive EXPLAIN
EXPLAIN (ANALYZE) CREATE MATERIALIZED VIEW made AS SELECT 1
--- destructive EXPLAIN
PREPARE p AS DELETE FROM order_items; EXPLAIN ANALYZE EXECUTE p

--# settings and the session
--- read SET
SET work_mem = '8MB'
--- read SET
SET SESSION statement_timeout TO 5000
--- read SET
BEGIN; SET LOCAL lock_timeout = '2s'; COMMIT
--- read SET
SET TIME ZONE 'UTC'
--- read SET
SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE
--- read SET
SET TIME ZONE LOCAL
--- read SET
SET DateStyle = ISO, DMY
--- read SET
SET NAMES 'UTF8'
--- read SET
SET application_name TO 'report'
--- read SET
SET XML OPTION DOCUMENT
--- read SET
SET SEED TO 0.5
--- read SET
SET work_mem TO DEFAULT
--- destructive SET
--: stricter: what is in public comes before PostgreSQL's own from here on
--: judgement: names mean something else from here on, which the reader must follow
SET search_path TO public, pg_catalog
--- read SET
SET SCHEMA 'public'
--- read SET
BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE; COMMIT
--- read SET
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ READ WRITE
--- read SET CONSTRAINTS
BEGIN; SET CONSTRAINTS ALL DEFERRED; COMMIT
--- read SET CONSTRAINTS
SET CONSTRAINTS payments_order_id_fkey IMMEDIATE
--- destructive SET
--: judgement: strings end elsewhere from here on
SET standard_conforming_strings = off
--- destructive SET
--: judgement: characters, and with them strings, end elsewhere from here on
SET client_encoding TO 'SJIS'
--- destructive SET
SET NAMES 'GBK'
--- destructive SET
--: judgement: switches triggers and foreign keys off
--: fails 42501
SET session_replication_role = replica
--- destructive SET
SET ROLE shop_ops
--- destructive SET
SET SESSION ROLE 'shop_ops'
--- destructive SET
BEGIN; SET LOCAL ROLE shop_ops; COMMIT
--- destructive SET
SET ROLE NONE
--- destructive SET
SET ROLE TO DEFAULT
--- destructive RESET
--: judgement: as SET ROLE
RESET ROLE
--- forbidden SET
--: fails 42501
SET SESSION AUTHORIZATION shop_owner
--- forbidden SET
SET LOCAL SESSION AUTHORIZATION DEFAULT
--- forbidden RESET
--: judgement: as SET SESSION AUTHORIZATION
RESET SESSION AUTHORIZATION
--- read RESET
RESET work_mem
--- read RESET
RESET TIME ZONE
--- read RESET
RESET ALL
--- read SHOW
SHOW work_mem
--- read SHOW
SHOW ALL
--- read SHOW
SHOW TIME ZONE
--- read SHOW
SHOW TRANSACTION ISOLATION LEVEL
--- read SHOW
SHOW SESSION AUTHORIZATION
--- read SHOW
SHOW search_path
--- read DISCARD PLANS
DISCARD PLANS
--- read DISCARD SEQUENCES
DISCARD SEQUENCES
--- write DISCARD TEMP
--: judgement: drops this session's own temporary tables, and nothing else
DISCARD TEMP
--- write DISCARD ALL
--: judgement: as DISCARD TEMP; what pools send between two clients
DISCARD ALL
--- read LISTEN
LISTEN shop
--- read UNLISTEN
UNLISTEN shop
--- read UNLISTEN
UNLISTEN *
--- write NOTIFY
NOTIFY shop
--- write NOTIFY
NOTIFY shop, 'order 5 is ready'
--- forbidden LOAD
--: fails 42501
LOAD 'auto_explain'

--# transactions
--- read BEGIN
BEGIN
--- read BEGIN
BEGIN WORK ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE
--- read START TRANSACTION
START TRANSACTION READ ONLY
--- read COMMIT
COMMIT
--- read COMMIT
BEGIN; COMMIT AND CHAIN
--- read COMMIT
END TRANSACTION
--- read ROLLBACK
ROLLBACK
--- read ROLLBACK
ABORT WORK
--- read ROLLBACK
BEGIN; ROLLBACK AND NO CHAIN
--- read SAVEPOINT
BEGIN; SAVEPOINT a; SELECT 1; RELEASE SAVEPOINT a; COMMIT
--- read ROLLBACK
BEGIN; SAVEPOINT a; ROLLBACK TO SAVEPOINT a; RELEASE a; COMMIT
--- write INSERT
BEGIN; INSERT INTO staging VALUES (8, 'eight', 8); SAVEPOINT a; UPDATE orders SET archived = true WHERE id = 1; ROLLBACK TO a; COMMIT
--- destructive DELETE
--: undone in the end; its rung is the same
BEGIN; DELETE FROM orders; ROLLBACK
--- destructive PREPARE TRANSACTION
--: needs max_prepared_transactions above 0
BEGIN; INSERT INTO staging VALUES (8, 'eight', 8); PREPARE TRANSACTION 'later'
--- destructive COMMIT PREPARED
--: fails 42704
COMMIT PREPARED 'later'
--- destructive ROLLBACK PREPARED
--: fails 42704
ROLLBACK PREPARED 'later'
--- destructive LOCK TABLE
BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; COMMIT
--- destructive LOCK TABLE
BEGIN; LOCK orders, customers IN SHARE ROW EXCLUSIVE MODE NOWAIT; COMMIT
--- destructive LOCK TABLE
BEGIN; LOCK TABLE ONLY events; COMMIT

--# texts of several statements, and of none
--- read SELECT
SELECT 1; SELECT 2; SELECT 3
--- read SELECT
;;SELECT 1;;
--- read EMPTY
--: judgement: nothing is executed
;
--- read EMPTY
-- a comment and nothing else
--- read EMPTY
/* DROP TABLE customers; */
--- write UPDATE
SELECT 1; UPDATE customers SET notes = 'x' WHERE id = 1; SELECT 2
--- destructive DROP TABLE
SELECT 1; DROP TABLE staging; SELECT 2
--- destructive TRUNCATE TABLE
INSERT INTO staging VALUES (1); TRUNCATE staging
--- forbidden COPY
--: fails 42501
SELECT 1; COPY staging FROM PROGRAM 'id'; DROP TABLE staging
--- forbidden CREATE EXTENSION
DROP TABLE staging; CREATE EXTENSION hstore

--# maintenance
--- destructive TRUNCATE TABLE
TRUNCATE TABLE staging
--- destructive TRUNCATE TABLE
TRUNCATE staging, ONLY jobs RESTART IDENTITY
--- destructive TRUNCATE TABLE
TRUNCATE orders CONTINUE IDENTITY CASCADE
--- write VACUUM
--: judgement: takes away no row that anybody could see
VACUUM
--- write VACUUM
VACUUM ANALYZE orders
--- write VACUUM
VACUUM (VERBOSE, ANALYZE, SKIP_LOCKED) orders (id, total), customers
--- write VACUUM
VACUUM (FULL false) orders
--- destructive VACUUM
VACUUM FULL orders
--- destructive VACUUM
VACUUM (FULL) orders
--- destructive VACUUM
VACUUM (FULL on, ANALYZE) orders
--- destructive VACUUM
VACUUM FULL FREEZE VERBOSE ANALYZE orders
--- write ANALYZE
--: judgement: writes statistics alone
ANALYZE
--- write ANALYZE
ANALYZE VERBOSE orders (id, state)
--- write ANALYZE
ANALYSE (SKIP_LOCKED) customers, orders
--- destructive CLUSTER
CLUSTER orders USING orders_by_customer
--- destructive CLUSTER
CLUSTER (VERBOSE) orders USING orders_pkey
--- destructive CLUSTER
CLUSTER
--- destructive REINDEX
REINDEX TABLE orders
--- destructive REINDEX
REINDEX INDEX CONCURRENTLY orders_open
--- destructive REINDEX
REINDEX (VERBOSE) SCHEMA public
--- destructive REINDEX
--: fails 0A000
REINDEX DATABASE CONCURRENTLY postgres
--- destructive REINDEX
--: fails 0A000
REINDEX SYSTEM postgres
--- destructive CHECKPOINT
--: judgement: on no list
--: fails 42501
CHECKPOINT
--- destructive REFRESH MATERIALIZED VIEW
REFRESH MATERIALIZED VIEW daily_sales
--- destructive REFRESH MATERIALIZED VIEW
REFRESH MATERIALIZED VIEW CONCURRENTLY daily_sales WITH DATA
--- destructive REFRESH MATERIALIZED VIEW
REFRESH MATERIALIZED VIEW daily_sales WITH NO DATA
--- destructive DO
DO $$ BEGIN NULL; END $$
--- destructive DO
DO LANGUAGE plpgsql 'BEGIN PERFORM 1; END'
--- destructive CALL
CALL close_orders('2024-02-03')
--- destructive CALL
CALL public.close_orders(before => now())

--# tables
--- destructive CREATE TABLE
CREATE TABLE t (id integer)
--- destructive CREATE TABLE
CREATE TABLE IF NOT EXISTS public.t (id bigint GENERATED ALWAYS AS IDENTITY (START 10) PRIMARY KEY, a text COLLATE "C" NOT NULL DEFAULT 'x' CHECK (a <> ''), b integer UNIQUE NULLS NOT DISTINCT, c integer REFERENCES products (id) MATCH FULL ON DELETE SET NULL (c) ON UPDATE CASCADE, d integer GENERATED ALWAYS AS (b * 2) STORED, EXCLUDE USING gist (int4range(0, 1) WITH &&)) WITH (fillfactor = 70)
--- destructive CREATE TABLE
CREATE TEMPORARY TABLE t (id integer) ON COMMIT DROP
--- destructive CREATE TABLE
CREATE UNLOGGED TABLE t (LIKE orders INCLUDING ALL EXCLUDING INDEXES, more text)
--- destructive CREATE TABLE
CREATE TABLE child (extra text) INHERITS (staging)
--- destructive CREATE TABLE
CREATE TABLE typed OF address (street PRIMARY KEY)
--- destructive CREATE TABLE
CREATE TABLE events_2027 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO (MAXVALUE)
--- destructive CREATE TABLE
CREATE TABLE events_rest PARTITION OF events DEFAULT
--- destructive CREATE TABLE
CREATE TABLE hashed (id integer, k text) PARTITION BY HASH (id)
--- destructive CREATE TABLE
CREATE TABLE listed (k text) PARTITION BY LIST (lower(k))
--- destructive CREATE TABLE AS
CREATE TABLE copy AS SELECT * FROM customers
--- destructive CREATE TABLE AS
CREATE TEMP TABLE IF NOT EXISTS copy (a, b) ON COMMIT PRESERVE ROWS AS VALUES (1, 2) WITH NO DATA
--- destructive CREATE TABLE AS
CREATE UNLOGGED TABLE copy AS TABLE staging
--- destructive ALTER TABLE
ALTER TABLE customers ADD COLUMN phone text
--- destructive ALTER TABLE
ALTER TABLE IF EXISTS ONLY customers ADD COLUMN IF NOT EXISTS phone text DEFAULT '' NOT NULL, DROP COLUMN notes
--- destructive ALTER TABLE
ALTER TABLE customers DROP COLUMN IF EXISTS email CASCADE
--- destructive ALTER TABLE
ALTER TABLE staging ALTER COLUMN amount SET DATA TYPE integer USING amount::integer
--- destructive ALTER TABLE
ALTER TABLE orders ALTER total SET DEFAULT 5, ALTER archived DROP DEFAULT, ALTER total DROP NOT NULL, ALTER total SET STATISTICS 50
--- destructive ALTER TABLE
ALTER TABLE customers ALTER COLUMN name SET STORAGE EXTERNAL, ALTER COLUMN notes SET COMPRESSION pglz, ALTER COLUMN id SET (n_distinct = 5)
--- destructive ALTER TABLE
ALTER TABLE orders ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY
--- destructive ALTER TABLE
ALTER TABLE payments ALTER COLUMN id SET GENERATED ALWAYS SET START 5 RESTART
--- destructive ALTER TABLE
ALTER TABLE payments ALTER COLUMN id DROP IDENTITY IF EXISTS
--- destructive ALTER TABLE
ALTER TABLE documents ALTER COLUMN search DROP EXPRESSION
--- destructive ALTER TABLE
ALTER TABLE staging ADD CONSTRAINT positive CHECK (id > 0) NO INHERIT NOT VALID, ADD PRIMARY KEY (id)
--- destructive ALTER TABLE
ALTER TABLE orders DROP CONSTRAINT orders_customer_id_fkey
--- destructive ALTER TABLE
ALTER TABLE payments ALTER CONSTRAINT payments_order_id_fkey NOT DEFERRABLE, VALIDATE CONSTRAINT payments_order_id_fkey
--- destructive ALTER TABLE
ALTER TABLE customers RENAME TO clients
--- destructive ALTER TABLE
ALTER TABLE customers RENAME COLUMN name TO title
--- destructive ALTER TABLE
ALTER TABLE orders RENAME CONSTRAINT orders_pkey TO orders_key
--- destructive ALTER TABLE
ALTER TABLE staging SET SCHEMA reporting
--- destructive ALTER TABLE
ALTER TABLE staging OWNER TO shop_ops
--- destructive ALTER TABLE
ALTER TABLE orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY
--- destructive ALTER TABLE
ALTER TABLE archive DISABLE TRIGGER USER
--- destructive ALTER TABLE
ALTER TABLE archive DISABLE RULE keep_negative
--- destructive ALTER TABLE
ALTER TABLE staging SET UNLOGGED, SET (autovacuum_enabled = false), REPLICA IDENTITY FULL
--- destructive ALTER TABLE
ALTER TABLE orders CLUSTER ON orders_pkey
--- destructive ALTER TABLE
ALTER TABLE staging RESET (fillfactor), SET WITHOUT CLUSTER, SET ACCESS METHOD heap, SET TABLESPACE pg_default
--- destructive ALTER TABLE
ALTER TABLE events ATTACH PARTITION events_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
--- destructive ALTER TABLE
ALTER TABLE events DETACH PARTITION events_2024
--- destructive ALTER TABLE
ALTER TABLE events DETACH PARTITION events_2024 CONCURRENTLY
--- destructive ALTER TABLE
ALTER TABLE archive_old INHERIT archive
--- destructive ALTER TABLE
ALTER TABLE archive_old INHERIT archive; ALTER TABLE archive_old NO INHERIT archive
--- destructive ALTER TABLE
ALTER TABLE ALL IN TABLESPACE pg_default OWNED BY agent SET TABLESPACE pg_default NOWAIT
--- destructive DROP TABLE
DROP TABLE staging
--- destructive DROP TABLE
DROP TABLE IF EXISTS public.orders, customers CASCADE
--- destructive DROP TABLE
DROP TABLE jobs RESTRICT
--- destructive DROP TABLE
--: judgement: nothing of that name exists, and the rung is the statement's all the same
DROP TABLE IF EXISTS no_such_table

--# indexes, sequences, views, schemas, statistics
--- destructive CREATE INDEX
CREATE INDEX ON orders (total)
--- destructive CREATE INDEX
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS by_name ON customers USING btree (lower(name) text_pattern_ops DESC NULLS LAST, id) INCLUDE (email) NULLS NOT DISTINCT WITH (fillfactor = 80) TABLESPACE pg_default WHERE status = 'active'
--- destructive ALTER INDEX
ALTER INDEX orders_open RENAME TO orders_not_closed
--- destructive ALTER INDEX
ALTER INDEX IF EXISTS orders_open SET (fillfactor = 70)
--- destructive ALTER INDEX
ALTER INDEX orders_open SET TABLESPACE pg_default
--- destructive ALTER INDEX
ALTER INDEX orders_open DEPENDS ON EXTENSION plpgsql
--- destructive DROP INDEX
DROP INDEX orders_open
--- destructive DROP INDEX
DROP INDEX CONCURRENTLY IF EXISTS orders_by_customer
--- destructive CREATE SEQUENCE
CREATE SEQUENCE s AS bigint INCREMENT BY 2 MINVALUE 1 MAXVALUE 100 START 5 CACHE 10 CYCLE OWNED BY orders.id
--- destructive CREATE SEQUENCE
CREATE TEMP SEQUENCE IF NOT EXISTS s
--- destructive ALTER SEQUENCE
ALTER SEQUENCE ticket_seq RESTART WITH 1
--- destructive ALTER SEQUENCE
ALTER SEQUENCE IF EXISTS ticket_seq INCREMENT 5 NO MAXVALUE OWNED BY NONE
--- destructive DROP SEQUENCE
DROP SEQUENCE ticket_seq
--- destructive CREATE VIEW
CREATE VIEW v AS SELECT 1 AS one
--- destructive CREATE VIEW
CREATE OR REPLACE TEMP RECURSIVE VIEW v (n) WITH (security_barrier) AS VALUES (1) UNION ALL SELECT n + 1 FROM v WHERE n < 5
--- destructive CREATE VIEW
CREATE VIEW v WITH (security_invoker = true) AS SELECT * FROM orders WHERE archived WITH LOCAL CHECK OPTION
--- destructive ALTER VIEW
ALTER VIEW active_customers RENAME TO a
--- destructive ALTER VIEW
ALTER VIEW IF EXISTS active_customers ALTER COLUMN name SET DEFAULT 'x'
--- destructive ALTER VIEW
ALTER VIEW active_customers SET (security_barrier = true)
--- destructive DROP VIEW
DROP VIEW active_customers, order_totals
--- destructive CREATE MATERIALIZED VIEW
CREATE MATERIALIZED VIEW IF NOT EXISTS mv (a) AS SELECT 1 WITH NO DATA
--- destructive ALTER MATERIALIZED VIEW
ALTER MATERIALIZED VIEW daily_sales SET (autovacuum_enabled = off)
--- destructive ALTER MATERIALIZED VIEW
ALTER MATERIALIZED VIEW daily_sales CLUSTER ON daily_sales_day
--- destructive DROP MATERIALIZED VIEW
DROP MATERIALIZED VIEW IF EXISTS daily_sales
--- destructive CREATE SCHEMA
CREATE SCHEMA warehouse
--- destructive CREATE SCHEMA
CREATE SCHEMA IF NOT EXISTS AUTHORIZATION agent
--- destructive CREATE SCHEMA
CREATE SCHEMA warehouse CREATE TABLE r (id integer) CREATE VIEW v AS SELECT * FROM r GRANT SELECT ON v TO public
--- destructive ALTER SCHEMA
ALTER SCHEMA public RENAME TO private
--- destructive ALTER SCHEMA
ALTER SCHEMA public OWNER TO shop_ops
--- destructive DROP SCHEMA
DROP SCHEMA public CASCADE
--- destructive DROP SCHEMA
DROP SCHEMA IF EXISTS reporting RESTRICT
--- destructive CREATE STATISTICS
CREATE STATISTICS IF NOT EXISTS st (ndistinct, dependencies, mcv) ON name, (lower(status)) FROM customers
--- destructive ALTER STATISTICS
ALTER STATISTICS orders_stats SET STATISTICS 100
--- destructive DROP STATISTICS
DROP STATISTICS orders_stats

--# functions, procedures, triggers, rules, policies
--- destructive CREATE FUNCTION
CREATE FUNCTION f(a integer, OUT b integer) LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT a'
--- destructive CREATE FUNCTION
CREATE OR REPLACE FUNCTION f(VARIADIC x integer[] DEFAULT '{}') RETURNS TABLE (y integer) LANGUAGE plpgsql SECURITY DEFINER COST 5 ROWS 10 SET search_path = public AS $body$ BEGIN RETURN QUERY SELECT 1; END $body$
--- destructive CREATE FUNCTION
CREATE FUNCTION f(a integer) RETURNS integer RETURN a + 1
--- destructive CREATE FUNCTION
CREATE FUNCTION f() RETURNS SETOF orders LANGUAGE sql BEGIN ATOMIC SELECT * FROM orders; END
--- forbidden CREATE FUNCTION
--: stricter: it loads code into the server
--: untrusted language: for superusers
--: fails 42501
CREATE FUNCTION f() RETURNS integer LANGUAGE c AS 'libc', 'getpid'
--- destructive ALTER FUNCTION
ALTER FUNCTION order_total(integer) SECURITY DEFINER
--- destructive ALTER FUNCTION
ALTER FUNCTION order_total RENAME TO total_of
--- destructive ALTER FUNCTION
ALTER FUNCTION order_total(integer) SET work_mem = '1MB' RESET search_path
--- destructive DROP FUNCTION
DROP FUNCTION IF EXISTS order_total(integer), run_text(text)
--- destructive CREATE PROCEDURE
CREATE OR REPLACE PROCEDURE p(INOUT a integer) LANGUAGE plpgsql AS $$ BEGIN a := 1; COMMIT; END $$
--- destructive ALTER PROCEDURE
ALTER PROCEDURE close_orders(timestamptz) RENAME TO shut_orders
--- destructive DROP PROCEDURE
DROP PROCEDURE close_orders
--- destructive ALTER ROUTINE
ALTER ROUTINE order_total(integer) STABLE
--- destructive DROP ROUTINE
DROP ROUTINE close_orders(timestamptz)
--- destructive CREATE AGGREGATE
CREATE AGGREGATE longest(text) (SFUNC = textcat, STYPE = text, INITCOND = '')
--- destructive CREATE AGGREGATE
CREATE OR REPLACE AGGREGATE product_of(numeric) (SFUNC = numeric_mul, STYPE = numeric)
--- destructive ALTER AGGREGATE
ALTER AGGREGATE product_of(numeric) RENAME TO times
--- destructive DROP AGGREGATE
DROP AGGREGATE product_of(numeric)
--- destructive CREATE TRIGGER
CREATE TRIGGER touch BEFORE INSERT OR UPDATE OF name ON customers FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION touch_customer()
--- destructive CREATE TRIGGER
CREATE OR REPLACE TRIGGER touch AFTER TRUNCATE ON customers FOR EACH STATEMENT EXECUTE PROCEDURE touch_customer()
--- destructive CREATE TRIGGER
CREATE CONSTRAINT TRIGGER touch AFTER DELETE ON customers FROM orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION touch_customer()
--- destructive CREATE TRIGGER
CREATE TRIGGER seen AFTER UPDATE ON customers REFERENCING OLD TABLE AS was NEW TABLE AS now FOR EACH STATEMENT EXECUTE FUNCTION touch_customer('a', 1)
--- destructive ALTER TRIGGER
ALTER TRIGGER touch ON archive RENAME TO other
--- destructive DROP TRIGGER
DROP TRIGGER IF EXISTS touch ON archive CASCADE
--- destructive CREATE RULE
CREATE RULE quiet AS ON DELETE TO staging DO INSTEAD NOTHING
--- destructive CREATE RULE
CREATE OR REPLACE RULE also AS ON INSERT TO staging WHERE NEW.id > 5 DO ALSO (DELETE FROM jobs WHERE id = NEW.id; UPDATE archive SET notes = 'x' WHERE id = NEW.id)
--- destructive ALTER RULE
ALTER RULE keep_negative ON archive RENAME TO other
--- destructive DROP RULE
DROP RULE keep_negative ON archive
--- destructive CREATE POLICY
CREATE POLICY own ON orders AS RESTRICTIVE FOR SELECT TO agent, CURRENT_USER USING (customer_id = 1)
--- destructive CREATE POLICY
CREATE POLICY own ON orders WITH CHECK (true)
--- destructive ALTER POLICY
ALTER POLICY own ON archive USING (true)
--- destructive DROP POLICY
DROP POLICY IF EXISTS own ON archive
--- destructive CREATE EVENT TRIGGER
--: fails 42501
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION touch_customer()
--- destructive ALTER EVENT TRIGGER
--: fails 42704
ALTER EVENT TRIGGER watch DISABLE
--- destructive DROP EVENT TRIGGER
DROP EVENT TRIGGER IF EXISTS watch

--# types, domains, operators, casts, collations, conversions
--- destructive CREATE TYPE
CREATE TYPE colour AS ENUM ('red', 'green')
--- destructive CREATE TYPE
CREATE TYPE pair AS (a integer, b text COLLATE "C")
--- destructive CREATE TYPE
CREATE TYPE float_range AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi)
--- destructive CREATE TYPE
--: fails 42501
CREATE TYPE shell_only
--- destructive CREATE TYPE
--: fails 42501
CREATE TYPE base_type (INPUT = int4in, OUTPUT = int4out, LIKE = int4)
--- destructive ALTER TYPE
ALTER TYPE order_state ADD VALUE IF NOT EXISTS 'lost' BEFORE 'closed'
--- destructive ALTER TYPE
ALTER TYPE order_state RENAME VALUE 'new' TO 'fresh'
--- destructive ALTER TYPE
ALTER TYPE address ADD ATTRIBUTE country text CASCADE
--- destructive ALTER TYPE
ALTER TYPE price_range RENAME TO prices
--- destructive DROP TYPE
DROP TYPE price_range
--- destructive DROP TYPE
DROP TYPE IF EXISTS order_state CASCADE
--- destructive CREATE DOMAIN
CREATE DOMAIN percent AS numeric(5, 2) DEFAULT 0 CONSTRAINT bounded CHECK (VALUE BETWEEN 0 AND 100) NOT NULL
--- destructive ALTER DOMAIN
ALTER DOMAIN quantity DROP CONSTRAINT quantity_check
--- destructive ALTER DOMAIN
ALTER DOMAIN quantity ADD CONSTRAINT few CHECK (VALUE < 1000) NOT VALID
--- destructive ALTER DOMAIN
ALTER DOMAIN quantity SET DEFAULT 2
--- destructive DROP DOMAIN
DROP DOMAIN IF EXISTS email CASCADE
--- destructive CREATE OPERATOR
CREATE OPERATOR === (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq, COMMUTATOR = ===, RESTRICT = eqsel, HASHES)
--- destructive ALTER OPERATOR
ALTER OPERATOR <%> (integer, integer) SET (RESTRICT = eqsel)
--- destructive DROP OPERATOR
DROP OPERATOR IF EXISTS public.<%> (integer, integer)
--- destructive CREATE OPERATOR CLASS
--: fails 42501
CREATE OPERATOR CLASS my_ops FOR TYPE integer USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(integer, integer)
--- destructive ALTER OPERATOR CLASS
--: fails 42704
ALTER OPERATOR CLASS my_ops USING btree RENAME TO your_ops
--- destructive DROP OPERATOR CLASS
DROP OPERATOR CLASS IF EXISTS my_ops USING btree
--- destructive CREATE OPERATOR FAMILY
--: fails 42501
CREATE OPERATOR FAMILY my_family USING hash
--- destructive ALTER OPERATOR FAMILY
--: fails 42704
ALTER OPERATOR FAMILY my_family USING btree ADD OPERATOR 1 < (integer, bigint)
--- destructive DROP OPERATOR FAMILY
DROP OPERATOR FAMILY IF EXISTS my_family USING btree
--- destructive CREATE CAST
CREATE CAST (price_range AS text) WITH INOUT AS IMPLICIT
--- destructive CREATE CAST
--: fails 42501
CREATE CAST (order_state AS text) WITHOUT FUNCTION AS IMPLICIT
--- destructive DROP CAST
DROP CAST IF EXISTS (address AS text)
--- destructive CREATE COLLATION
CREATE COLLATION german (PROVIDER = icu, LOCALE = 'de-u-co-phonebk', DETERMINISTIC = true)
--- destructive CREATE COLLATION
CREATE COLLATION copied FROM "C"
--- destructive ALTER COLLATION
ALTER COLLATION plain RENAME TO fancy
--- destructive DROP COLLATION
DROP COLLATION IF EXISTS plain
--- destructive CREATE CONVERSION
CREATE DEFAULT CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8
--- destructive ALTER CONVERSION
ALTER CONVERSION latin RENAME TO other
--- destructive DROP CONVERSION
DROP CONVERSION IF EXISTS latin
--- destructive CREATE TRANSFORM
--: fails 42501
CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION int4send(integer), TO SQL WITH FUNCTION int4recv(internal))
--- destructive DROP TRANSFORM
DROP TRANSFORM IF EXISTS FOR integer LANGUAGE sql
--- destructive CREATE ACCESS METHOD
--: fails 42501
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler
--- destructive DROP ACCESS METHOD
DROP ACCESS METHOD IF EXISTS heap2

--# text search
--- destructive CREATE TEXT SEARCH CONFIGURATION
CREATE TEXT SEARCH CONFIGURATION shop (COPY = english)
--- destructive CREATE TEXT SEARCH DICTIONARY
CREATE TEXT SEARCH DICTIONARY more_words (TEMPLATE = simple, STOPWORDS = english)
--- destructive CREATE TEXT SEARCH PARSER
--: fails 42501
CREATE TEXT SEARCH PARSER shop (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype)
--- destructive CREATE TEXT SEARCH TEMPLATE
--: fails 42501
CREATE TEXT SEARCH TEMPLATE shop (INIT = dsimple_init, LEXIZE = dsimple_lexize)
--- destructive ALTER TEXT SEARCH CONFIGURATION
ALTER TEXT SEARCH CONFIGURATION shop_search ALTER MAPPING FOR word, hword WITH simple
--- destructive ALTER TEXT SEARCH DICTIONARY
ALTER TEXT SEARCH DICTIONARY shop_words (ACCEPT = false)
--- destructive ALTER TEXT SEARCH PARSER
--: fails 42501
ALTER TEXT SEARCH PARSER "default" RENAME TO other
--- destructive ALTER TEXT SEARCH TEMPLATE
--: fails 42501
ALTER TEXT SEARCH TEMPLATE simple SET SCHEMA public
--- destructive DROP TEXT SEARCH CONFIGURATION
DROP TEXT SEARCH CONFIGURATION IF EXISTS shop_search
--- destructive DROP TEXT SEARCH DICTIONARY
DROP TEXT SEARCH DICTIONARY IF EXISTS shop_words
--- destructive DROP TEXT SEARCH PARSER
DROP TEXT SEARCH PARSER IF EXISTS shop
--- destructive DROP TEXT SEARCH TEMPLATE
DROP TEXT SEARCH TEMPLATE IF EXISTS shop

--# roles and rights
--- destructive GRANT
GRANT SELECT ON customers TO shop_reader
--- destructive GRANT
GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA public TO PUBLIC
--- destructive GRANT
GRANT SELECT (id, name), UPDATE (name) ON TABLE customers TO shop_reader WITH GRANT OPTION GRANTED BY CURRENT_USER
--- destructive GRANT
GRANT USAGE, CREATE ON SCHEMA public TO shop_reader
--- destructive GRANT
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO shop_reader
--- destructive GRANT
GRANT USAGE ON SEQUENCE ticket_seq TO shop_reader
--- destructive GRANT
GRANT EXECUTE ON FUNCTION order_total(integer) TO shop_reader
--- destructive GRANT
GRANT USAGE ON TYPE order_state TO shop_reader
--- destructive GRANT
GRANT SELECT, UPDATE ON LARGE OBJECT 4242 TO shop_reader
--- destructive GRANT
GRANT USAGE ON FOREIGN SERVER elsewhere TO shop_reader
--- destructive GRANT
--: fails 42501
GRANT SET, ALTER SYSTEM ON PARAMETER work_mem TO shop_reader
--- destructive GRANT
GRANT USAGE ON LANGUAGE plpgsql TO shop_reader
--- destructive GRANT
GRANT CONNECT ON DATABASE postgres TO shop_reader
--- destructive GRANT ROLE
GRANT shop_ops TO shop_reader
--- destructive GRANT ROLE
GRANT shop_ops TO shop_reader WITH ADMIN OPTION
--- destructive GRANT ROLE
--: fails 42501
GRANT pg_execute_server_program TO agent
--- destructive REVOKE
REVOKE ALL ON customers FROM PUBLIC
--- destructive REVOKE
REVOKE GRANT OPTION FOR SELECT ON customers FROM shop_ops CASCADE
--- destructive REVOKE
REVOKE UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM agent
--- destructive REVOKE ROLE
REVOKE shop_ops FROM shop_reader
--- destructive REVOKE ROLE
REVOKE ADMIN OPTION FOR shop_ops FROM shop_reader
--- destructive ALTER DEFAULT PRIVILEGES
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC
--- destructive ALTER DEFAULT PRIVILEGES
ALTER DEFAULT PRIVILEGES FOR ROLE agent IN SCHEMA public REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC
--- destructive CREATE ROLE
--: fails 42501
CREATE ROLE intruder SUPERUSER LOGIN PASSWORD 'x' VALID UNTIL 'infinity' IN ROLE shop_ops
--- destructive CREATE ROLE
--: fails 42501
CREATE USER intruder WITH ENCRYPTED PASSWORD 'x'
--- destructive CREATE ROLE
--: fails 42501
CREATE GROUP intruders
--- destructive ALTER ROLE
ALTER ROLE agent SET search_path = shadow, public
--- destructive ALTER ROLE
ALTER ROLE agent WITH PASSWORD 'new'
--- destructive ALTER ROLE
ALTER USER CURRENT_USER SET standard_conforming_strings = off
--- destructive ALTER ROLE
--: fails 42501
ALTER ROLE shop_ops RENAME TO ops
--- destructive ALTER ROLE
--: fails 42501
ALTER ROLE ALL RESET ALL
--- destructive ALTER ROLE
--: fails 42501
ALTER GROUP shop_ops ADD USER shop_reader
--- destructive ALTER ROLE
--: fails 42501
ALTER ROLE agent SUPERUSER
--- destructive DROP ROLE
--: fails 42501
DROP ROLE IF EXISTS nobody_of_that_name
--- destructive DROP ROLE
--: fails 42501
DROP USER shop_reader
--- destructive DROP ROLE
--: fails 42501
DROP GROUP shop_reader
--- destructive DROP OWNED
DROP OWNED BY agent CASCADE
--- destructive DROP OWNED
--: fails 2BP01
DROP OWNED BY CURRENT_USER
--- destructive REASSIGN OWNED
REASSIGN OWNED BY agent TO shop_ops
--- destructive SECURITY LABEL
--: fails 22023
SECURITY LABEL FOR selinux ON TABLE customers IS 'x'
--- destructive SECURITY LABEL
--: fails 22023
SECURITY LABEL ON ROLE agent IS NULL
--- destructive COMMENT
COMMENT ON TABLE customers IS 'people'
--- destructive COMMENT
COMMENT ON COLUMN customers.name IS NULL
--- destructive COMMENT
COMMENT ON FUNCTION order_total(integer) IS 'sum'
--- destructive COMMENT
--: fails 42501
COMMENT ON DATABASE postgres IS 'x'

--# databases, tablespaces, the server
--- destructive CREATE DATABASE
--: fails 42501
CREATE DATABASE other WITH OWNER agent TEMPLATE template0 ENCODING 'UTF8'
--- destructive ALTER DATABASE
--: fails 42501
ALTER DATABASE postgres SET work_mem = '1GB'
--- destructive ALTER DATABASE
--: fails 42501
ALTER DATABASE postgres RENAME TO other
--- destructive ALTER DATABASE
--: fails 42501
ALTER DATABASE postgres WITH ALLOW_CONNECTIONS false CONNECTION LIMIT 0
--- destructive ALTER DATABASE
--: fails 42501
ALTER DATABASE postgres REFRESH COLLATION VERSION
--- destructive DROP DATABASE
DROP DATABASE IF EXISTS no_such_database WITH (FORCE)
--- destructive CREATE TABLESPACE
--: judgement: it names a folder of the server; DDL by the list
--: fails 42501
CREATE TABLESPACE fast OWNER agent LOCATION '/mnt/fast' WITH (random_page_cost = 1)
--- destructive ALTER TABLESPACE
--: fails 42501
ALTER TABLESPACE pg_default SET (seq_page_cost = 2)
--- destructive DROP TABLESPACE
DROP TABLESPACE IF EXISTS fast
--- forbidden ALTER SYSTEM
--: fails 42501
ALTER SYSTEM SET archive_command = 'rm -rf /'
--- forbidden ALTER SYSTEM
--: fails 42501
ALTER SYSTEM RESET ALL
--- forbidden CREATE EXTENSION
CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public CASCADE
--- forbidden CREATE EXTENSION
--: fails 0A000
CREATE EXTENSION plpython3u VERSION '1.0'
--- forbidden ALTER EXTENSION
--: judgement: the list names CREATE alone; forbidden is as good an answer
--: fails 42501
ALTER EXTENSION plpgsql UPDATE TO '1.0'
--- forbidden ALTER EXTENSION
--: stricter: as CREATE EXTENSION
--: fails 42501
ALTER EXTENSION plpgsql ADD TABLE staging
--- destructive DROP EXTENSION
DROP EXTENSION IF EXISTS hstore CASCADE
--- forbidden CREATE EXTENSION
--: the grammar takes it for CREATE EXTENSION since version 13
--: fails 0A000
CREATE LANGUAGE plpython3u
--- forbidden CREATE LANGUAGE
--: fails 42501
CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE mine HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler VALIDATOR plpgsql_validator
--- destructive ALTER LANGUAGE
--: fails 42501
ALTER LANGUAGE plpgsql OWNER TO agent
--- destructive DROP LANGUAGE
DROP LANGUAGE IF EXISTS plpython3u

--# foreign data, publications, subscriptions, large objects
--- forbidden CREATE FOREIGN DATA WRAPPER
--: stricter: it opens the way to other servers
--: judgement: DDL by the list; what it opens is CREATE SERVER
--: fails 42501
CREATE FOREIGN DATA WRAPPER mine NO HANDLER OPTIONS (debug 'true')
--- forbidden ALTER FOREIGN DATA WRAPPER
--: stricter: as CREATE
--: fails 42501
ALTER FOREIGN DATA WRAPPER nowhere OPTIONS (ADD a 'b')
--- destructive DROP FOREIGN DATA WRAPPER
--: fails 42501
DROP FOREIGN DATA WRAPPER nowhere CASCADE
--- forbidden CREATE SERVER
CREATE SERVER IF NOT EXISTS out TYPE 'x' VERSION '1' FOREIGN DATA WRAPPER nowhere OPTIONS (host '10.0.0.1')
--- forbidden ALTER SERVER
--: judgement: the list names CREATE alone; forbidden is as good an answer
ALTER SERVER elsewhere VERSION '2' OPTIONS (ADD host '10.0.0.1')
--- destructive DROP SERVER
DROP SERVER IF EXISTS elsewhere CASCADE
--- forbidden CREATE USER MAPPING
CREATE USER MAPPING IF NOT EXISTS FOR shop_ops SERVER elsewhere OPTIONS (user 'u', password 'p')
--- forbidden ALTER USER MAPPING
--: judgement: the list names CREATE alone; forbidden is as good an answer
ALTER USER MAPPING FOR agent SERVER elsewhere OPTIONS (SET password 'q')
--- destructive DROP USER MAPPING
DROP USER MAPPING IF EXISTS FOR agent SERVER elsewhere
--- destructive CREATE FOREIGN TABLE
CREATE FOREIGN TABLE ft (id integer OPTIONS (name 'x') NOT NULL) SERVER elsewhere OPTIONS (table 't')
--- destructive CREATE FOREIGN TABLE
CREATE FOREIGN TABLE ft PARTITION OF events DEFAULT SERVER elsewhere
--- destructive ALTER FOREIGN TABLE
ALTER FOREIGN TABLE IF EXISTS remote_orders OPTIONS (DROP a), ADD COLUMN b text
--- destructive DROP FOREIGN TABLE
DROP FOREIGN TABLE IF EXISTS remote_orders
--- destructive IMPORT FOREIGN SCHEMA
--: judgement: it makes tables, and asks another server which
--: fails 55000
IMPORT FOREIGN SCHEMA public LIMIT TO (a, b) FROM SERVER elsewhere INTO public OPTIONS (x 'y')
--- destructive IMPORT FOREIGN SCHEMA
--: fails 55000
IMPORT FOREIGN SCHEMA other EXCEPT (c) FROM SERVER elsewhere INTO public
--- destructive CREATE PUBLICATION
CREATE PUBLICATION pub FOR TABLE orders (id, total) WHERE (total > 10), ONLY staging WITH (publish = 'insert')
--- destructive CREATE PUBLICATION
--: fails 42501
CREATE PUBLICATION pub FOR ALL TABLES
--- destructive CREATE PUBLICATION
--: fails 42501
CREATE PUBLICATION pub FOR TABLES IN SCHEMA public
--- destructive ALTER PUBLICATION
ALTER PUBLICATION shop_changes ADD TABLE orders
--- destructive ALTER PUBLICATION
ALTER PUBLICATION shop_changes SET (publish = 'insert, update')
--- destructive DROP PUBLICATION
DROP PUBLICATION IF EXISTS shop_changes
--- forbidden CREATE SUBSCRIPTION
--: fails 42501
CREATE SUBSCRIPTION sub CONNECTION 'host=10.0.0.1 dbname=x' PUBLICATION pub WITH (connect = false)
--- forbidden ALTER SUBSCRIPTION
--: stricter: as CREATE
--: judgement: the list names CREATE alone; forbidden is as good an answer
--: fails 42704
ALTER SUBSCRIPTION sub CONNECTION 'host=10.0.0.2'
--- forbidden ALTER SUBSCRIPTION
--: stricter: as CREATE
--: fails 42704
ALTER SUBSCRIPTION sub REFRESH PUBLICATION WITH (copy_data = true)
--- forbidden ALTER SUBSCRIPTION
--: stricter: as CREATE
--: fails 42704
ALTER SUBSCRIPTION sub DISABLE
--- destructive DROP SUBSCRIPTION
DROP SUBSCRIPTION IF EXISTS sub
--- destructive ALTER LARGE OBJECT
ALTER LARGE OBJECT 4242 OWNER TO shop_ops

--# what no reader can classify
--- destructive UNKNOWN
--: not SQL at all; the server refuses it too
--: fails 42601
HELLO WORLD
--- destructive UNKNOWN
--: fails 42601
SELECT FROM WHERE
--- destructive UNKNOWN
--: fails 42601
SELECT 'unterminated
--- destructive UNKNOWN
--: fails 42601
SELECT 1 /* unterminated
--- destructive UNKNOWN
--: the second statement cannot be read, so none is
--: fails 42601
SELECT 1; DELET FROM orders
