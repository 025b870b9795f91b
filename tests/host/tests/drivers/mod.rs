//! P4: every driver does over verified TLS what it is there for, and the log tells all of it.
//!
//! Belongs here: what the drivers have in common, and one file a driver below; the agents' programs
//! are in `agents` and `tests/drivers`. Each asserts its own results, and ends with `done`.

use anyhow::{Context, Result};
use chaperone_host_tests::{Finished, Host};
use serde_json::Value;

mod asyncpg;
mod jdbc;
mod node;
mod psql;
mod psycopg;
mod rust;
mod sqlalchemy;

/// How a driver words what all of them do.
struct Wording {
    insert: &'static str,
    select: &'static str,
    /// Cancel requests, where the driver sends any.
    cancels: bool,
    binary: &'static str,
}

impl Default for Wording {
    fn default() -> Self {
        Self {
            insert: "INSERT INTO orders VALUES ($1, $2)",
            select: "SELECT name FROM orders WHERE id = $1",
            cancels: true,
            binary: r"SELECT 7::int8, 2.5::float8, '\x00ff'::bytea, true",
        }
    }
}

/// Runs an agent's program; one that hangs must not hold up all others for ever.
pub(crate) fn run(host: &Host, program: &str, args: &[&str]) -> Result<Finished> {
    host.agent("timeout", &[&["120", program], args].concat())
}

/// Runs an agent's program that knows libpq's variables, which ask for verified TLS.
pub(crate) fn verified(host: &Host, program: &str, args: &[&str]) -> Result<Finished> {
    let root = format!("PGSSLROOTCERT={}", host.authority().display());
    run(host, "env", &[&["PGSSLMODE=verify-full", &root, program], args].concat())
}

/// What the log has of a scene.
struct Recorded(Vec<Value>);

impl Recorded {
    fn of(host: &Host) -> Result<Self> {
        Ok(Self(host.commands()?))
    }

    /// Commands that ran or should have; not those that only prepared.
    fn ran(&self, text: &str) -> Vec<&Value> {
        let is = |row: &&Value| {
            row["kind"] != "prepare" && row["statement"].as_str().is_some_and(|s| s == text)
        };
        self.0.iter().filter(is).collect()
    }

    fn starting(&self, text: &str) -> Result<&Value> {
        let is = |row: &&Value| {
            let statement = row["statement"].as_str().unwrap_or_default();
            let statement = statement.replace('"', "").to_uppercase();
            row["kind"] != "prepare" && statement.starts_with(text)
        };
        self.0.iter().find(is).with_context(|| format!("{text} is not in the log: {}", self.text()))
    }

    /// All of it, for a test that fails.
    fn text(&self) -> String {
        let line = |row: &Value| {
            let fields = ["session", "kind", "statement", "parameters", "status", "error_code"];
            fields.map(|field| row[field].to_string()).join(" ") + "\n"
        };
        self.0.iter().map(line).collect()
    }

    /// What all drivers do is there, with its parameters and its outcomes.
    fn holds(&self, host: &Host, wording: &Wording) -> Result<()> {
        let all = self.text();
        let inserts = self.ran(wording.insert);
        assert_eq!(inserts.len(), 5, "{all}");
        for (id, row) in inserts.iter().enumerate() {
            assert_eq!(row["status"], "ok", "{all}");
            assert_eq!(row["parameters"], format!(r#"["{id}","row {id}"]"#), "{all}");
        }
        let selects = self.ran(wording.select);
        let parameters: Vec<_> = selects.iter().map(|row| row["parameters"].as_str()).collect();
        assert_eq!(parameters, [Some(r#"["1"]"#), Some(r#"["2"]"#), Some(r#"["3"]"#)], "{all}");
        let name = host.command(&selects[2]["id"])?;
        assert_eq!(name["parts"][0]["response"], r#"[["row 3"]]"#, "{name}");

        assert_eq!(self.failed("SELECT 1/0"), ["22012"], "{all}");
        assert_eq!(self.starting("ROLLBACK")?["status"], "ok", "{all}");

        let copied = self.starting("COPY ORDERS")?;
        assert_eq!((&copied["status"], &copied["tag"]), (&"ok".into(), &"COPY 2".into()), "{all}");
        assert_eq!(copied["bytes_in"], "7\tcopied\n8\tcopied\n".len(), "{all}");
        let out = host.command(&self.starting("COPY (SELECT ID")?["id"])?;
        let lines = out["parts"][0]["response"].as_str().unwrap_or_default();
        assert!([r#"["7\n","8\n"]"#, r#"["7\n8\n"]"#].contains(&lines), "{out}");

        let binary = host.command(&self.starting(&wording.binary.to_uppercase())?["id"])?;
        assert_eq!(binary["parts"][0]["response"], r#"[["7","2.5","\\x00ff","t"]]"#, "{binary}");

        assert_eq!(self.failed("SELECT pg_sleep(60)"), ["57014"], "{all}");
        self.cancelled(wording.cancels);
        assert_eq!(self.ran("SELECT 42").len(), 1, "it goes on after the cancel: {all}");
        Ok(())
    }

    /// The codes with which a statement failed.
    fn failed(&self, text: &str) -> Vec<&str> {
        self.ran(text).iter().filter_map(|row| row["error_code"].as_str()).collect()
    }

    /// Cancel requests are commands of their own, and say whose command they are for.
    fn cancelled(&self, expected: bool) {
        let all = self.text();
        let cancels: Vec<_> = self.0.iter().filter(|row| row["kind"] == "cancel").collect();
        assert_eq!(!cancels.is_empty(), expected, "{all}");
        let slept = self.ran("SELECT pg_sleep(60)");
        for cancel in cancels {
            assert_eq!(cancel["status"], "ok", "{all}");
            let of = format!("cancel the running command of session {}", slept[0]["session"]);
            assert_eq!(cancel["statement"], of, "{all}");
        }
    }
}

/// Every session was encrypted on the agent's side.
fn encrypted(host: &Host) -> Result<()> {
    for session in host.closed_sessions()? {
        // A cancel request starts none.
        if !session["user"].is_null() {
            assert!(session["agent_tls"].as_str().is_some_and(|t| t.contains("TLS")), "{session}");
            assert_eq!(session["sign_on"], "relayed", "{session}");
        }
    }
    Ok(())
}
