//! What an operator, an agent's owner and an auditor would try, in combinations that no other file
//! has: derived from the promises, not from the code.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Certificates, Host, Kind, Scene, compile_agent, sha256, wait_until};
use serde_json::Value;

/// Debian's `psql` itself, not the wrapper of that name.
const PSQL: &str = "/usr/lib/postgresql/15/bin/psql";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Rows as the plain sqlite3 shell shows them.
fn sqlite3(host: &Host, sql: &str) -> Result<String> {
    let file = format!("file:{}?mode=ro", host.log().display());
    let output = Command::new("sqlite3").args([&file, sql]).output()?;
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// A folder in which the agent may write.
fn workshop(host: &Host) -> Result<PathBuf> {
    let folder = host.folder().join("workshop");
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    Ok(folder)
}

/// Runs a shell's script as the agent, and answers the commands that it ran.
fn by_shell(host: &Host, script: &str) -> Result<Vec<Value>> {
    let before = host.commands()?.len();
    let script = format!("{script}\ntrue");
    host.agent("timeout", &["60", "bash", "-ec", &script])?.ok()?;
    Ok(host.commands()?.split_off(before))
}

#[test]
fn p3_what_starts_a_program_hides_neither_it_nor_itself() -> Result<()> {
    let host = Host::start()?;
    let (psql, digest, ip) = (PSQL, sha256(Path::new(PSQL))?, host.address());
    for (launch, lineage, count) in [
        (format!("env -i {psql} -Xc 'SELECT 1' 'host={ip} user=postgres'"), "bash → env → psql", 1),
        (format!("nohup {psql} -Xc 'SELECT 1'"), "bash → nohup → psql", 1),
        (format!("setsid -w {psql} -Xc 'SELECT 1'"), "bash → setsid → psql", 1),
        (format!("find /etc/passwd -exec {psql} -Xc 'SELECT 1' ';'"), "bash → find → psql", 1),
        (
            format!("printf '1 2 3 4' | xargs -n1 -P4 {psql} -Xc 'SELECT 1' -v"),
            "bash → xargs → psql",
            4,
        ),
        (format!("exec -a sshd {psql} -Xc 'SELECT 1'"), "bash → psql", 1),
        (format!("exec -a '' {psql} -Xc 'SELECT 1'"), "bash → psql", 1),
    ] {
        let rows = by_shell(&host, &launch)?;
        assert_eq!(rows.len(), count, "{launch}: {rows:?}");
        for row in rows {
            assert!(text(&row["lineage"]).ends_with(lineage), "{launch}: {row}");
            assert_eq!(row["executable"], psql, "{launch}");
            assert_eq!(row["binary"], digest.as_str(), "{launch}");
        }
    }
    Ok(())
}

#[test]
fn p3_a_program_is_known_by_its_hash_whatever_its_file_is_called() -> Result<()> {
    let host = Host::start()?;
    let folder = workshop(&host)?;
    let program = compile_agent(&folder.join("program"), "program")?;
    let (digest, ip, at) = (sha256(&program)?, host.address(), folder.display());
    for name in ["a b", "a\nb", "a\"b", "a'b", "a → b", "a | b", "-n", "\u{1b}[31mred"] {
        let place = folder.join(name);
        fs::copy(&program, &place)?;
        let place = place.display().to_string();
        host.agent(&place, &[&ip.to_string(), "connect", "query=SELECT 1"])?.ok()?;
        let row = host.commands()?.pop().context("no command")?;
        assert_eq!((&row["executable"], &row["binary"]), (&place.into(), &digest.clone().into()));
        // The table stays one, and no name speaks to the terminal.
        let shown = host.chaperone(&["agents"])?.ok()?;
        assert!(!shown.contains('\u{1b}'), "{shown}");
        let whole = |line: &str| line.is_empty() || line.starts_with([' ']) && line.len() > 20;
        assert!(shown.lines().all(whole), "{shown}");
    }
    for (start, executable) in [
        (format!("ln -s {at}/program {at}/ls; {at}/ls"), format!("{at}/program")),
        (
            format!("cp {at}/program {at}/own; ln {at}/own {at}/hard; {at}/hard"),
            format!("{at}/hard"),
        ),
        (
            // It is gone by the time that it connects.
            format!("cp {at}/program {at}/gone; sh -c 'sleep 0.3; rm {at}/gone; echo' | {at}/gone"),
            format!("{at}/gone (deleted)"),
        ),
    ] {
        let steps = if start.contains("gone") { "wait connect" } else { "connect" };
        let rows = by_shell(&host, &format!("{start} {ip} {steps} 'query=SELECT 1'"))?;
        assert_eq!(rows.len(), 1, "{start}");
        assert_eq!(rows[0]["executable"], executable, "{start}");
        assert_eq!(rows[0]["binary"], digest.as_str(), "{start}");
    }
    // No file has it at all.
    let memory = format!(
        "import os\nf = os.memfd_create('ls')\nos.write(f, open('{at}/program', 'rb').read())\n\
         os.execve(f'/proc/self/fd/{{f}}', ['ls', '{ip}', 'connect', 'query=SELECT 1'], {{}})"
    );
    host.python(&memory)?.ok()?;
    let row = host.commands()?.pop().context("no command")?;
    assert_eq!(row["binary"], digest.as_str(), "{row}");
    Ok(())
}

#[test]
fn p3_pools_of_processes_are_told_apart_by_process_and_known_by_their_script() -> Result<()> {
    let host = Host::start()?;
    let modules = std::env::var("NODE_PATH")
        .context("NODE_PATH is not set: run the tests by `cargo xtask test`")?;
    let python = host.folder().join("pool.py");
    write(
        &python,
        "import multiprocessing, os, psycopg\n\
         def work(i):\n    psycopg.connect('', autocommit=True).execute(f'SELECT {os.getpid()}, {i}')\n\
         if __name__ == '__main__':\n    \
         with multiprocessing.get_context('fork').Pool(4) as pool: pool.map(work, range(8), 1)\n",
    )?;
    let node = host.folder().join("cluster.js");
    write(
        &node,
        "const cluster = require('cluster'), { Client } = require('pg');\n\
         if (cluster.isPrimary) { for (let i = 0; i < 4; i++) cluster.fork(); }\n\
         else (async () => { const db = new Client(); await db.connect();\n\
         await db.query(`SELECT ${process.pid}, 0`); await db.end(); process.exit(0); })();\n",
    )?;
    for (script, interpreter, count) in [(&python, "python3", 8), (&node, "node", 4)] {
        let path = script.display().to_string();
        let variable = format!("NODE_PATH={modules}");
        let before = host.commands()?.len();
        host.agent("timeout", &["60", "env", &variable, interpreter, &path])?.ok()?;
        let rows = host.commands()?.split_off(before);
        let rows: Vec<_> = rows.iter().filter(|row| row["kind"] != "prepare").collect();
        assert_eq!(rows.len(), count, "{rows:?}");
        let name = script.file_name().context("a name")?.to_string_lossy();
        for row in rows {
            let said = text(&row["statement"]);
            assert!(said.starts_with(&format!("SELECT {},", row["pid"])), "{row}");
            assert!(text(&row["lineage"]).ends_with(&format!("{name} → {name}")), "{row}");
            assert_eq!(row["script_digest"], sha256(script)?, "{row}");
            assert_eq!(row["doubts"], Value::Null, "{row}");
        }
    }
    assert_eq!(sqlite3(&host, "SELECT count(DISTINCT run) FROM commands")?, "2");
    Ok(())
}

#[test]
fn p3_two_hundred_connections_of_one_process_lose_and_mix_up_nothing() -> Result<()> {
    let host = Host::start()?;
    let code = "
import asyncio, asyncpg
async def main():
    all = await asyncio.gather(*[asyncpg.connect() for _ in range(200)])
    answers = await asyncio.gather(*[db.fetchval('SELECT $1::int', i) for i, db in enumerate(all)])
    assert answers == list(range(200)), answers
    await asyncio.gather(*[db.close() for db in all])
asyncio.run(main())";
    host.agent("timeout", &["60", &host.newer_python()?, "-c", code])?.ok()?;
    assert_eq!(host.closed_sessions()?.len(), 200);
    host.commands()?;
    let sql = "SELECT count(*), count(DISTINCT session), count(DISTINCT parameters), \
               count(DISTINCT pid), count(DISTINCT run) FROM commands \
               WHERE statement = 'SELECT $1::int' AND kind = 'execute'";
    assert_eq!(sqlite3(&host, sql)?, "200|200|200|1|1");
    Ok(())
}

/// A pool of eight connections, each of which is made anew once where it is found broken.
const POOL: &str = r#"
import sys, psycopg
def connect(): return psycopg.connect("connect_timeout=10", autocommit=True)
pool = [connect() for _ in range(8)]
print("ready", flush=True)
for line in sys.stdin:
    word, said = line.strip(), []
    for i in range(8):
        for attempt in range(2):
            try:
                pool[i].execute(f"SELECT '{word}', {i}")
                break
            except psycopg.Error as error:
                said.append(str(error))
                try: pool[i] = connect()
                except psycopg.Error as error:
                    said.append(str(error))
                    break
    print(word, "done:", *[line for line in " ".join(said).splitlines()], flush=True)
"#;

#[test]
fn p1_p3_a_pool_outlives_the_daemon_and_the_server_and_stays_one_run() -> Result<()> {
    let mut host = Host::start()?;
    let (script, output) = (host.folder().join("pool.py"), workshop(&host)?.join("output"));
    write(&script, POOL)?;
    let start = format!("exec python3 {} > {} 2>&1", script.display(), output.display());
    let mut pool = host.start_agent("bash", &["-c", &start])?;
    let read = || fs::read_to_string(&output).unwrap_or_default();
    wait_until("the pool is there", || read().contains("ready"))?;
    let mut round = |word: &str| -> Result<String> {
        pool.say(word)?;
        let begin = format!("{word} done:");
        wait_until(word, || read().contains(&begin))?;
        let all = read();
        Ok(all.lines().find(|line| line.starts_with(&begin)).unwrap_or_default().to_owned())
    };
    assert_eq!(round("first")?, "first done:");
    host.commands()?;
    host.kill_daemon()?;
    let said = round("down")?;
    assert!(said.contains("Connection refused"), "{said}");
    host.start_daemon()?;
    round("killed")?;
    host.commands()?;
    host.stop_daemon()?;
    host.start_daemon()?;
    let said = round("stopped")?;
    assert!(said.contains("the daemon stops"), "{said}");
    host.postgres().crash();
    host.stop_postgres();
    let said = round("away")?;
    assert!(said.contains("chaperone could not connect to target prod"), "{said}");
    pool.finish()?.ok()?;
    host.closed_sessions()?;
    let sql = "SELECT statement, count(*) FROM commands WHERE status = 'ok' \
               GROUP BY substr(statement, 1, 12) ORDER BY min(id)";
    let rows = sqlite3(&host, sql)?;
    let counts: Vec<_> = rows.lines().filter_map(|line| line.rsplit('|').next()).collect();
    assert_eq!(counts, ["8", "8", "8"], "{rows}");
    assert_eq!(sqlite3(&host, "SELECT count(DISTINCT run) FROM sessions")?, "1");
    Ok(())
}

/// Prints how a sign-on fails, by driver.
const JAVA: &str = r#"
import java.sql.*; import java.util.*;
public class Refused { public static void main(String[] args) throws Exception {
    for (String mode : new String[] {"disable", "require"}) {
        Properties properties = new Properties();
        properties.setProperty("user", "postgres"); properties.setProperty("sslmode", mode);
        try { DriverManager.getConnection("jdbc:postgresql://" + args[0] + "/postgres", properties); }
        catch (SQLException error) { System.out.println(error.getSQLState() + " " + error.getMessage()); }
    }
} }"#;
const NODE: &str = r"
const { Client } = require('pg'), ssl = { rejectUnauthorized: false };
(async () => { for (const options of [{}, { ssl }, { ssl, sslnegotiation: 'direct' }])
    try { await new Client(options).connect(); }
    catch (error) { console.log(error.code, error.message, error.hint); } })();";
const PSYCOPG: &str = "
import psycopg
for options in 'sslmode=disable', 'sslmode=require', 'sslmode=require sslnegotiation=direct':
    try: psycopg.connect(options)
    except psycopg.Error as error: print('28000', error)";

#[test]
fn p2_p4_every_client_shows_why_its_agent_is_refused_whoever_encrypts() -> Result<()> {
    let mut host = Scene::default()
        .version("{ file = \"{folder}/VERSION\" }")
        .agent("versions = \">=1.4, <2\"")
        .prepare()?;
    fs::write(host.folder().join("VERSION"), "3.0.0\n")?;
    host.start_daemon()?;
    let modules = std::env::var("NODE_PATH")
        .context("NODE_PATH is not set: run the tests by `cargo xtask test`")?;
    let java = host.folder().join("Refused.java");
    write(&java, JAVA)?;
    let (java, address) = (java.display().to_string(), format!("{}:5432", host.address()));
    let (modules, python) = (format!("NODE_PATH={modules}"), host.newer_python()?);
    let jdbc = "/usr/share/java/postgresql.jar";
    let mut expected = 0;
    for (args, times) in [
        (vec![python.as_str(), "-c", PSYCOPG], 3),
        (vec!["java", "-XX:TieredStopAtLevel=1", "-cp", jdbc, &java, &address], 2),
        (vec!["env", &modules, "node", "-e", NODE], 3),
    ] {
        let out = host.agent("timeout", &[&["60"], &args[..]].concat())?.ok()?;
        let why = "chaperone does not let agent cleaner through: version 3.0.0 is not allowed";
        let hint = "Ask operations which versions the configuration allows";
        for words in ["28000", why, hint] {
            assert_eq!(out.matches(words).count(), times, "{words}: {out}");
        }
        expected += times;
    }
    let out = host.connect("sslmode=disable", &["SELECT 1"])?;
    assert!(out.err.contains("version 3.0.0 is not allowed"), "{}", out.err);
    let sessions = host.closed_sessions()?;
    assert_eq!(sessions.len(), expected + 1);
    for session in sessions {
        assert_eq!(session["closed_by"], "daemon", "{session}");
        assert_eq!(session["agent_version"], "3.0.0", "{session}");
        assert!(text(&session["doubts"]).contains("version 3.0.0 is not allowed"), "{session}");
    }
    assert_eq!(host.counter("doubted")?, u64::try_from(expected + 1)?);
    assert_eq!(host.statements()?, [""; 0]);
    Ok(())
}

/// Two targets at once; COPY both ways; each cancelled in its middle.
const BOTH_WAYS: &str = r#"
import psycopg, sys, time
root, second = sys.argv[1:]
one = psycopg.connect(f"sslmode=verify-full sslrootcert={root} user=whoever password=nonsense")
two = psycopg.connect(f"host={second} sslmode=disable user=whoever")
for db in one, two:
    print(*db.execute("SELECT current_user, split_part(current_setting('application_name'), '/', 1)").fetchone())
def copy(text, use):
    with one.cursor() as cursor, cursor.copy(text) as stream: return use(stream)
copy("COPY c FROM STDIN", lambda s: [s.write_row((i, "x" * 100)) for i in range(10000)])
one.commit()
print(copy("COPY c TO STDOUT", lambda s: sum(len(part) for part in s)))
one.commit()
def interrupted(stream):
    for number, part in enumerate(stream):
        if number == 50: one.cancel_safe()
def withdrawn(stream):
    stream.write_row((1, "a")); one.cancel_safe()
    for i in range(1000000): stream.write_row((i, "x" * 100))
for text, use in (
    ("COPY (SELECT i, repeat('y', 1000), pg_sleep(0.001) FROM generate_series(1, 60000) i) TO STDOUT", interrupted),
    ("COPY c FROM STDIN", withdrawn),
):
    try: copy(text, use)
    except psycopg.Error as error: print(error.sqlstate)
    one.rollback()
print(*one.execute("SELECT count(*) FROM c").fetchone())
"#;

#[test]
fn p4_p6_encrypted_both_ways_with_credentials_of_the_daemon_copies_pass_and_are_cancelled()
-> Result<()> {
    let authority = Certificates::new("servers")?;
    let account = nix::unistd::User::from_name("postgres")?.context("no account postgres")?;
    let server = authority.issue("server", &["db.test"], Kind::Server, account.uid.as_raw())?;
    let client = authority.issue("client", &["app_cert"], Kind::Client, 0)?;
    let secret = authority.folder().join("secret");
    fs::write(&secret, "open sesame\n")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let (root, secret) = (authority.root(), secret.display());
    let tls = format!(
        "tls = {{ mode = \"verify-full\", ca = \"{}\", name = \"db.test\" }}\n",
        root.display()
    );
    let host = Scene::default()
        .server(&format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'",
            server.display(),
            server.with_extension("key").display(),
            root.display()
        ))
        .hba(
            "host all postgres all trust\nhostssl all app_cert all cert\n\
              hostssl all app_password all scram-sha-256\n",
        )
        .version("\"1.4.2\"")
        .target(&format!(
            "{tls}agent_tls = \"require\"\ncredential = {{ user = \"app_cert\", \
             certificate = \"{}\", key = \"file:{}\" }}",
            client.display(),
            client.with_extension("key").display()
        ))
        .other_target(
            "second",
            &format!(
                "{tls}credential = {{ user = \"app_password\", password = \"file:{secret}\" }}"
            ),
        )
        .start()?;
    host.postgres().sql(
        "CREATE ROLE app_cert LOGIN; CREATE ROLE app_password LOGIN PASSWORD 'open sesame'; \
         CREATE TABLE c (i int, t text); GRANT ALL ON c TO app_cert",
    )?;
    let (root, second) = (host.authority(), host.address_of("second").to_string());
    let root = root.display().to_string();
    let python = host.newer_python()?;
    let out = host.agent("timeout", &["90", &python, "-c", BOTH_WAYS, &root, &second])?.ok()?;
    let expected =
        "app_cert cleaner@1.4.2\napp_password cleaner@1.4.2\n1058890\n57014\n57014\n10000";
    assert_eq!(out, expected);
    let rows = host.commands()?;
    let copies: Vec<_> =
        rows.iter().filter(|row| text(&row["statement"]).starts_with("COPY")).collect();
    let told: Vec<_> = copies.iter().map(|row| (text(&row["status"]), text(&row["tag"]))).collect();
    assert_eq!(told, [("ok", "COPY 10000"), ("ok", "COPY 10000"), ("error", ""), ("error", "")]);
    let cancels: Vec<_> = rows.iter().filter(|row| row["kind"] == "cancel").collect();
    assert!(cancels.len() == 2 && cancels.iter().all(|row| row["status"] == "ok"), "{cancels:?}");
    let sql = "SELECT DISTINCT target, user, asked_user, sign_on, agent_tls IS NOT NULL, \
               target_tls IS NOT NULL FROM sessions WHERE user IS NOT NULL ORDER BY 1";
    let expected = "prod|app_cert|whoever|client certificate|1|1\n\
                    second|app_password|whoever|scram-sha-256-plus|0|1";
    assert_eq!(sqlite3(&host, sql)?, expected);
    Ok(())
}

#[test]
fn the_auditors_questions_are_answered_as_they_are_documented() -> Result<()> {
    let host = Scene::default().version("\"1.4.2\"").start()?;
    host.psql(&["CREATE TABLE customers (name text)", "INSERT INTO customers VALUES ('ada')"])?
        .ok()?;
    host.python("import psycopg\npsycopg.connect('').execute('SELECT name FROM customers')")?
        .ok()?;
    host.commands()?;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/auditors.md");
    let page = fs::read_to_string(page)?;
    let sql = page.split("```sql").nth(1).and_then(|rest| rest.split("```").next());
    let day = sqlite3(&host, "SELECT substr(min(time), 1, 10) FROM commands")?;
    let run = sqlite3(&host, "SELECT run FROM runs ORDER BY id LIMIT 1")?;
    let mut answers = Vec::new();
    // There are no tunnels here: the test of the page in the log has one.
    let asked = |line: &&str| line.starts_with("SELECT") && !line.contains("s.inside");
    for question in sql.context("the page has queries")?.lines().filter(asked) {
        let question = question.replace("2026-05-01", &day).replace("0f6c…", &run);
        let answer = sqlite3(&host, &question)?;
        assert!(!answer.is_empty(), "nothing answers {question}");
        answers.push(answer);
    }
    assert_eq!(answers.len(), 7);
    // In order, and of that run alone.
    let statements: Vec<_> = answers[3].lines().filter_map(|l| l.split('|').nth(3)).collect();
    assert_eq!(statements[0], "CREATE TABLE customers (name text)");
    assert_eq!(statements[1], "INSERT INTO customers VALUES ('ada')");
    assert_eq!(statements.len(), 2);
    assert_eq!(answers[2].lines().count(), 2, "two runs touched customers: {}", answers[2]);
    assert!(answers[4].contains(&format!("program|{PSQL}|{}", sha256(Path::new(PSQL))?)));
    Ok(())
}

#[test]
fn a_mistake_in_any_key_of_identity_and_encryption_is_shown_with_its_place() -> Result<()> {
    let host = Scene::default().without_postgres().prepare()?;
    let good = fs::read_to_string(host.config())?;
    let select = format!("select = {{ user = {} }}", host.uid());
    let tls = "tls = \"disable\"";
    // Where they stand in place of those lines, with the number of the line that is wrong.
    for (place, lines, wrong, words) in [
        (&*select, "select = { user = \"nobody-of-that-name\" }", 0, "no user named"),
        (&select, "select = { unit = \"cleaner\" }", 0, "ends with .service or .scope"),
        (&select, "select = { slice = \"agents\" }", 0, "ends with .slice"),
        (&select, "select = { cgroup = \"agents\" }", 0, "from the root of the cgroup v2 tree"),
        (&select, "select = {}", 0, "exactly one of them"),
        (&select, "select = { user = 64001, programs = [\"9f2c\"] }", 0, "is no SHA-256"),
        (
            &select,
            "select = { user = 64001 }\nversion = { file = \"VERSION\" }",
            1,
            "begins with '/'",
        ),
        (
            &select,
            "select = { user = 64001 }\nversion = { env = \"A=B\" }",
            1,
            "no variable's name",
        ),
        (&select, "select = { user = 64001 }\nversion = 1.4", 1, "a version, or one of"),
        (&select, "select = { user = 64001 }\nversion = \"1\"\nversions = \">>1\"", 2, "no range"),
        (&select, "select = { user = 64001 }\nversions = \">=1\"", 1, "needs a `version`"),
        (
            &select,
            "select = { user = 64001 }\nbinaries = \"enroled\"",
            1,
            "did you mean `enrolled`?",
        ),
        (&select, "select = { user = 64001 }\ndoubt = { exec = \"hold\" }", 1, "cannot be held"),
        (
            &select,
            "select = { user = 64001 }\ndoubt = { exe = \"mark\" }",
            1,
            "did you mean `exec`?",
        ),
        (tls, "tls = \"verify\"", 0, "expected one of `disable`, `prefer`"),
        (tls, "tls = { mode = \"require\", ca = \"/x\" }", 0, "verifies nothing"),
        (tls, "tls = { mode = \"disable\", name = \"x\" }", 0, "only mode \"verify-full\""),
        (tls, "tls = \"disable\"\nagent_tls = \"required\"", 1, "did you mean `require`?"),
        (tls, "tls = \"disable\"\nparameters = [\"user\"]", 1, "the name of no setting"),
        (
            tls,
            "tls = \"disable\"\ncredential = { password = \"file:/x\" }",
            1,
            "missing field `user`",
        ),
        (
            tls,
            "tls = \"disable\"\ncredential = { user = \"a\", passwort = \"file:/x\" }",
            1,
            "`password`?",
        ),
        (
            tls,
            "tls = \"disable\"\ncredential = { user = \"a\", methods = [\"scram\"] }",
            1,
            "a method is",
        ),
        (
            tls,
            "tls = \"disable\"\ncredential = { user = \"a\", password = \"env:/x\" }",
            1,
            "#NAME",
        ),
        (
            tls,
            "tls = \"disable\"\ncredential = [{ user = \"a\" }, { user = \"b\" }]",
            1,
            "same agent",
        ),
    ] {
        let line = good.lines().position(|line| line == place).context("the line")? + 1 + wrong;
        fs::write(host.config(), good.replacen(place, lines, 1))?;
        let out = host.chaperone(&["check"])?;
        assert_eq!(out.code, Some(1), "{lines}: {}", out.out);
        assert!(out.err.contains(words), "{lines}: {}", out.err);
        assert!(out.err.contains(&format!("chaperone.toml:{line}:")), "{lines}: {}", out.err);
    }
    Ok(())
}

#[test]
fn what_cannot_be_enrolled_is_told_and_keeps_nothing_else_from_it() -> Result<()> {
    let host = Host::start()?;
    let odd = host.folder().join("a file\nwith \"odd\" name");
    fs::write(&odd, "1")?;
    let odd = odd.display().to_string();
    for (files, code, words) in [
        (&["/nowhere", "/bin/bash"][..], 3, "not enrolled: cannot read /nowhere"),
        (&["/etc"], 3, "/etc is no file"),
        (&["./agent.py"], 3, "./agent.py does not begin with '/'"),
        (&[&odd, &odd], 0, ""),
    ] {
        let out = host.chaperone(&[&["agents", "enroll", "cleaner"], files].concat())?;
        assert_eq!(out.code, Some(code), "{files:?}: {}", out.err);
        assert!(out.err.contains(words), "{files:?}: {}", out.err);
    }
    let out = host.chaperone(&["agents", "enroll", "claener", "/bin/bash"])?;
    assert_eq!(out.code, Some(1));
    assert!(out.err.contains("no agent named \"claener\""), "{}", out.err);
    let out = host.chaperone(&["agents", "diff"])?;
    assert_eq!((out.code, out.out.trim_end()), (Some(0), "all 2 enrolled files are as they were"));
    fs::remove_file(&odd)?;
    let out = host.chaperone(&["agents", "diff"])?;
    assert_eq!(out.code, Some(3));
    // On one line, whatever is in the name.
    let lines: Vec<_> = out.out.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("gone"), "{}", out.out);
    Ok(())
}

#[test]
fn p3_whatever_an_agent_says_its_version_is_it_stays_one_word_at_the_server() -> Result<()> {
    let host = Scene::default().version("{ env = \"AGENT_VERSION\" }").start()?;
    let long = "x".repeat(5000);
    for (said, kept, shown) in [
        ("a\nb/c@d → e", "ab/c@d → e", "cleaner@ab/c@d???e/"),
        (&long, &long[..128], "cleaner@xxxxxxxxxxxxxxxx/"),
        ("é", "é", "cleaner@?/"),
        ("", "", "cleaner/"),
    ] {
        let variable = format!("AGENT_VERSION={said}");
        let args = [&variable, "psql", "-XAtc", "SHOW application_name"];
        let name = host.agent("env", &args)?.ok()?;
        let session = host.last_session()?;
        assert_eq!(text(&session["agent_version"]), kept);
        assert!(name.starts_with(shown) && name.len() < 64, "{name}");
        assert!(name.ends_with(text(&session["run"])), "the run is whole: {name}");
    }
    assert_eq!(
        sqlite3(&host, "SELECT DISTINCT version_source FROM runs WHERE agent_version != ''")?,
        "said"
    );
    Ok(())
}
