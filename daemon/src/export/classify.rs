//! What an item is in the words that collectors have for it.
//!
//! Does not belong here: the form that they are written in.

use std::net::{IpAddr, SocketAddr};

use super::item::Item;

/// What became of a command by what policy and people said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Allowed,
    Approved,
    Denied,
    /// It waited, and nobody let it go on.
    Rejected,
    /// It went on because the target is only observed.
    Observed,
}

impl Action {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Rejected => "rejected",
            Self::Observed => "observed",
        }
    }
}

pub(crate) fn action(item: &Item) -> Action {
    let c = item.command();
    match c.verdict.as_str() {
        "would-deny" | "would-hold" => Action::Observed,
        "deny" => Action::Denied,
        "hold" if c.status == "refused" => Action::Rejected,
        "hold" => Action::Approved,
        _ if c.status == "refused" => Action::Denied,
        _ if c.approval.is_some() => Action::Approved,
        _ => Action::Allowed,
    }
}

/// How much an operator should mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Informational,
    Low,
    Medium,
    High,
}

impl Severity {
    /// OCSF's `severity_id` and `severity`.
    pub(crate) fn ocsf(self) -> (u8, &'static str) {
        match self {
            Self::Informational => (1, "Informational"),
            Self::Low => (2, "Low"),
            Self::Medium => (3, "Medium"),
            Self::High => (4, "High"),
        }
    }

    /// CEF's, from 0 to 10.
    pub(crate) fn cef(self) -> &'static str {
        match self {
            Self::Informational => "1",
            Self::Low => "3",
            Self::Medium => "6",
            Self::High => "8",
        }
    }
}

/// By what it can do, and by whether it was let.
pub(crate) fn severity(item: &Item) -> Severity {
    let by_class = match item.command().class.as_deref() {
        Some("destructive") => Severity::Medium,
        Some("forbidden") => Severity::High,
        Some("write") => Severity::Low,
        _ => Severity::Informational,
    };
    let by_action = match action(item) {
        Action::Denied | Action::Rejected | Action::Observed => Severity::Medium,
        Action::Allowed | Action::Approved => Severity::Informational,
    };
    by_class.max(by_action)
}

/// The address of a server, as the log has it.
pub(crate) fn server(text: &str) -> Option<(IpAddr, u16)> {
    text.parse::<SocketAddr>().ok().map(|address| (address.ip(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::{super::item::tests::item, *};

    #[test]
    fn what_became_of_a_command_is_told_by_verdict_and_status() {
        let mut item = item();
        let mut of = |verdict: &str, status: &str, approval| {
            let command = &mut item.finished.part.command;
            command.verdict = verdict.into();
            command.status = status.into();
            command.approval = approval;
            action(&item)
        };
        assert_eq!(of("allow", "ok", None), Action::Allowed);
        assert_eq!(of("allow", "ok", Some(3)), Action::Approved);
        assert_eq!(of("allow", "refused", None), Action::Denied, "the daemon refused it");
        assert_eq!(of("deny", "refused", None), Action::Denied);
        assert_eq!(of("hold", "refused", None), Action::Rejected);
        assert_eq!(of("hold", "error", None), Action::Approved, "the server refused it");
        assert_eq!(of("would-deny", "ok", None), Action::Observed);
    }
}
