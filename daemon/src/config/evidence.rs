//! How the log is kept as evidence: who signs it, how often, and for how long it is kept.
//!
//! Does not belong here: where checkpoints are sent.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Misplaced, duration, size};
use crate::secret::Source;

/// How the log is kept as evidence.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    /// What tells this log from others; the host's name where nothing is said.
    pub(crate) origin: Option<String>,
    /// The key that signs checkpoints; one is made beside the log where nothing is said.
    pub(crate) key: Option<Source>,
    /// How long a record may be without a checkpoint over it.
    pub(crate) checkpoint: Duration,
    /// How long nothing may be recorded before a sign of life is.
    pub(crate) heartbeat: Duration,
    /// How long records are kept, in days; for ever where nothing is said.
    pub(crate) keep_days: Option<u32>,
    /// Bytes that all files may have together before the oldest are removed.
    pub(crate) max_size: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    origin: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    checkpoint: Option<Spanned<String>>,
    heartbeat: Option<Spanned<String>>,
    keep_days: Option<Spanned<u32>>,
    max_size: Option<Spanned<String>>,
}

impl Raw {
    pub(super) fn check(self) -> Result<Evidence, Misplaced> {
        if let Some(origin) = &self.origin
            && (origin.get_ref().is_empty()
                || origin.get_ref().contains(|c: char| c.is_whitespace() || c == '+'))
        {
            let message =
                "an origin is a name without spaces and '+', such as \"db1.example.com/chaperone\"";
            return Err((origin.span(), message.into()));
        }
        let key = self
            .key
            .map(|text| text.get_ref().parse().map_err(|message: String| (text.span(), message)))
            .transpose()?;
        let span = |text: &Option<Spanned<String>>, default: u64| match text {
            Some(text) => duration(text, Duration::from_hours(1)),
            None => Ok(Duration::from_secs(default)),
        };
        if let Some(days) = &self.keep_days
            && *days.get_ref() == 0
        {
            return Err((days.span(), "keep_days is at least 1".into()));
        }
        let max_size = match &self.max_size {
            Some(text) => Some(size(Some(text), 0, 1 << 20, usize::MAX)? as u64),
            None => None,
        };
        Ok(Evidence {
            origin: self.origin.map(Spanned::into_inner),
            key,
            checkpoint: span(&self.checkpoint, 5)?,
            heartbeat: span(&self.heartbeat, 60)?,
            keep_days: self.keep_days.map(Spanned::into_inner),
            max_size,
        })
    }
}
