# An agent that uses SQLAlchemy 2, over psycopg 3 or asyncpg. Its arguments are the driver's name and
# the file of the authority that it trusts.
import asyncio, os, ssl, sys, threading

from sqlalchemy import Integer, MetaData, Table, Column, Text, create_engine, exc, insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine

driver, root = sys.argv[1:]
host, port = os.environ["PGHOST"], os.environ["PGPORT"]
url = f"postgresql+{driver}://postgres@{host}:{port}/postgres"
orders = Table("orders", MetaData(), Column("id", Integer), Column("name", Text))


def common(db):
    """What does not depend on the driver."""
    orders.create(db)
    for n in range(5):
        db.execute(insert(orders), {"id": n, "name": f"row {n}"})
    for n in (1, 2, 3):
        assert db.execute(select(orders.c.name).where(orders.c.id == n)).scalar_one() == f"row {n}"
    db.commit()
    try:
        db.execute(text("INSERT INTO orders VALUES (100, 'gone')"))
        db.execute(text("SELECT 1/0"))
        raise SystemExit("it should have failed")
    except exc.DBAPIError as error:
        assert "division by zero" in str(error.orig), error
    db.rollback()
    assert db.execute(text("SELECT count(*) FROM orders")).scalar_one() == 5
    row = db.execute(text(r"SELECT 7::int8, 2.5::float8, '\x00ff'::bytea, true".replace(":", r"\:"))).one()
    assert tuple(row) == (7, 2.5, b"\x00\xff", True), row
    db.commit()


def over_psycopg():
    engine = create_engine(url, connect_args={"prepare_threshold": 0})
    with engine.connect() as db:
        common(db)
        own = db.connection.driver_connection
        cursor = own.cursor()
        with cursor.copy("COPY orders FROM STDIN") as copy:
            copy.write("7\tcopied\n8\tcopied\n")
        with cursor.copy("COPY (SELECT id FROM orders WHERE id > 6 ORDER BY id) TO STDOUT") as copy:
            assert b"".join(bytes(part) for part in copy) == b"7\n8\n"
        db.commit()
        over = threading.Event()

        def cancel():
            while not over.wait(0.5):
                own.cancel_safe()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            db.execute(text("SELECT pg_sleep(60)"))
            raise SystemExit("the cancel did not work")
        except exc.OperationalError as error:
            assert "canceling statement" in str(error), error
        finally:
            over.set()
            canceller.join()
        db.rollback()
        assert db.execute(text("SELECT 42")).scalar_one() == 42
    engine.dispose()


async def over_asyncpg():
    trust = ssl.create_default_context(cafile=root)
    engine = create_async_engine(url, connect_args={"ssl": trust})
    async with engine.connect() as db:
        await db.run_sync(common)
        own = (await db.get_raw_connection()).driver_connection
        import io
        await own.copy_to_table("orders", source=io.BytesIO(b"7\tcopied\n8\tcopied\n"))
        out = io.BytesIO()
        await own.copy_from_query("SELECT id FROM orders WHERE id > 6 ORDER BY id", output=out)
        assert out.getvalue() == b"7\n8\n", out.getvalue()
        sleeping = asyncio.ensure_future(own.fetch("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.5)
        sleeping.cancel()
        try:
            await sleeping
            raise SystemExit("the cancel did not work")
        except asyncio.CancelledError:
            pass
        assert await own.fetchval("SELECT 42") == 42
    await engine.dispose()


if driver == "psycopg":
    over_psycopg()
else:
    asyncio.run(over_asyncpg())
print("done")
