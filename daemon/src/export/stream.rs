//! Streaming: what finishes is sent to an OTLP receiver as it does, by a cursor that survives.
//!
//! The cursor is a file, and is moved after the receiver took what lies before it: all is sent at
//! least once, and what is sent again has the same numbers (`otlp`).
//!
//! Does not belong here: the form.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use chaperone_audit::Filter;
use chaperone_model::Seq;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::http::{HeaderMap, StatusCode};

use super::{
    gather::{Carry, Gatherer},
    item::Exported,
    otlp,
};
use crate::outbound::{self, Backoff, Rest};

/// How often it is looked for what has finished.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest rest that a receiver may ask for.
const LONGEST_REST: Duration = Duration::from_hours(1);
/// Of a receiver's answer, what is read.
const ANSWER: u64 = 64 << 10;

/// Where to, and with what.
pub(crate) struct Destination {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, SecretString)>,
    /// The cursor's file.
    pub(crate) cursor: PathBuf,
}

/// Sends from a thread of its own, until it is dropped.
pub(crate) struct Stream {
    rest: Arc<Rest>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Begins where the cursor is, or at the log's first record.
    pub(crate) fn start(log: &Path, to: Destination) -> Result<Self> {
        if let Some(folder) = to.cursor.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("the folder {} of an export", folder.display()))?;
        }
        let after = read(&to.cursor)?;
        let rest = Arc::new(Rest::default());
        let sender = Sender {
            agent: outbound::client(),
            to,
            after,
            backoff: Backoff::default(),
            rest: rest.clone(),
        };
        let log = log.to_owned();
        let thread =
            thread::Builder::new().name("export".into()).spawn(move || sender.run(&log))?;
        Ok(Self { rest, thread: Some(thread) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.rest.end();
        // A receiver that is slow is not waited for: what is left is sent after the next start.
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct Cursor {
    after: u64,
}

fn read(path: &Path) -> Result<Seq> {
    let place = || format!("the cursor {}", path.display());
    match fs::read(path) {
        Ok(text) => {
            let cursor: Cursor = serde_json::from_slice(&text).with_context(place)?;
            Ok(Seq(cursor.after))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Seq(0)),
        Err(error) => Err(error).with_context(place),
    }
}

/// Whole, or not at all.
fn write(path: &Path, after: Seq) -> Result<()> {
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let mut file = File::create(&next)?;
    serde_json::to_writer(&mut file, &Cursor { after: after.0 }).map_err(io::Error::from)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(fs::rename(&next, path)?)
}

struct Sender {
    agent: ureq::Agent,
    to: Destination,
    after: Seq,
    backoff: Backoff,
    rest: Arc<Rest>,
}

/// What a receiver said.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It took it, but for what it says it did not.
    Taken(Option<String>),
    /// It will not take this request, however often it is sent.
    Refused(String),
    /// It may take it later: perhaps it said when.
    Later(String, Option<Duration>),
}

impl Sender {
    fn run(mut self, log: &Path) {
        loop {
            let rest = match self.pass(log) {
                Ok(true) => continue,
                Ok(false) => LOOK_EVERY,
                Err(error) => {
                    let name = &self.to.name;
                    tracing::warn!(export = name, "the log is not exported: {error:#}");
                    self.backoff.next()
                }
            };
            if !self.rest.rest(rest) {
                return;
            }
        }
    }

    /// Sends page after page; answers whether it is to be called again at once.
    fn pass(&mut self, log: &Path) -> Result<bool> {
        let mut gatherer = Gatherer::open(log, Filter::default(), Carry::Leaves)?;
        loop {
            let last = gatherer.reader().last_outcome()?;
            if last < self.after {
                let name = &self.to.name;
                tracing::warn!(export = name, "another log is here: it is exported from its start");
                self.after = Seq(0);
            }
            if last == self.after {
                if self.rest.rest(LOOK_EVERY) {
                    continue;
                }
                return Ok(false);
            }
            let mut items = Vec::new();
            let next = gatherer.page(self.after, last, &mut |exported| {
                items.push(exported);
                Ok(())
            })?;
            if !self.send(gatherer.host(), &items) {
                return Ok(false);
            }
            write(&self.to.cursor, next)
                .with_context(|| format!("the cursor {}", self.to.cursor.display()))?;
            self.after = next;
            self.backoff.reset();
        }
    }

    /// Sends items until they are taken; answers whether they were, or the daemon ends.
    fn send(&mut self, host: &str, items: &[Exported]) -> bool {
        if items.is_empty() {
            return true;
        }
        let body = otlp::request(host, items).to_string();
        loop {
            let name = self.to.name.as_str();
            let rest = match self.post(&body) {
                Answer::Taken(None) => return true,
                Answer::Taken(Some(what)) => {
                    tracing::warn!(export = name, "the receiver did not take all: {what}");
                    return true;
                }
                // Perhaps one of them is too long, or odd: the others are not kept by it.
                Answer::Refused(why) if items.len() > 1 => {
                    tracing::debug!(export = name, "sending it in halves: {why}");
                    let (one, other) = items.split_at(items.len() / 2);
                    return self.send(host, one) && self.send(host, other);
                }
                Answer::Refused(why) => {
                    tracing::error!(
                        export = name,
                        item = items.first().map(which),
                        "the receiver refuses this item for good, and goes without it: {why}"
                    );
                    return true;
                }
                Answer::Later(why, when) => {
                    tracing::warn!(export = name, "sending it again later: {why}");
                    let rest = self.backoff.next();
                    when.map_or(rest, |when| when.min(LONGEST_REST))
                }
            };
            if !self.rest.rest(rest) {
                return false;
            }
        }
    }

    fn post(&self, body: &str) -> Answer {
        let mut request = self.agent.post(&self.to.url).content_type("application/json");
        for (name, value) in &self.to.headers {
            request = request.header(name, value.expose_secret());
        }
        let sent = request.config().http_status_as_error(false).build().send(body);
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => return Answer::Later(error.to_string(), None),
        };
        let mut text = Vec::new();
        let read = response.body_mut().as_reader().take(ANSWER).read_to_end(&mut text);
        if read.is_err() && !response.status().is_success() {
            text.clear();
        }
        answer(response.status(), response.headers(), &text)
    }
}

/// As OTLP/HTTP says (opentelemetry.io, "OTLP/HTTP Response"), but that nothing is given up for what
/// operations can mend: a token that has expired, a path that is not there yet.
fn answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    let text = || String::from_utf8_lossy(body).chars().take(200).collect::<String>();
    if status.is_success() {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let partial = &body["partialSuccess"];
        let rejected = &partial["rejectedLogRecords"];
        let rejected = rejected.as_str().and_then(|n| n.parse().ok()).or(rejected.as_u64());
        let message = partial["errorMessage"].as_str().unwrap_or_default();
        return Answer::Taken(match rejected.unwrap_or(0) {
            0 if message.is_empty() => None,
            count => Some(format!("{count} records were rejected: {message}")),
        });
    }
    let why = format!("it answered {status}: {}", text());
    match status {
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Answer::Refused(why),
        _ => Answer::Later(why, headers.get("retry-after").and_then(|v| after(v.to_str().ok()?))),
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a time.
fn after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(then.duration_since(jiff::Timestamp::now()).try_into().unwrap_or_default())
}

fn which(exported: &Exported) -> u64 {
    match exported {
        Exported::Command(item) => item.part.command.id,
        Exported::Session(session) => session.row.id,
        Exported::Hold(hold) => hold.row.id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_as_the_protocol_says() {
        let say = |status: u16, after: Option<&str>, body: &str| {
            let mut headers = HeaderMap::new();
            if let Some(after) = after {
                headers.insert("retry-after", after.parse().expect("a value"));
            }
            answer(StatusCode::from_u16(status).expect("a status"), &headers, body.as_bytes())
        };
        for body in ["", "{}", r#"{"partialSuccess":{}}"#, "no JSON"] {
            assert_eq!(say(200, None, body), Answer::Taken(None), "{body}");
        }
        let partial = r#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}"#;
        let told = Some("2 records were rejected: too old".into());
        assert_eq!(say(200, None, partial), Answer::Taken(told));
        for status in [400, 413, 422] {
            assert!(matches!(say(status, None, ""), Answer::Refused(_)), "{status}");
        }
        for status in [401, 404, 429, 500, 502, 503, 504, 302] {
            assert!(matches!(say(status, None, ""), Answer::Later(_, None)), "{status}");
        }
        let Answer::Later(_, when) = say(429, Some("7"), "") else { panic!("later") };
        assert_eq!(when, Some(Duration::from_secs(7)));
        let Answer::Later(_, when) = say(503, Some("Wed, 21 Oct 2015 07:28:00 GMT"), "") else {
            panic!("later")
        };
        assert_eq!(when, Some(Duration::ZERO), "that was long ago");
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cursor");
        assert_eq!(read(&path).expect("nothing yet"), Seq(0));
        write(&path, Seq(7)).expect("written");
        assert_eq!(read(&path).expect("read"), Seq(7));
        fs::write(&path, "nonsense").expect("written");
        assert!(read(&path).is_err(), "it does not begin again for that");
    }
}
