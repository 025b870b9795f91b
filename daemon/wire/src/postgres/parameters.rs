//! Start-up parameters: each is a SET that comes before any statement, and that nobody decides.
//!
//! What only describes the client or the forms of values, or limits the session itself, may pass.
//! The rest is refused: a statement can set it, which is recorded and decided.

use super::{reply::Refusal, startup::Startup};

/// Whatever their value. Drivers send them unasked, or have options for them.
const HARMLESS: [&str; 14] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "datestyle",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "statement_timeout",
    "timezone",
    "transaction_timeout",
];

/// With the value true: it is what is assumed, or takes something away from the session.
const HARMLESS_ON: [&str; 2] = ["default_transaction_read_only", "standard_conforming_strings"];

/// What the server does not take for settings (`ProcessStartupPacket`,
/// `src/backend/tcop/backend_startup.c`). These names count as they are written.
const SPECIAL: [&str; 4] = ["database", "options", "replication", "user"];

/// Whether this can be the name of a setting that operations allow.
pub fn is_setting(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.$".contains(&b))
        && !name.starts_with(super::negotiation::OPTION)
        && !SPECIAL.contains(&name)
}

impl Startup {
    /// Why this session may not start: the first parameter that sets what nobody decided. `allowed`
    /// are the settings that operations allow beside the harmless ones.
    pub fn undecided(&self, allowed: &[String]) -> Option<Refusal> {
        let judge = |name: &str, value: &str| {
            let is = |known: &str| known.eq_ignore_ascii_case(name);
            let harmless = HARMLESS.iter().any(|known| is(known))
                || HARMLESS_ON.iter().any(|known| is(known)) && is_true(value)
                || allowed.iter().any(|known| is(known));
            (!harmless).then(|| refusal(name))
        };
        self.parameters.iter().find_map(|(name, value)| match name.as_str() {
            "options" => match settings(value) {
                Ok(all) => all.iter().find_map(|(name, value)| judge(name, value)),
                Err(why) => Some(unread(&why)),
            },
            name if SPECIAL.contains(&name) => None,
            // They are dealt with where the protocol's version is.
            name if name.starts_with(super::negotiation::OPTION) => None,
            name => judge(name, value),
        })
    }
}

fn refusal(name: &str) -> Refusal {
    let name: String = name.chars().take(63).collect();
    Refusal::new("42501", format!("chaperone does not let a session start with the parameter {name}"))
        .detail("It would be set before any statement, so that nobody decides about it.")
        .hint(format!("Set it by a statement after signing on, or ask operations to allow it: `parameters = [\"{name}\"]` of the target."))
}

fn unread(why: &str) -> Refusal {
    Refusal::new("42501", format!("chaperone does not let a session start with these options: {why}"))
        .hint("Only settings can be given, as -c name=value or --name=value. Others can be set by a statement after signing on.")
}

/// As the server reads a truth (`parse_bool`, src/backend/utils/adt/bool.c): any beginning of the
/// words that says which is meant.
fn is_true(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str| !value.is_empty() && word.starts_with(&value);
    begins("true") || begins("yes") || value == "on" || value == "1"
}

/// The settings in `options`, read as the server does (`pg_split_opts`,
/// src/backend/utils/init/postinit.c; `process_postgres_switches`, src/backend/tcop/postgres.c).
/// Its other switches are settings in disguise, and nobody's client needs them.
fn settings(options: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = split(options)?.into_iter();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c") {
            Some("") => words.next().ok_or("-c has no setting behind it")?,
            Some(rest) => rest.to_owned(),
            None => match word.strip_prefix("--") {
                Some(rest) if !rest.is_empty() => rest.to_owned(),
                _ => return Err(format!("{:?} is no setting", shortened(&word))),
            },
        };
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("{:?} has no value", shortened(&setting)))?;
        // `ParseLongOption` (src/backend/utils/misc/guc.c).
        found.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(found)
}

fn split(options: &str) -> Result<Vec<String>, String> {
    // Which of the other bytes are white space depends on the server's locale.
    if !options.is_ascii() {
        return Err("they are not in ASCII".into());
    }
    // C's isspace().
    let is_space = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        if is_space(c) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            // At the very end it stands for nothing.
            '\\' => word.extend(chars.next()),
            c => word.push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn shortened(text: &str) -> String {
    text.chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undecided(parameters: &[(&str, &str)], allowed: &[&str]) -> Option<String> {
        let own = |text: &str| text.to_owned();
        let parameters = parameters.iter().map(|(name, value)| (own(name), own(value))).collect();
        let allowed: Vec<_> = allowed.iter().map(|name| own(name)).collect();
        let refusal = Startup { version: 196_608, parameters }.undecided(&allowed)?;
        assert_eq!(refusal.code, "42501");
        assert!(refusal.hint.is_some());
        Some(refusal.message)
    }

    #[test]
    fn p4_what_drivers_send_passes() {
        for parameters in [
            // libpq, with PGDATESTYLE, PGTZ, PGGEQO and PGOPTIONS.
            &[
                ("user", "u"),
                ("database", "d"),
                ("options", "-c intervalstyle=postgres_verbose"),
                ("application_name", "psql"),
                ("client_encoding", "UTF8"),
                ("datestyle", "Postgres, MDY"),
                ("timezone", "PST8PDT"),
                ("geqo", "off"),
            ][..],
            // JDBC.
            &[("DateStyle", "ISO"), ("TimeZone", "Europe/Berlin"), ("extra_float_digits", "3")],
            // node-postgres.
            &[
                ("statement_timeout", "1000"),
                ("lock_timeout", "1000"),
                ("idle_in_transaction_session_timeout", "1000"),
                ("replication", "false"),
            ],
            // asyncpg as SQLAlchemy's documentation configures it; the receiver of a replica.
            &[("jit", "off")],
            &[("options", "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3")],
            &[("standard_conforming_strings", "on"), ("default_transaction_read_only", "TRUE")],
            &[("options", "")],
            &[("options", "  ")],
            &[("_pq_.unheard_of", "x")],
        ] {
            assert_eq!(undecided(parameters, &[]), None, "{parameters:?}");
        }
    }

    #[test]
    fn p1_what_sets_anything_else_is_refused_by_its_name() {
        for name in [
            "role",
            "ROLE",
            "session_authorization",
            "search_path",
            "local_preload_libraries",
            "session_preload_libraries",
            "dynamic_library_path",
            "default_transaction_isolation",
            "row_security",
            "app.tenant",
            // They mean something as they are written, and are settings otherwise.
            "Options",
            "USER",
            "Replication",
            "_PQ_.x",
        ] {
            let said = undecided(&[("user", "u"), (name, "x")], &[]).expect(name);
            assert!(said.ends_with(&format!("the parameter {name}")), "{said}");
        }
        for (name, value) in
            [("standard_conforming_strings", "off"), ("default_transaction_read_only", "0")]
        {
            assert!(undecided(&[(name, value)], &[]).is_some(), "{name}");
        }
    }

    #[test]
    fn p1_options_are_read_as_the_server_reads_them() {
        for options in [
            "-c role=x",
            "-crole=x",
            "--role=x",
            "-c ROLE=x",
            "-c session-authorization=x",
            "-c\\ role=x",
            "-c application_name=a\\ b -c role=x",
            "-c application_name=a\\\\ -c role=x",
            "-c\u{b}role=x",
            "\t-c\nrole=x",
            "--r\\ole=x",
            "-\\c role=x",
        ] {
            let said = undecided(&[("options", options)], &[]).expect(options);
            let named = ["the parameter role", "the parameter ROLE", "session_authorization"];
            let named = named.iter().any(|name| said.ends_with(name)) || options.contains("-c\\ ");
            assert!(named, "{options:?}: {said}");
        }
        for options in [
            "-c",
            "--",
            "-c role",
            "-e",
            "-O",
            "-fs",
            "-s -c jit=off",
            "role=x",
            "-",
            "-W 5",
            "-ec role=x",
            "-c application_name=\u{a0}-crole=x",
        ] {
            let said = undecided(&[("options", options)], &[]).expect(options);
            assert!(said.contains("with these options"), "{options:?}: {said}");
        }
        for options in
            ["-c application_name=a\\ -c\\ role=x", "-c jit=off --geqo=on", "-cjit=off\\"]
        {
            assert_eq!(undecided(&[("options", options)], &[]), None, "{options:?}");
        }
        // Of several, the server takes the last; none of them passes.
        assert!(undecided(&[("options", "-c role=x"), ("options", "")], &[]).is_some());
    }

    #[test]
    fn operations_can_allow_more() {
        let allowed = ["search_path", "app.tenant"];
        assert_eq!(undecided(&[("SEARCH_PATH", "x"), ("app.tenant", "x")], &allowed), None);
        assert_eq!(undecided(&[("options", "-c search_path=x")], &allowed), None);
        assert!(undecided(&[("role", "x")], &allowed).is_some());
        for name in ["search_path", "app.tenant", "_x"] {
            assert!(is_setting(name), "{name}");
        }
        for name in ["", "user", "options", "replication", "database", "_pq_.x", "a b", "*", "1"] {
            assert!(!is_setting(name), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn p8_no_options_panic(options: String) {
            let _ = settings(&options);
        }
    }
}
