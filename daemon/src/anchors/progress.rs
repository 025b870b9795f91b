//! How far an anchor has come: what it took last, and since when it is behind.
//!
//! Does not belong here: how it is given checkpoints.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use chaperone_audit::{
    Sealed,
    note::{Checkpoint, Note},
};
use chaperone_control::AnchorStatus;
use chaperone_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::{config::Anchor, evidence};

/// How long after the start an anchor may need for its first try before it can lag.
const GRACE: Duration = Duration::from_secs(20);
/// These are no secrets: the log's folder guards them from those who may not read the log.
const FILE_MODE: u32 = 0o644;

/// The folder beside the log.
pub(super) fn folder(log: &Path) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(".anchors");
    path.into()
}

/// The notes that anchors took last, with what they added to them.
pub(crate) fn kept_notes(log: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder(log)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "note"));
    paths.sort();
    paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// What is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    taken: Option<Taken>,
    /// Since when there is a checkpoint that it did not take.
    behind_since: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    /// Of which log: with another one it begins anew.
    origin: String,
    size: u64,
    at: Timestamp,
}

impl Saved {
    /// Keeps it, with the note that was taken just now.
    pub(super) fn write(&self, folder: &Path, name: &str, note: Option<&str>) -> io::Result<()> {
        if let Some(note) = note {
            evidence::write(&folder.join(format!("{name}.note")), note, FILE_MODE)?;
        }
        let text = serde_json::to_string(self).map_err(io::Error::from)?;
        evidence::write(&folder.join(format!("{name}.json")), &text, FILE_MODE)
    }

    fn read(folder: &Path, name: &str) -> Option<Self> {
        let path = folder.join(format!("{name}.json"));
        let text = fs::read_to_string(&path).ok()?;
        match serde_json::from_str(&text) {
            Ok(saved) => Some(saved),
            Err(error) => {
                // The next one that is taken replaces it.
                tracing::warn!(path = %path.display(), %error, "what an anchor took is not known");
                None
            }
        }
    }
}

pub(super) struct Progress {
    saved: Saved,
    error: Option<String>,
    /// It said that the log is not the one that it knew.
    refused: bool,
    /// From when on it can lag.
    judged_from: Timestamp,
    alarmed: Option<Timestamp>,
}

impl Progress {
    pub(super) fn restore(folder: &Path, anchor: &Anchor, now: Timestamp) -> Self {
        Self::new(Saved::read(folder, &anchor.name).unwrap_or_default(), anchor.lag, now)
    }

    fn new(saved: Saved, lag: Duration, now: Timestamp) -> Self {
        let judged_from = Timestamp(now.0 + micros(lag.min(GRACE)));
        Self { saved, error: None, refused: false, judged_from, alarmed: None }
    }

    pub(super) fn saved(&self) -> Saved {
        self.saved.clone()
    }

    /// Whether a checkpoint is one to give it. One that is smaller than what it took is given as
    /// well: the place is to see that the log was set back.
    pub(super) fn wants(&self, newest: &Sealed) -> bool {
        let size = self.saved.taken.as_ref().filter(|taken| is_of(newest, taken)).map(|t| t.size);
        size != Some(newest.size)
    }

    /// The size of what it took last of this log.
    pub(super) fn last_size(&self, newest: &Sealed) -> u64 {
        let taken = self.saved.taken.as_ref().filter(|taken| is_of(newest, taken));
        taken.map_or(0, |taken| taken.size)
    }

    pub(super) fn offered(&mut self, size: u64, now: Timestamp) {
        if self.saved.taken.as_ref().is_none_or(|taken| taken.size != size) {
            self.saved.behind_since.get_or_insert(now);
        }
    }

    /// Answers whether that ends an alarm.
    pub(super) fn taken(&mut self, head: &Sealed, newest: u64, now: Timestamp) -> bool {
        let origin = origin(head).unwrap_or_default();
        self.saved.taken = Some(Taken { origin, size: head.size, at: now });
        self.saved.behind_since = (newest != head.size).then_some(now);
        self.error = None;
        self.refused = false;
        self.judged_from = now;
        self.alarmed.take().is_some()
    }

    /// Answers whether it is another failure than the last one.
    pub(super) fn failed(&mut self, failure: &Failure, now: Timestamp) -> bool {
        self.refused = matches!(failure, Failure::Refused(_));
        self.judged_from = self.judged_from.min(now);
        let error = failure.to_string();
        let fresh = self.error.as_ref() != Some(&error);
        self.error = Some(error);
        fresh
    }

    fn lags(&self, lag: Duration, now: Timestamp) -> bool {
        let long = self.saved.behind_since.is_some_and(|since| now.0 - since.0 >= micros(lag));
        self.refused || (long && now >= self.judged_from)
    }

    /// The alarm, where one is due: once in each span of `lag`.
    pub(super) fn alarm(&mut self, anchor: &Anchor, size: u64, now: Timestamp) -> Option<String> {
        let due = self.alarmed.is_none_or(|last| now.0 - last.0 >= micros(anchor.lag));
        if !due || !self.lags(anchor.lag, now) {
            return None;
        }
        self.alarmed = Some(now);
        let name = &anchor.name;
        let last = match &self.saved.taken {
            Some(taken) => format!("the last that it took is over {} records", taken.size),
            None => "it has never taken one".into(),
        };
        let what = if self.refused {
            format!("refuses the log's checkpoint over {size} records")
        } else {
            format!(
                "has not taken the log's checkpoints, of which the newest is over {size} records"
            )
        };
        let why = self.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        Some(format!("the anchor {name} {what}; {last}{why}"))
    }

    pub(super) fn status(&self, anchor: &Anchor, last: u64, now: Timestamp) -> AnchorStatus {
        let taken = self.saved.taken.as_ref();
        AnchorStatus {
            name: anchor.name.clone(),
            to: anchor.to.clone(),
            size: taken.map(|taken| taken.size),
            at: taken.map(|taken| taken.at),
            behind: last.saturating_sub(taken.map_or(0, |taken| taken.size)),
            lags: self.lags(anchor.lag, now),
            error: self.error.clone(),
        }
    }
}

fn origin(head: &Sealed) -> Option<String> {
    let note = Note::parse(&head.note).ok()?;
    Some(Checkpoint::of(&note).ok()?.origin)
}

fn is_of(head: &Sealed, taken: &Taken) -> bool {
    origin(head).is_some_and(|origin| origin == taken.origin)
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Destination, Syslog};

    const MINUTE: i64 = 60_000_000;
    const LAG: Duration = Duration::from_mins(10);

    fn anchor() -> Anchor {
        Anchor {
            name: "a".into(),
            to: "udp://h:1".into(),
            destination: Destination::Syslog(Syslog::Udp("h:1".into())),
            every: Duration::from_mins(1),
            lag: LAG,
        }
    }

    fn head(size: u64) -> Sealed {
        let root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        Sealed { size, note: format!("h\n{size}\n{root}\n\n— h AAAAAAA=\n").into() }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp(minute * MINUTE)
    }

    #[test]
    fn an_anchor_lags_once_the_log_has_gone_on_without_it_for_long() {
        let mut progress = Progress::new(Saved::default(), LAG, at(0));
        assert!(progress.alarm(&anchor(), 0, at(100)).is_none(), "there is nothing to take");
        progress.offered(5, at(100));
        progress.offered(9, at(105));
        assert!(progress.alarm(&anchor(), 9, at(109)).is_none());
        let alarm = progress.alarm(&anchor(), 9, at(110)).expect("an alarm");
        assert!(alarm.contains("over 9 records; it has never taken one"), "{alarm}");
        assert!(progress.alarm(&anchor(), 9, at(119)).is_none(), "once in each span");
        assert!(progress.alarm(&anchor(), 9, at(120)).is_some());
        assert!(progress.taken(&head(9), 9, at(121)), "it ends an alarm");
        assert!(!progress.lags(LAG, at(500)), "the log has not gone on");
        progress.offered(9, at(500));
        assert!(!progress.lags(LAG, at(900)));
        let status = progress.status(&anchor(), 12, at(900));
        assert_eq!((status.size, status.behind, status.lags), (Some(9), 3, false));
    }

    #[test]
    fn a_refusal_is_an_alarm_at_once() {
        let mut progress = Progress::new(Saved::default(), LAG, at(0));
        progress.offered(5, at(0));
        progress.failed(&Failure::Later("away".into()), at(0));
        assert!(progress.alarm(&anchor(), 5, at(0)).is_none());
        assert!(progress.failed(&Failure::Refused("not the log".into()), at(1)));
        assert!(!progress.failed(&Failure::Refused("not the log".into()), at(2)));
        let alarm = progress.alarm(&anchor(), 5, at(2)).expect("an alarm");
        assert!(alarm.contains("refuses") && alarm.ends_with(": not the log"), "{alarm}");
    }

    #[test]
    fn a_restart_forgets_neither_what_was_taken_nor_since_when_nothing_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut progress = Progress::restore(folder.path(), &anchor(), at(0));
        assert!(progress.wants(&head(5)));
        progress.taken(&head(5), 5, at(1));
        progress.offered(7, at(2));
        progress.saved().write(folder.path(), "a", Some("a note\n")).expect("kept");
        let mut again = Progress::restore(folder.path(), &anchor(), at(300));
        assert!(!again.wants(&head(5)) && again.wants(&head(7)) && again.wants(&head(3)));
        assert_eq!(again.last_size(&head(7)), 5);
        assert!(again.alarm(&anchor(), 7, at(300)).is_none(), "it was not tried yet");
        again.failed(&Failure::Later("away".into()), at(300));
        assert!(again.alarm(&anchor(), 7, at(300)).is_some());
        // Another log begins anew.
        let other = head(5).note.replace("h\n5", "other\n5");
        assert!(again.wants(&Sealed { size: 5, note: other.into() }));
        fs::write(folder.path().join("a.json"), "half").expect("written");
        assert!(Progress::restore(folder.path(), &anchor(), at(0)).saved().taken.is_none());
    }
}
