//! A session as one file for a browser: it asks nothing of any other place, and a policy in it says
//! that it may not.
//!
//! Does not belong here: what is shown.

use std::io::{self, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chaperone_audit::SessionRow;
use sha2::{Digest as _, Sha256};

use super::{
    Stage,
    moment::{Command, Moment, What},
    terminal::{ending, offset},
};
use crate::show::printable;

/// Rows that are shown without being asked for.
const ROWS: usize = 10;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

pub(super) struct Page<W>(W);

impl<W: Write> Page<W> {
    pub(super) fn new(out: W) -> Self {
        Self(out)
    }

    pub(super) fn into_inner(self) -> W {
        self.0
    }

    fn command(&mut self, command: &Command) -> io::Result<()> {
        let out = &mut self.0;
        let text = command.statement.as_deref().unwrap_or("(text not known)");
        match &command.laid_out {
            None => writeln!(out, "<pre class=\"sql\">{}</pre>", escape(text))?,
            Some(laid_out) => writeln!(
                out,
                "<pre class=\"sql\">{}</pre>\n<details><summary>as it was sent</summary><pre>{}</pre></details>",
                escape(laid_out),
                escape(text)
            )?,
        }
        let mut line =
            |class: &str, text: &str| writeln!(out, "<p class=\"{class}\">{}</p>", escape(text));
        if let Some(parameters) = &command.parameters {
            line("parameters", &format!("with {parameters}"))?;
        }
        command.words.iter().try_for_each(|word| line("word", word))?;
        line("outcome", &format!("→ {}", command.outcome))?;
        if let Some(error) = &command.error {
            line("error", error)?;
        }
        if let Some(notices) = &command.notices {
            line("notices", &format!("notices {notices}"))?;
        }
        self.rows(command)
    }

    fn rows(&mut self, command: &Command) -> io::Result<()> {
        let out = &mut self.0;
        let count = command.rows.len();
        if count > 0 {
            let open = if count > ROWS { "" } else { " open" };
            writeln!(
                out,
                "<details{open}><summary>{count} rows</summary><div class=\"rows\"><table><thead><tr>"
            )?;
            for name in &command.columns {
                write!(out, "<th>{}</th>", escape(name))?;
            }
            writeln!(out, "</tr></thead><tbody>")?;
            for row in &command.rows {
                write!(out, "<tr>")?;
                for cell in row {
                    match cell {
                        None => write!(out, "<td class=\"null\">NULL</td>")?,
                        Some(text) => write!(out, "<td>{}</td>", escape(text))?,
                    }
                }
                writeln!(out, "</tr>")?;
            }
            writeln!(out, "</tbody></table></div></details>")?;
        }
        match command.more {
            Some(total) => {
                writeln!(out, "<p class=\"more\">{total} rows came back; not all are kept</p>")
            }
            None => Ok(()),
        }
    }
}

impl<W: Write> Stage for Page<W> {
    fn begin(&mut self, session: &SessionRow) -> io::Result<()> {
        let version = session.agent_version.as_ref().map(|v| format!("@{v}")).unwrap_or_default();
        let agent = format!("{}{version}", session.agent);
        let title = format!("Session {}: {agent} on {}", session.id, session.target);
        let out = &mut self.0;
        writeln!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{}</h1>\n<dl>",
            policy(),
            escape(&title),
            escape(&title)
        )?;
        let some = |text: &Option<String>| text.clone().unwrap_or_default();
        for (name, text) in [
            ("run", some(&session.run)),
            ("lineage", some(&session.lineage)),
            ("process", format!("{} (uid {})", session.pid, session.uid)),
            ("program", some(&session.executable)),
            ("SHA-256", some(&session.binary)),
            ("command line", some(&session.command_line)),
            ("server", session.server.clone()),
            ("user", some(&session.user)),
            ("database", some(&session.database)),
            ("doubts", some(&session.doubts)),
            ("opened", session.opened.clone()),
            ("end", ending(session)),
        ] {
            if !text.is_empty() {
                writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&text))?;
            }
        }
        writeln!(
            out,
            "</dl>\n<form id=\"filter\" hidden><input type=\"search\" id=\"text\" placeholder=\"Filter\" aria-label=\"Filter\">\n\
             <label><input type=\"checkbox\" id=\"notable\"> only errors, refusals and holds</label></form>\n</header>\n<main>"
        )
    }

    fn moment(&mut self, moment: &Moment) -> io::Result<()> {
        let offset = offset(moment.offset_us);
        match &moment.what {
            What::Event { kind, detail } => writeln!(
                self.0,
                "<article class=\"event notable\"><h2><time>{offset}</time> {}</h2><p>{}</p></article>",
                escape(kind),
                escape(detail)
            ),
            What::Command(command) => {
                let notable = command.status != "ok" || command.verdict != "allow";
                writeln!(
                    self.0,
                    "<article class=\"command {}{}\"><h2><time>{offset}</time> {} \
                     <span>{}</span> <span>{}</span> <small>{}</small></h2>",
                    word(&command.status),
                    if notable { " notable" } else { "" },
                    command.id,
                    escape(command.class.as_deref().unwrap_or_default()),
                    escape(&command.verdict),
                    escape(&command.rule),
                )?;
                self.command(command)?;
                writeln!(self.0, "</article>")
            }
        }
    }

    fn end(&mut self, session: &SessionRow) -> io::Result<()> {
        writeln!(
            self.0,
            "<p class=\"end\">{}</p>\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>",
            escape(&ending(session))
        )?;
        self.0.flush()
    }
}

/// Nothing but this file's own style and script, by their hashes: what an agent wrote is no script,
/// whatever it says.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// A text that is no markup, in an element or an attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A name of a class: letters alone.
fn word(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphabetic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::hostile;

    fn page() -> String {
        let item = hostile();
        let mut session = (*item.session.clone().expect("a session")).clone();
        session.database.clone_from(&item.command().statement);
        let mut page = Page::new(Vec::new());
        page.begin(&session).expect("written");
        page.moment(&Moment::command(&item, 0)).expect("written");
        page.end(&session).expect("written");
        String::from_utf8(page.into_inner()).expect("text")
    }

    #[test]
    fn p8_what_agents_write_is_no_markup() {
        let page = page();
        assert!(page.contains("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"), "{page}");
        assert_eq!(page.matches("<script>").count(), 1);
        assert_eq!(page.matches("</script>").count(), 1);
        assert!(!page.contains("<img"));
        assert!(!page.contains(['\u{0}', '\u{1b}', '\u{202e}']));
    }

    #[test]
    fn the_page_asks_nothing_of_any_other_place() {
        let page = page();
        for word in ["http://", "https://", " src=\"", " href=", "url(", "@import", "unsafe-inline"]
        {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn style_and_script_are_what_the_policy_allows() {
        let page = page();
        let between = |start: &str, end: &str| {
            let (_, rest) = page.split_once(start).expect("a start");
            rest.split_once(end).expect("an end").0.to_owned()
        };
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
        let style = format!("style-src 'sha256-{}'", hash(&between("<style>", "</style>")));
        let script = format!("script-src 'sha256-{}'", hash(&between("<script>", "</script>")));
        assert!(page.contains(&style) && page.contains(&script));
    }
}
