//! What the log keeps of a mask that is lifted for a run of an agent.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{AgentName, Ref, TargetName, Timestamp};

/// A step of an exception from a mask; the number of its first one stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionStep {
    /// When.
    pub at: Timestamp,
    /// Which exception.
    pub exception: Ref,
    /// What happened.
    pub step: Step,
    /// The mask.
    pub mask: Arc<str>,
    /// The agent.
    pub agent: AgentName,
    /// Its run.
    pub run: Arc<str>,
    /// On this target alone.
    pub target: Option<TargetName>,
    /// When it is asked for: who must be for it, as the mask says.
    pub approvers: Option<String>,
    /// Until when it can be granted; once it is, until when it holds.
    pub until: Option<Timestamp>,
    /// The account of who did it, as the kernel says; `None` where nobody did.
    pub uid: Option<u32>,
    /// Its name.
    pub person: Option<String>,
    /// Why, in their words or the daemon's.
    pub reason: Option<String>,
}

/// What happens to an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Somebody asks for it.
    Asked,
    /// A person is for it.
    Approved,
    /// Enough are: the mask is lifted from here on.
    Granted,
    /// A person is against it: it is over.
    Denied,
    /// A person ended it.
    Revoked,
    /// Its time is over, or nobody granted it in time.
    Expired,
    /// It ended with the run, or with the daemon.
    Ended,
}

impl Step {
    /// The name that the log uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Approved => "approved",
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Ended => "ended",
        }
    }
}
