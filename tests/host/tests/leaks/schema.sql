CREATE TABLE public.customers (
    id int PRIMARY KEY, note text, email text UNIQUE, phone varchar(40), pan char(20), tags text[],
    doc jsonb, plain json, born date, seen timestamptz, balance numeric(20,2), score float8,
    serial bigint, raw bytea, key uuid, ip inet, page xml
);
INSERT INTO public.customers VALUES
 (1, 'first note', 'zq7secretmail@leak.example', '+49 30 55512345', '4929777712345678',
  '{tagsecretone,tagsecrettwo}', '{"k": "docsecretvalue"}', '{"k": "plainsecretvalue"}',
  '1961-07-13', '1999-08-17 11:22:33.444+00', 918273645.55, 7713.250917, 7788990011223344,
  '\xfeedfacedeadbeef0102', 'a3b1c2d4-e5f6-4711-8899-aabbccddeeff', '203.0.113.77',
  '<a>pagesecretvalue</a>'),
 (2, 'second note', 'wv8secretmail@leak.example', '+49 30 55567890', '4929888812345678',
  '{tagsecretthree}', '{"k": "docsecretother"}', '{"k": "plainsecretother"}',
  '1962-08-14', '2001-09-18 12:23:34.555+00', 827364519.44, 8814.360817, 8899001122334455,
  '\xcafebabe0badf00d0304', 'b4c2d3e5-f6a7-4822-99aa-bbccddeeff00', '198.51.100.88',
  '<a>pagesecretother</a>');
CREATE TABLE public.orders (id int PRIMARY KEY, customer int REFERENCES public.customers, what text);
INSERT INTO public.orders VALUES (1, 1, 'a lamp'), (2, 2, 'a chair');
CREATE VIEW public.people AS SELECT id, email AS address, note FROM public.customers;
CREATE VIEW public.folk AS SELECT id, upper(address) AS shout, note FROM public.people;
CREATE MATERIALIZED VIEW public.frozen AS SELECT id, email, note FROM public.customers;
CREATE TABLE public.parted (id int, email text) PARTITION BY RANGE (id);
CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES FROM (0) TO (100);
INSERT INTO public.parted VALUES (1, 'zq7secretmail@leak.example');
CREATE FUNCTION public.mail_of(int) RETURNS text LANGUAGE sql AS 'SELECT email FROM public.customers WHERE id = $1';
CREATE FUNCTION public.all_of() RETURNS SETOF public.customers LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM public.customers';
CREATE FUNCTION public.peek(public.orders) RETURNS text LANGUAGE sql AS 'SELECT email FROM public.customers WHERE id = $1.customer';
CREATE FUNCTION public.leak(int, int) RETURNS text LANGUAGE sql AS 'SELECT email FROM public.customers WHERE id = $1';
CREATE OPERATOR public.=== (FUNCTION = public.leak, LEFTARG = int, RIGHTARG = int);
CREATE TYPE public.told AS (e text);
CREATE FUNCTION public.tell(int) RETURNS public.told LANGUAGE sql AS 'SELECT ROW(email)::public.told FROM public.customers WHERE id = $1';
CREATE CAST (int AS public.told) WITH FUNCTION public.tell(int);
CREATE TYPE public.kind AS (id int, email text);
CREATE TABLE public.typed OF public.kind;
INSERT INTO public.typed VALUES (1, 'zq7secretmail@leak.example');
ANALYZE;
