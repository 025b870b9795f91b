//! Where the log is streamed to.
//!
//! Does not belong here: exports that people ask for, which need no configuration.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{Misplaced, absolute, named};
use crate::{outbound, secret::Source};

/// Headers that are the sender's own.
const OWN: [&str; 5] =
    ["content-type", "content-length", "host", "connection", "transfer-encoding"];

/// A receiver of OTLP over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) name: String,
    pub(crate) url: String,
    /// Headers with secrets for values.
    pub(crate) headers: Vec<(String, Source)>,
    /// The file that says how far it is.
    pub(crate) cursor: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    url: Spanned<String>,
    #[serde(default)]
    headers: BTreeMap<Spanned<String>, Spanned<String>>,
    cursor: Option<Spanned<PathBuf>>,
}

pub(super) fn check(exports: Vec<Raw>) -> Result<Vec<Export>, Misplaced> {
    let mut checked: Vec<Export> = Vec::new();
    for raw in exports {
        let export = raw.check()?;
        if checked.iter().any(|other| other.name == export.0.name) {
            return Err((export.1, format!("another export is named {:?}", export.0.name)));
        }
        checked.push(export.0);
    }
    Ok(checked)
}

impl Raw {
    fn check(self) -> Result<(Export, std::ops::Range<usize>), Misplaced> {
        let place = self.name.span();
        let name = named(&self.name).map_err(|message| (place.clone(), message))?;
        if !outbound::is_guarded(self.url.get_ref()) {
            let message =
                "an export carries statements: its url begins with https://, or is on this host";
            return Err((self.url.span(), message.into()));
        }
        let mut headers = Vec::new();
        for (header, value) in self.headers {
            let text = header.get_ref();
            let fits = !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            if !fits || OWN.contains(&text.to_ascii_lowercase().as_str()) {
                let message = format!("{text:?} is no header that can be set");
                return Err((header.span(), message));
            }
            let source = value.get_ref().parse();
            let source = source.map_err(|message: String| (value.span(), message))?;
            headers.push((header.into_inner(), source));
        }
        let default = format!("/var/lib/chaperone/export/{name}.cursor");
        let cursor = absolute(self.cursor, &default)?;
        Ok((Export { name, url: self.url.into_inner(), headers, cursor }, place))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, parse};

    fn with(lines: &str) -> Result<Vec<super::Export>, String> {
        parse(&format!("{GOOD}[[export]]\n{lines}\n")).map(|config| config.exports)
    }

    #[test]
    fn an_export_is_read() {
        let lines = "name = \"otel\"\nurl = \"https://otel.example:4318/v1/logs\"\n\
             headers = { authorization = \"systemd:otel\" }";
        let exports = with(lines).expect("good");
        assert_eq!(exports[0].headers[0].0, "authorization");
        assert_eq!(exports[0].headers[0].1.to_string(), "systemd:otel");
        assert_eq!(exports[0].cursor.to_str(), Some("/var/lib/chaperone/export/otel.cursor"));
        let twice = with(&format!("{lines}\n[[export]]\n{lines}")).expect_err("two");
        assert!(twice.starts_with("c.toml:23:8") && twice.contains("another export"), "{twice}");
    }

    #[test]
    fn mistakes_in_an_export_point_at_themselves() {
        for (lines, place, why) in [
            ("name = \"a b\"\nurl = \"https://x\"", "c.toml:19:8", "a name is"),
            ("name = \"a\"\nurl = \"http://x\"", "c.toml:20:7", "https://"),
            (
                "name = \"a\"\nurl = \"https://x\"\nheaders = { host = \"file:/x\" }",
                "c.toml:21:13",
                "no header",
            ),
            (
                "name = \"a\"\nurl = \"https://x\"\nheaders = { a = \"token\" }",
                "c.toml:21:17",
                "say where the secret is",
            ),
            (
                "name = \"a\"\nurl = \"https://x\"\ncursor = \"x\"",
                "c.toml:21:10",
                "begins with '/'",
            ),
            ("name = \"a\"\nurl = \"https://x\"\nulr = 1", "c.toml:21:1", "did you mean"),
        ] {
            let error = with(lines).expect_err(lines);
            assert!(error.starts_with(place), "{lines}: {error}");
            assert!(error.contains(why), "{lines}: {error}");
        }
    }
}
