# An agent that uses asyncpg. Its argument is the file of the authority that it trusts.
import asyncio, io, ssl, sys

import asyncpg


async def main():
    trust = ssl.create_default_context(cafile=sys.argv[1])
    db = await asyncpg.connect(timeout=20, ssl=trust)
    await db.execute("CREATE TABLE orders (id int, name text)")
    await db.executemany("INSERT INTO orders VALUES ($1, $2)", [(n, f"row {n}") for n in range(5)])
    select = await db.prepare("SELECT name FROM orders WHERE id = $1")
    for n in (1, 2, 3):
        assert await select.fetchval(n) == f"row {n}"
    async with db.transaction():
        found = [row["id"] async for row in db.cursor("SELECT id FROM orders ORDER BY id", prefetch=2)]
        assert found == [0, 1, 2, 3, 4], found
    try:
        async with db.transaction():
            await db.execute("INSERT INTO orders VALUES (100, 'gone')")
            await db.fetch("SELECT 1/0")
        raise SystemExit("it should have failed")
    except asyncpg.DivisionByZeroError:
        pass
    assert await db.fetchval("SELECT count(*) FROM orders") == 5

    # The log is to have lines: as a table this driver copies in binary.
    await db.copy_to_table("orders", source=io.BytesIO(b"7\tcopied\n8\tcopied\n"))
    await db.copy_records_to_table("orders", records=[(9, "binary")])
    out = io.BytesIO()
    await db.copy_from_query("SELECT id FROM orders WHERE id > 6 AND id < 9 ORDER BY id", output=out)
    assert out.getvalue() == b"7\n8\n", out.getvalue()
    row = await db.fetchrow(r"SELECT 7::int8, 2.5::float8, '\x00ff'::bytea, true")
    assert tuple(row) == (7, 2.5, b"\x00\xff", True), row

    heard = asyncio.get_running_loop().create_future()
    await db.add_listener("news", lambda *about: heard.done() or heard.set_result(about[3]))
    await db.execute("NOTIFY news, 'hello'")
    assert await asyncio.wait_for(heard, 20) == "hello"

    sleeping = asyncio.ensure_future(db.fetch("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.5)
    sleeping.cancel()
    try:
        await sleeping
        raise SystemExit("the cancel did not work")
    except asyncio.CancelledError:
        pass
    assert await db.fetchval("SELECT 42") == 42
    await db.close()
    print("done")


asyncio.run(main())
