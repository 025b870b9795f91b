//! What is odd about a valid configuration: rules that never count, people who do not exist.
//!
//! Does not belong here: what is wrong, which is refused.

use chaperone_policy::{Approver, Mode, Then};
use nix::unistd::{Group, User};

use super::{Agent, Binaries, Scope, Target, rule::Checked};
use crate::addresses::TargetAddress;

/// Sentences for operations.
pub(super) fn warnings(rules: &[Checked], agents: &[Agent], targets: &[Target]) -> Vec<String> {
    let mut found = Vec::new();
    for checked in rules {
        let name = &checked.rule.name;
        if let Some(why) = never(checked, agents, targets) {
            found.push(format!("rule {name:?} can never count: {why}"));
        }
        let covering = rules.iter().find(|other| covers(other, checked));
        if let Some(covering) = covering {
            found.push(format!(
                "rule {name:?} never counts: {:?} is stricter and matches all that it does",
                covering.rule.name
            ));
        }
        if let Some(terms) = checked.rule.terms() {
            let mut all_agents = true;
            for approver in &terms.approvers {
                let (exists, uids) = people(approver);
                match exists {
                    Some(false) => found.push(format!(
                        "rule {name:?} asks {approver}, and this host has none of that name"
                    )),
                    Some(true) if uids.is_empty() => {
                        found.push(format!("rule {name:?} asks {approver}, which has no members"));
                    }
                    _ => {}
                }
                let is_agent =
                    |uid: &u32| agents.iter().any(|agent| agent.select.scope == Scope::User(*uid));
                all_agents &= exists == Some(true) && !uids.is_empty() && uids.iter().all(is_agent);
            }
            if all_agents {
                found.push(format!(
                    "rule {name:?} can be approved by nobody: its approvers are accounts of agents"
                ));
            }
        }
    }
    for target in targets {
        for other in targets.iter().filter(|other| other.name != target.name) {
            for (address, taken) in shadowed(target, other) {
                found.push(format!(
                    "{address} of target {mine} lies in {taken} of target {}: connections to it belong to {mine}",
                    other.name,
                    mine = target.name
                ));
            }
        }
    }
    found
}

/// Why a rule never counts, where it never does.
fn never(checked: &Checked, agents: &[Agent], targets: &[Target]) -> Option<String> {
    let rule = &checked.rule;
    let when = &rule.when;
    let is = |key: &str, value: &str| {
        checked.written.get(key).is_some_and(|values| values.iter().all(|v| v == value))
    };
    if is("class", "read") && is("access", "write") {
        return Some("what only reads changes no relation".into());
    }
    if is("class", "read") && when.selective.is_some() {
        return Some("what only reads has no rows that it changes".into());
    }
    if (is("class", "read") || is("class", "write")) && when.cascade == Some(true) {
        return Some("what takes along what depends on it is destructive".into());
    }
    if is("class", "write") && when.selective == Some(false) {
        return Some("what changes rows without bounds is destructive".into());
    }
    let of_agents: Vec<&Agent> = agents
        .iter()
        .filter(|agent| when.agents.is_empty() || when.agents.contains(&agent.name))
        .collect();
    if when.enrolled == Some(false)
        && of_agents.iter().all(|agent| agent.binaries != Binaries::Enrolled)
    {
        return Some("no agent that it is for has binaries = \"enrolled\"".into());
    }
    if !when.versions.is_empty()
        && matches!(rule.then, Then::Allow)
        && of_agents.iter().all(|agent| agent.version.is_none())
    {
        return Some("no agent that it is for has a version".into());
    }
    let observed = targets
        .iter()
        .filter(|target| when.targets.is_empty() || when.targets.contains(&target.name))
        .all(|target| target.policy_mode == Mode::Observe);
    if observed && matches!(rule.then, Then::Limit { statements: None, .. }) {
        return Some("the targets that it is for are only observed".into());
    }
    None
}

/// Whether one rule is stricter than another and matches whatever that one does.
fn covers(wide: &Checked, narrow: &Checked) -> bool {
    let strictness = |checked: &Checked| match &checked.rule.then {
        Then::Allow => Some(0),
        Then::Hold(_) => Some(1),
        Then::Deny(_) => Some(2),
        Then::Limit { .. } => None,
    };
    let (Some(strict), Some(lax)) = (strictness(wide), strictness(narrow)) else { return false };
    strict > lax
        && wide.written.iter().all(|(key, values)| {
            narrow.written.get(key).is_some_and(|of| of.iter().all(|value| values.contains(value)))
        })
        // A rule without conditions that forbids all is meant; one of a class says nothing of what
        // is forbidden anyway.
        && (!narrow.written.is_empty() || wide.written.is_empty())
}

/// Whether somebody exists, where that can be told, and their accounts.
fn people(approver: &Approver) -> (Option<bool>, Vec<u32>) {
    match approver {
        Approver::User(name) => match User::from_name(name) {
            Ok(Some(user)) => (Some(true), vec![user.uid.as_raw()]),
            Ok(None) => (Some(false), Vec::new()),
            Err(_) => (None, Vec::new()),
        },
        Approver::Group(name) => match Group::from_name(name) {
            Ok(Some(group)) => {
                let uid = |name: &String| Some(User::from_name(name).ok()??.uid.as_raw());
                let mut uids: Vec<u32> = group.mem.iter().filter_map(uid).collect();
                // Those whose first group it is are not listed as its members.
                if uids.is_empty() && primary(group.gid.as_raw()) {
                    uids.push(u32::MAX);
                }
                (Some(true), uids)
            }
            Ok(None) => (Some(false), Vec::new()),
            Err(_) => (None, Vec::new()),
        },
    }
}

/// Whether a group is the first of some account in `/etc/passwd`.
fn primary(gid: u32) -> bool {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd.lines().any(|line| line.split(':').nth(3) == Some(&gid.to_string()))
}

/// Addresses of a target that lie in a wider one of another's.
fn shadowed<'a>(
    target: &'a Target,
    other: &'a Target,
) -> Vec<(&'a TargetAddress, &'a TargetAddress)> {
    let mut found = Vec::new();
    for address in &target.addresses {
        for wide in &other.addresses {
            if wide.contains(address) && address != wide {
                found.push((address, wide));
            }
        }
    }
    found
}
