# Runs each way in a session of its own, by the driver that is named, and prints all that it sees.
import asyncio, json, sys

driver, path = sys.argv[1], sys.argv[2]
# Where it is told how, it makes everything anew before each way.
anew = open(sys.argv[3]).read() if len(sys.argv) > 3 else None
ways = [line.rstrip("\n") for line in open(path) if line.strip()]


def shown(value):
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex() + " " + bytes(value).decode("latin-1")
    return repr(value) + " " + str(value)


def run_psycopg(way, binary):
    import psycopg

    seen = []
    connection = psycopg.connect("", autocommit=True)
    connection.add_notice_handler(lambda d: seen.append(shown([d.message_primary, d.message_detail, d.context])))
    connection.add_notify_handler(lambda n: seen.append(shown(n.payload)))
    with connection:
        for statement in way.split(" ;; "):
            cursor = connection.cursor(binary=binary)
            try:
                if statement.upper().startswith("COPY"):
                    with cursor.copy(statement) as copy:
                        seen.extend(shown(data) for data in copy)
                    continue
                if binary:
                    cursor.execute(statement, prepare=True)
                else:
                    cursor.execute(statement)
                while True:
                    if cursor.description:
                        result = cursor.pgresult
                        for row in range(result.ntuples):
                            for column in range(result.nfields):
                                value = result.get_value(row, column)
                                seen.append("NULL" if value is None else shown(value))
                    if not cursor.nextset():
                        break
            except psycopg.Error as error:
                d = error.diag
                seen.append(shown([str(error), d.message_detail, d.message_hint, d.context, d.internal_query]))
        for name in (b"application_name", b"my.secret"):
            seen.append(shown(connection.pgconn.parameter_status(name)))
    return seen


def run_psql(way):
    import subprocess

    # Not as arguments: those are the process's own words, and stand in the log as such.
    text = "".join(statement + ";\n" for statement in way.split(" ;; "))
    arguments = ["psql", "-X", "-q", "-A", "-t"]
    ran = subprocess.run(arguments, input=text.encode(), capture_output=True, timeout=60)
    return [shown(ran.stdout), shown(ran.stderr)]


async def run_asyncpg(way):
    import asyncpg

    seen = []
    connection = await asyncpg.connect()
    connection.add_log_listener(lambda _, m: seen.append(shown(m.as_dict())))
    try:
        for statement in way.split(" ;; "):
            try:
                if statement.upper().startswith("COPY"):
                    continue
                for row in await connection.fetch(statement):
                    seen.extend(shown(value) for value in row.values())
            except Exception as error:
                seen.append(shown([str(error), getattr(error, "detail", None), getattr(error, "context", None)]))
    finally:
        await connection.close()
    return seen


for way in ways:
    if anew:
        import psycopg

        with psycopg.connect("", autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS public, elsewhere CASCADE")
            connection.execute("CREATE SCHEMA public")
            connection.execute(anew)
    try:
        if driver == "asyncpg":
            seen = asyncio.run(asyncio.wait_for(run_asyncpg(way), 20))
        elif driver == "psql":
            seen = run_psql(way)
        else:
            seen = run_psycopg(way, driver == "binary")
    except Exception as error:
        seen = ["broken " + str(error)]
    print(json.dumps({"way": way, "seen": seen}), flush=True)
