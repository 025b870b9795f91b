//! What is odd about a valid configuration: rules that never count, people who do not exist.
//!
//! Does not belong here: what is wrong, which is refused.

use std::{collections::BTreeSet, net::IpAddr};

use chaperone_kernel::Watch;
use chaperone_model::{Protocol, Rung};
use chaperone_policy::{Approver, Mode, Terms, Then};
use nix::unistd::{Group, User};

use super::{Agent, Binaries, Mask, Scope, Target, rule::Checked};
use crate::{addresses::TargetAddress, near};

/// Sentences for operations.
pub(super) fn warnings(
    rules: &[Checked],
    masks: &[Mask],
    agents: &[Agent],
    targets: &[Target],
) -> Vec<String> {
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
            found.extend(asked(&format!("rule {name:?}"), terms, agents));
        }
    }
    for mask in masks {
        for terms in mask.terms() {
            found.extend(asked(&format!("mask {:?}", mask.name), terms, agents));
        }
    }
    let own = near::own().unwrap_or_default();
    for target in targets {
        if target.protocol == Protocol::Postgres
            && target.sockets.is_empty()
            && target.through.is_empty()
            && is_here(target, &own)
        {
            found.push(format!(
                "target {} is on this host and names none of its Unix sockets (`sockets`): agents reach it by them",
                target.name
            ));
        }
        // What is seen from elsewhere lies in nothing that is seen from here.
        let seen = |other: &&Target| other.name != target.name && other.through.is_empty();
        for other in targets.iter().filter(seen).filter(|_| target.through.is_empty()) {
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

/// Whether a target is listed at an address of this host's.
fn is_here(target: &Target, own: &BTreeSet<IpAddr>) -> bool {
    target.addresses.iter().any(|address| match address {
        TargetAddress::Fixed(Watch::Any { .. }) => false,
        TargetAddress::Fixed(watch) => near::covers(watch, own),
        TargetAddress::Name(name, _) => name.eq_ignore_ascii_case("localhost"),
    })
}

/// What is odd about whom a rule or a mask asks.
fn asked(what: &str, terms: &Terms, agents: &[Agent]) -> Vec<String> {
    let mut found = Vec::new();
    let mut all_agents = true;
    for approver in &terms.approvers {
        let (exists, uids) = people(approver);
        match exists {
            Some(false) => {
                found.push(format!("{what} asks {approver}, and this host has none of that name"));
            }
            Some(true) if uids.is_empty() => {
                found.push(format!("{what} asks {approver}, which has no members"));
            }
            _ => {}
        }
        let is_agent =
            |uid: &u32| agents.iter().any(|agent| agent.select.scope == Scope::User(*uid));
        all_agents &= exists == Some(true) && !uids.is_empty() && uids.iter().all(is_agent);
    }
    if all_agents {
        found.push(format!(
            "{what} can be approved by nobody: its approvers are accounts of agents"
        ));
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
        && of_agents
            .iter()
            .all(|agent| ![agent.binaries, agent.images].contains(&Binaries::Enrolled))
    {
        return Some("no agent that it is for has binaries or images = \"enrolled\"".into());
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
    // What is forbidden is lifted by the rule that names it, whichever else holds then.
    let lifts = |checked: &Checked| checked.rule.when.classes.contains(&Rung::Forbidden);
    strict > lax
        && (strict == 2 || !lifts(narrow) || lifts(wide))
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

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, parse};

    /// The warnings of the good configuration with these rules.
    fn warnings(rules: &str) -> Vec<String> {
        of(&format!("{GOOD}{rules}\n"))
    }

    fn of(text: &str) -> Vec<String> {
        parse(text).map(|config| config.warnings).expect(text)
    }

    fn rule(name: &str, when: &str, then: &str) -> String {
        format!("[[rule]]\nname = '{name}'\nwhen = {{ {when} }}\n{then}\n")
    }

    const DENY: &str = "then = 'deny'";
    const ALLOW: &str = "then = 'allow'";
    const HOLD: &str = "then = 'hold'\napprovers = 'user:root'";

    #[test]
    fn a_sane_configuration_has_no_warnings() {
        let rules = [
            rule("reads", "class = 'read', relation = 'public.*'", ALLOW),
            rule("drops", "class = 'destructive', target = 'prod'", DENY),
            rule("bounds", "class = 'destructive', selective = false", HOLD),
            rule("known", "agent = 'other', version = '>=1.4'", ALLOW),
            rule("rows", "agent = 'cleaner'", "limit = { rows = 1000 }"),
        ];
        assert_eq!(warnings(&rules.concat()), Vec::<String>::new());
        assert_eq!(warnings(""), Vec::<String>::new());
    }

    #[test]
    fn rules_that_can_never_count_are_found() {
        for (when, then, why) in [
            ("class = 'read', access = 'write'", DENY, "what only reads changes no relation"),
            ("class = 'read', selective = true", DENY, "no rows that it changes"),
            ("class = ['read', 'read'], selective = false", DENY, "no rows that it changes"),
            ("class = 'write', cascade = true", DENY, "depends on it is destructive"),
            ("class = 'read', cascade = true", DENY, "depends on it is destructive"),
            ("class = 'write', selective = false", DENY, "without bounds is destructive"),
            ("enrolled = false", DENY, "no agent that it is for has binaries or images"),
            ("agent = 'cleaner', version = '1'", ALLOW, "no agent that it is for has a version"),
        ] {
            let found = warnings(&rule("r", when, then));
            let [one] = found.as_slice() else { panic!("{when}: {found:?}") };
            assert!(one.starts_with("rule \"r\" can never count: "), "{when}: {one}");
            assert!(one.contains(why), "{when}: {one}");
        }
        for (when, then) in [
            ("class = ['read', 'write'], access = 'write'", DENY),
            ("class = ['write', 'destructive'], selective = false", DENY),
            ("class = 'write', cascade = false", DENY),
            ("enrolled = true", DENY),
            ("agent = 'cleaner', version = '1'", DENY),
        ] {
            assert_eq!(warnings(&rule("r", when, then)), Vec::<String>::new(), "{when}");
        }
    }

    #[test]
    fn limits_of_observed_targets_are_found() {
        let observed = format!("{GOOD}mode = 'observe'\n");
        let rows = rule("r", "", "limit = { rows = 1 }");
        let found = of(&format!("{observed}{rows}"));
        assert!(found[0].contains("are only observed"), "{found:?}");
        let statements = rule("r", "", "limit = { statements = 1 }");
        assert_eq!(of(&format!("{observed}{statements}")), Vec::<String>::new());
    }

    #[test]
    fn rules_that_a_stricter_one_covers_are_found() {
        for (wide, narrow, covered) in [
            (("class = 'read'", DENY), ("class = 'read', agent = 'cleaner'", ALLOW), true),
            (("class = ['read', 'write']", DENY), ("class = 'write'", ALLOW), true),
            (("", DENY), ("class = 'write'", ALLOW), true),
            (("class = 'read'", DENY), ("class = ['read', 'write']", ALLOW), false),
            (("class = 'read', agent = 'other'", DENY), ("class = 'read'", ALLOW), false),
            (("class = 'read'", ALLOW), ("class = 'read', agent = 'other'", DENY), false),
            (("class = 'read'", DENY), ("class = 'read'", DENY), false),
            (("class = 'read'", DENY), ("class = 'read'", "limit = { statements = 1 }"), false),
            (("class = 'read'", DENY), ("", ALLOW), false),
            (("", HOLD), ("class = 'forbidden'", ALLOW), false),
            (("", DENY), ("class = 'forbidden'", ALLOW), true),
            (("class = 'forbidden'", HOLD), ("class = 'forbidden', kind = 'LOAD'", ALLOW), true),
        ] {
            let wide = rule("wide", wide.0, wide.1);
            let narrow = rule("narrow", narrow.0, narrow.1);
            for rules in [[&*wide, &narrow].concat(), [&*narrow, &wide].concat()] {
                let found = warnings(&rules);
                let expected = "rule \"narrow\" never counts: \"wide\" is stricter";
                assert_eq!(found.iter().any(|w| w.starts_with(expected)), covered, "{found:?}");
                assert_eq!(found.len(), usize::from(covered), "{found:?}");
            }
        }
    }

    #[test]
    fn approvers_who_do_not_exist_are_found() {
        for (approvers, expected) in [
            (
                "['user:root', 'user:nobody-of-that-name']",
                &["user:nobody-of-that-name, and this host has none"][..],
            ),
            (
                "['user:root', 'group:none-of-that-name']",
                &["group:none-of-that-name, and this host has none"],
            ),
            ("'user:root'", &[]),
        ] {
            let found =
                warnings(&rule("r", "", &format!("then = 'hold'\napprovers = {approvers}")));
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{found}");
            }
        }
    }

    #[test]
    fn approvers_who_are_agents_alone_are_found() {
        let Ok(Some(daemon)) = nix::unistd::User::from_name("daemon") else { return };
        let agent = GOOD.replace("64001", &daemon.uid.to_string());
        for (approvers, expected) in [("'user:daemon'", 1), ("['user:daemon', 'user:root']", 0)] {
            let held = rule("r", "", &format!("then = 'hold'\napprovers = {approvers}"));
            let found = of(&format!("{agent}{held}"));
            assert_eq!(found.len(), expected, "{found:?}");
            assert!(found.iter().all(|w| w.contains("can be approved by nobody")), "{found:?}");
        }
    }

    #[test]
    fn a_server_on_this_host_whose_unix_sockets_are_not_named_is_found() {
        for (address, more, expected) in [
            ("127.0.0.1:5433", "", 1),
            ("localhost:5433", "", 1),
            ("[::1]:5433", "", 1),
            ("127.0.0.1:5433", "sockets = ['/run/postgresql/.s.PGSQL.5433']", 0),
            ("192.0.2.7:5433", "", 0),
            ("*:5433", "", 0),
        ] {
            let other = format!(
                "[[target]]\nname = 'near'\nprotocol = 'postgres'\naddress = ['{address}']\n{more}\n"
            );
            let found = warnings(&other);
            assert_eq!(found.len(), expected, "{found:?}");
            assert!(
                found.iter().all(|w| w.starts_with("target near is on this host")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn targets_in_anothers_prefix_are_found() {
        for (address, expected) in [
            (
                "10.0.0.7:5432",
                Some(
                    "10.0.0.7/32:5432 of target test lies in 10.0.0.0/24:5432 of target prod: connections to it belong to test",
                ),
            ),
            ("10.0.1.7:5432", None),
            ("10.0.0.7:5433", None),
        ] {
            let other = format!(
                "[[target]]\nname = 'test'\nprotocol = 'postgres'\naddress = ['{address}']\n"
            );
            assert_eq!(warnings(&other), Vec::from_iter(expected), "{address}");
        }
    }
}
