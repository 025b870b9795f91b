//! A session as one HTML file, which needs nothing beside itself and reaches nothing.
//!
//! All that agents and servers wrote is escaped. Behind that stands the page's own policy, which
//! lets run what has the hash of the style and the script that are ours, and loads nothing at all.
//!
//! Does not belong here: what is said of a command (`step`).

use std::{
    fmt::{self, Display},
    io::Write,
};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chaperone_audit::SessionRow;
use sha2::{Digest as _, Sha256};

use super::step::{Results, Step, clock, ending, error, outcome, rows};
use crate::show::printable;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Results of more rows are folded, and longer statements.
const FOLDED: usize = 10;
const LONG: usize = 2000;

/// A page that is written as the session is read.
pub(super) struct Page<W: Write> {
    out: W,
}

impl<W: Write> Page<W> {
    pub(super) fn begin(mut out: W, session: &SessionRow) -> Result<Self> {
        let title = format!("session {}: {} on {}", session.id, session.agent, session.target);
        write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<dl>\n",
            digest(STYLE),
            digest(SCRIPT),
            title = Text(&title),
        )?;
        let version = session.agent_version.as_deref().unwrap_or("not known");
        let process = format!("{} of uid {}", session.pid, session.uid);
        let target = format!("{} at {}", session.target, session.server);
        for (name, value) in [
            ("agent", Some(session.agent.as_str())),
            ("version", Some(version)),
            ("run", session.run.as_deref()),
            ("unit", session.unit.as_deref()),
            ("lineage", session.lineage.as_deref()),
            ("process", Some(&process)),
            ("program", session.executable.as_deref()),
            ("its SHA-256", session.binary.as_deref()),
            ("script", session.script.as_deref()),
            ("command line", session.command_line.as_deref()),
            ("doubts", session.doubts.as_deref()),
            ("target", Some(&target)),
            ("database", session.database.as_deref()),
            ("user", session.user.as_deref()),
            ("opened", Some(&session.opened)),
            ("ended", Some(&ending(session))),
        ] {
            if let Some(value) = value {
                writeln!(out, "<dt>{name}</dt><dd>{}</dd>", Text(value))?;
            }
        }
        out.write_all(
            b"</dl>\n<form hidden>\n<label>contains <input id=\"text\" type=\"search\"></label>\n\
              <label>status <select id=\"status\"><option value=\"\">any</option><option>ok</option>\
              <option>error</option><option>refused</option><option>unknown</option><option>held</option></select></label>\n\
              <label><input id=\"fold\" type=\"checkbox\"> unfold all</label>\n<span id=\"found\" class=\"dim\"></span>\n</form>\n<main>\n",
        )?;
        Ok(Self { out })
    }

    pub(super) fn step(&mut self, step: &Step, laid_out: Option<&str>) -> Result<()> {
        let Some(first) = step.parts.first() else { return Ok(()) };
        let mut classes: Vec<&str> = step
            .parts
            .iter()
            .filter_map(|part| STATUSES.into_iter().find(|status| part.command.status == *status))
            .collect();
        classes.dedup();
        if step.hold.is_some() {
            classes.push("held");
        }
        let out = &mut self.out;
        writeln!(
            out,
            "<article class=\"{}\">\n<h2><span class=\"at\" title=\"{}\">+{}</span> {} {}</h2>",
            classes.join(" "),
            Text(&first.command.time),
            clock(step.offset),
            first.command.id,
            Text(&step.verdict()),
        )?;
        let sent = step.statement().unwrap_or("(text not known)");
        folded(out, "statement", sent.len() > LONG, &mut |out| {
            Ok(writeln!(out, "<pre>{}</pre>", Text(laid_out.unwrap_or(sent)))?)
        })?;
        if laid_out.is_some() {
            writeln!(
                out,
                "<details><summary>as it was sent</summary><pre>{}</pre></details>",
                Text(sent)
            )?;
        }
        if let Some(parameters) = step.parameters() {
            writeln!(out, "<div class=\"dim\">parameters</div><pre>{}</pre>", Text(parameters))?;
        }
        for line in step.asked() {
            writeln!(out, "<div class=\"asked\">{}</div>", Text(&line))?;
        }
        for part in &step.parts {
            writeln!(out, "<div>{}</div>", Text(&outcome(part)))?;
            if let Some(error) = error(part) {
                writeln!(out, "<div class=\"bad\">{}</div>", Text(&error))?;
            }
            if let Some(notices) = part.notices.as_deref() {
                writeln!(out, "<div class=\"dim\">notices</div><pre>{}</pre>", Text(notices))?;
            }
            if let Some(rows) = rows(part) {
                let many = rows.rows.len() > FOLDED;
                let what = format!("{} rows", rows.rows.len());
                folded(out, &what, many, &mut |out| table(out, &rows))?;
            }
        }
        Ok(out.write_all(b"</article>\n")?)
    }

    pub(super) fn end(mut self, session: &SessionRow) -> Result<()> {
        write!(
            self.out,
            "</main>\n<p>{}</p>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
            Text(&ending(session))
        )?;
        Ok(self.out.flush()?)
    }
}

/// The words that are classes of an element; no others become one.
const STATUSES: [&str; 7] =
    ["ok", "error", "suspended", "skipped", "refused", "unknown", "pending"];

fn folded<W: Write>(
    out: &mut W,
    what: &str,
    fold: bool,
    inside: &mut dyn FnMut(&mut W) -> Result<()>,
) -> Result<()> {
    if !fold {
        return inside(out);
    }
    writeln!(out, "<details><summary>{}</summary>", Text(what))?;
    inside(out)?;
    Ok(writeln!(out, "</details>")?)
}

fn table(out: &mut impl Write, rows: &Results) -> Result<()> {
    out.write_all(b"<table>\n<tr>")?;
    for column in &rows.columns {
        write!(out, "<th>{}</th>", Text(column))?;
    }
    out.write_all(b"</tr>\n")?;
    for row in &rows.rows {
        out.write_all(b"<tr>")?;
        for value in row {
            match value {
                Some(value) => write!(out, "<td>{}</td>", Text(value))?,
                None => out.write_all(b"<td class=\"null\">NULL</td>")?,
            }
        }
        out.write_all(b"</tr>\n")?;
    }
    out.write_all(b"</table>\n")?;
    if rows.cut {
        out.write_all(b"<div class=\"dim\">there were more rows, which were not kept</div>\n")?;
    }
    Ok(())
}

/// A text between tags or in a quoted attribute.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in printable(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

fn digest(text: &str) -> String {
    BASE64.encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::{super::step::tests, *};
    use crate::export::HOSTILE;

    fn page(statement: &str, response: &str) -> String {
        let mut out = Vec::new();
        let mut session = tests::session();
        session.agent = statement.into();
        session.command_line = Some(statement.into());
        let mut page = Page::begin(&mut out, &session).expect("written");
        page.step(&tests::step(statement, response), Some(statement)).expect("written");
        page.end(&session).expect("written");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn p8_nothing_that_an_agent_wrote_is_part_of_the_page() {
        let count = |page: &str, what: &str| page.matches(what).count();
        let plain = page("x", r#"[["x"]]"#);
        for hostile in HOSTILE {
            let response = serde_json::json!([[hostile]]).to_string();
            let page = page(hostile, &response);
            for mark in ["<", ">", "\"", "'"] {
                assert_eq!(count(&page, mark), count(&plain, mark), "{mark} of {hostile:?}");
            }
            assert!(!page.contains(['\0', '\u{1b}', '\u{202e}']), "{hostile:?}");
        }
    }

    #[test]
    fn a_page_reaches_nothing_and_runs_what_is_ours() {
        let page = page("SELECT 1", "[]");
        assert!(page.contains("default-src 'none'"), "{page}");
        assert_eq!(page.matches("<script>").count(), 1);
        assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
        assert!(!page.contains(" src=") && !page.contains("@import") && !page.contains("url("));
        let script = page.split("<script>").nth(1).and_then(|rest| rest.split("</script>").next());
        let hash = digest(script.expect("a script"));
        assert!(page.contains(&format!("script-src 'sha256-{hash}'")), "{page}");
    }

    #[test]
    fn long_results_are_folded() {
        let rows = |count: usize| serde_json::json!(vec![["v"]; count]).to_string();
        assert!(!page("SELECT 1", &rows(FOLDED)).contains("<summary>10 rows"));
        assert!(page("SELECT 1", &rows(FOLDED + 1)).contains("<summary>11 rows</summary>"));
    }
}
