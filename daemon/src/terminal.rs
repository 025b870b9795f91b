//! Terminals that were recorded over SSH: read from the log, played, and written as asciicast
//! (version 2, as asciinema describes it).
//!
//! Does not belong here: how they are recorded (`ssh::recording`), and sessions of SQL (`replay`).

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use chaperone_audit::{Part, Reader};
use chaperone_model::Seq;
use serde_json::{Value, json};

mod safe;
mod text;

use safe::Safe;
use text::{Decoder, unescaped};

/// What a terminal was that said nothing of its size.
const SIZE: (u64, u64) = (80, 24);

/// A recorded terminal.
pub(crate) struct Recording {
    /// When it began, in seconds since 1970.
    at: i64,
    title: String,
    kind: Option<String>,
    size: (u64, u64),
    events: Vec<Event>,
    /// Whether more passed than was kept.
    truncated: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Event {
    at: Duration,
    what: What,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Out,
    In,
    Size,
}

/// The terminals of an SSH session, by the numbers of their commands.
pub(crate) fn of_session(reader: &Reader, session: Seq) -> Result<Vec<Seq>> {
    let mut found = Vec::new();
    let mut after = Seq(0);
    loop {
        let page = reader.intents(session, after, 256)?;
        let Some(last) = page.last() else { return Ok(found) };
        after = *last;
        for id in page {
            if reader.parts(id)?.first().is_some_and(is_terminal) {
                found.push(id);
            }
        }
    }
}

fn about(part: &Part) -> Option<Value> {
    let about: Value = serde_json::from_str(part.command.parameters.as_deref()?).ok()?;
    about.get("terminal").filter(|terminal| terminal.is_object()).cloned()
}

fn is_terminal(part: &Part) -> bool {
    let runs = ["shell", "exec", "subsystem"].contains(&part.command.kind.as_str());
    runs && (part.command.kind == "shell" || about(part).is_some())
}

/// Reads one. `None`: there is no such command.
pub(crate) fn read(reader: &Reader, id: Seq) -> Result<Option<Recording>> {
    let parts = reader.every_part(id)?;
    let Some(first) = parts.first() else { return Ok(None) };
    if !is_terminal(first) {
        bail!("command {} had no terminal", id.0);
    }
    let time: jiff::Timestamp = first.command.time.parse().context("the command's time")?;
    let about = about(first).unwrap_or_default();
    let number = |name: &str| about[name].as_u64().filter(|number| *number > 0);
    let mut recording = Recording {
        at: time.as_second(),
        title: first.command.statement.clone().unwrap_or_default(),
        kind: about["kind"].as_str().map(str::to_owned),
        size: (number("columns").unwrap_or(SIZE.0), number("rows").unwrap_or(SIZE.1)),
        events: Vec::new(),
        truncated: parts.iter().any(|part| part.truncated),
    };
    let (mut out, mut typed) = (Decoder::default(), Decoder::default());
    for part in &parts {
        let rows = part.response.as_deref().unwrap_or("[]");
        let rows: Vec<(u64, String, String, bool)> =
            serde_json::from_str(rows).context("the recording is of another form")?;
        for (at, stream, data, escaped) in rows {
            let bytes = if escaped { unescaped(&data) } else { data.into_bytes() };
            let (what, text) = match stream.as_str() {
                "in" => (What::In, typed.push(&bytes)),
                "size" => (What::Size, String::from_utf8_lossy(&bytes).into_owned()),
                _ => (What::Out, out.push(&bytes)),
            };
            if !text.is_empty() {
                recording.events.push(Event { at: Duration::from_micros(at), what, text });
            }
        }
    }
    Ok(Some(recording))
}

/// Writes one to a file; answers whether there is such a command.
pub(crate) fn export(reader: &Reader, id: Seq, path: &Path) -> Result<bool> {
    let Some(recording) = read(reader, id)? else {
        writeln!(std::io::stderr(), "chaperone: there is no command {}", id.0)?;
        return Ok(false);
    };
    let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
    let mut file = BufWriter::new(file);
    recording.write(&mut file)?;
    file.flush()?;
    if recording.truncated {
        writeln!(std::io::stderr(), "chaperone: more passed than was kept (`terminal`)")?;
    }
    Ok(true)
}

impl Recording {
    fn write(&self, file: &mut impl Write) -> Result<()> {
        let (width, height) = self.size;
        let mut head = json!({
            "version": 2,
            "width": width,
            "height": height,
            "timestamp": self.at,
            "title": self.title,
        });
        if let Some(kind) = &self.kind {
            head["env"] = json!({ "TERM": kind });
        }
        writeln!(file, "{head}")?;
        for event in &self.events {
            let code = match event.what {
                What::Out => "o",
                What::In => "i",
                What::Size => "r",
            };
            writeln!(file, "{}", json!([event.at.as_secs_f64(), code, event.text]))?;
        }
        Ok(())
    }

    /// Plays it on a terminal, which nothing in it may do more to than draw. `wait`: for so long.
    pub(crate) fn play(&self, out: &mut impl Write, mut wait: impl FnMut(Duration)) -> Result<()> {
        let mut safe = Safe::default();
        let mut last = Duration::ZERO;
        for event in self.events.iter().filter(|event| event.what == What::Out) {
            wait(event.at.saturating_sub(last));
            last = event.at;
            out.write_all(safe.pass(&event.text).as_bytes())?;
            out.flush()?;
        }
        out.write_all(safe::END.as_bytes())?;
        if self.truncated {
            writeln!(out, "(more passed than was kept)")?;
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_written_line_by_line_and_played_without_what_was_typed() {
        let event = |ms, what, text: &str| Event {
            at: Duration::from_millis(ms),
            what,
            text: text.to_owned(),
        };
        let recording = Recording {
            at: 1_700_000_000,
            title: "shell".into(),
            kind: Some("xterm".into()),
            size: (80, 24),
            events: vec![
                event(10, What::Out, "$ "),
                event(1500, What::In, "\u{3}"),
                event(1600, What::Size, "100x40"),
                event(2000, What::Out, "ü\r\n\u{1b}]0;title\u{7}"),
            ],
            truncated: false,
        };
        let mut file = Vec::new();
        recording.write(&mut file).expect("written");
        let lines: Vec<Value> = String::from_utf8(file)
            .expect("text")
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines[0]["version"], 2);
        assert_eq!((&lines[0]["width"], &lines[0]["env"]["TERM"]), (&80.into(), &"xterm".into()));
        assert_eq!(lines[2], json!([1.5, "i", "\u{3}"]));
        assert_eq!(lines[3], json!([1.6, "r", "100x40"]));
        let (mut out, mut waited) = (Vec::new(), Vec::new());
        recording.play(&mut out, |span| waited.push(span.as_millis())).expect("played");
        assert_eq!(waited, [10, 1990]);
        assert_eq!(String::from_utf8(out).expect("text"), format!("$ ü\r\n{}", safe::END));
    }
}
