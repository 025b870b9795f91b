# An agent that uses psycopg 3, with whichever libpq it brings.
import threading

import psycopg

db = psycopg.connect("", autocommit=True)
db.execute("CREATE TABLE orders (id int, name text)")
for n in range(5):
    db.execute("INSERT INTO orders VALUES (%s, %s)", (n, f"row {n}"), prepare=True)
for n in (1, 2, 3):
    found = db.execute("SELECT name FROM orders WHERE id = %s", (n,), prepare=True).fetchone()
    assert found == (f"row {n}",), found

try:
    with db.transaction():
        db.execute("INSERT INTO orders VALUES (100, 'gone')")
        db.execute("SELECT 1/0")
    raise SystemExit("it should have failed")
except psycopg.errors.DivisionByZero:
    pass
assert db.execute("SELECT count(*) FROM orders").fetchone() == (5,)

cursor = db.cursor()
with cursor.copy("COPY orders FROM STDIN") as copy:
    copy.write_row((7, "copied"))
    copy.write_row((8, "copied"))
with cursor.copy("COPY (SELECT id FROM orders WHERE id > 6 ORDER BY id) TO STDOUT") as copy:
    assert b"".join(bytes(part) for part in copy) == b"7\n8\n"

with db.cursor(binary=True) as binary:
    binary.execute(r"SELECT 7::int8, 2.5::float8, '\x00ff'::bytea, true")
    assert binary.fetchone() == (7, 2.5, b"\x00\xff", True)

# An error in the middle of a pipeline: what is behind it up to the next sync is passed over.
cursors = [db.cursor() for _ in range(4)]
try:
    with db.pipeline() as pipeline:
        cursors[0].execute("SELECT 'before'")
        cursors[1].execute("SELECT 2/0")
        cursors[2].execute("SELECT 'behind'")
        pipeline.sync()
    raise SystemExit("it should have failed")
except (psycopg.errors.DivisionByZero, psycopg.errors.PipelineAborted):
    pass
with db.pipeline():
    cursors[3].execute("SELECT 'afterwards'")
assert cursors[3].fetchone() == ("afterwards",)

heard = []
db.add_notify_handler(lambda news: heard.append(news.payload))
db.execute("LISTEN news")
db.execute("NOTIFY news, 'hello'")
db.execute("SELECT 1")
assert heard == ["hello"], heard

# One by libpq's older call, in the clear, or where there is one by the newer, encrypted as the
# session is.
over = threading.Event()


def cancel():
    while not over.wait(0.5):
        getattr(db, "cancel_safe", db.cancel)()


canceller = threading.Thread(target=cancel)
canceller.start()
try:
    db.execute("SELECT pg_sleep(60)")
    raise SystemExit("the cancel did not work")
except psycopg.errors.QueryCanceled:
    pass
finally:
    over.set()
    canceller.join()
assert db.execute("SELECT 42").fetchone() == (42,)
db.close()
print("done", psycopg.pq.version())
