//! `through`: targets that lie behind others, in whose SSH sessions agents reach them.
//!
//! Does not belong here: which target a tunnel leads to (`tunnels`).

use std::{collections::HashSet, ops::Range};

use chaperone_model::{Protocol, TargetName};
use toml::{Spanned, Value};

use super::{Misplaced, Target, rule::strings};
use crate::addresses::TargetAddress;

/// The targets that one lies behind, as its entry names them; none where it says nothing.
pub(super) fn named(raw: Option<&Spanned<Value>>) -> Result<Vec<TargetName>, Misplaced> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let names = strings(raw)?;
    if names.is_empty() {
        let message =
            "this names no target: leave `through` out where agents connect by themselves";
        return Err((raw.span(), message.into()));
    }
    Ok(names.into_iter().map(|name| TargetName(name.into())).collect())
}

/// What is taken of the addresses: seen from here, or through a target.
#[derive(Default)]
pub(super) struct Taken(HashSet<(Option<TargetName>, TargetAddress)>);

impl Taken {
    /// Takes an address. Answers whether it was free.
    pub(super) fn take(&mut self, through: &[TargetName], address: &TargetAddress) -> bool {
        if through.is_empty() {
            return self.0.insert((None, address.clone()));
        }
        let mut all = through.iter().map(|outer| (Some(outer.clone()), address.clone()));
        all.all(|place| self.0.insert(place))
    }
}

/// Whether all that are named are there, speak SSH, and can be reached.
pub(super) fn check(targets: &[Target], spans: &[Range<usize>]) -> Result<(), Misplaced> {
    let of = |name: &TargetName| targets.iter().find(|target| target.name == *name);
    let mut reached: HashSet<&TargetName> =
        targets.iter().filter(|one| one.through.is_empty()).map(|one| &one.name).collect();
    for (target, span) in targets.iter().zip(spans) {
        for name in &target.through {
            match of(name) {
                None => {
                    return Err((
                        span.clone(),
                        format!("there is no target named {name:?}", name = name.0),
                    ));
                }
                Some(outer) if outer.protocol != Protocol::Ssh => {
                    let message = format!("target {name} does not speak SSH: it has no tunnels");
                    return Err((span.clone(), message));
                }
                Some(_) => {}
            }
        }
    }
    loop {
        let next = |one: &&Target| {
            !reached.contains(&one.name) && one.through.iter().any(|name| reached.contains(name))
        };
        match targets.iter().find(next) {
            Some(one) => reached.insert(&one.name),
            None => break,
        };
    }
    match targets.iter().zip(spans).find(|(one, _)| !reached.contains(&one.name)) {
        None => Ok(()),
        Some((_, span)) => {
            Err((span.clone(), "through these it is reached by nobody: they lie behind it".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, parse};

    fn with(more: &str) -> Result<Vec<Vec<String>>, String> {
        let web = "[[target]]\nname = \"web\"\nprotocol = \"ssh\"\naddress = [\"10.1.1.1:22\"]\n";
        let config = parse(&format!("{GOOD}\n{web}\n{more}"))?;
        let through = |one: &super::Target| one.through.iter().map(|n| n.0.to_string()).collect();
        Ok(config.targets.iter().map(through).collect())
    }

    fn target(name: &str, protocol: &str, address: &str, through: &str) -> String {
        format!(
            "[[target]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\naddress = [\"{address}\"]\nthrough = {through}\n{}",
            if protocol == "ssh" { "" } else { "tls = \"disable\"\n" }
        )
    }

    #[test]
    fn a_target_lies_behind_those_that_speak_ssh_and_can_be_reached() {
        let db = target("db", "postgres", "localhost:5432", "\"web\"");
        assert_eq!(with(&db).expect("good")[2], ["web"]);
        let inner = target("inner", "ssh", "localhost:22", "[\"web\"]");
        let deep = target("deep", "ssh", "localhost:22", "[\"inner\"]");
        // The same place, as each of them sees it.
        assert_eq!(with(&format!("{inner}{deep}")).expect("good")[3], ["inner"]);
        for (more, why) in [
            (target("db", "postgres", "a:1", "\"wep\""), "there is no target named \"wep\""),
            (target("db", "postgres", "a:1", "\"prod\""), "does not speak SSH"),
            (target("db", "postgres", "a:1", "[]"), "names no target"),
            (target("a", "ssh", "a:1", "\"a\""), "reached by nobody"),
            (
                format!(
                    "{}{}",
                    target("a", "ssh", "a:1", "\"b\""),
                    target("b", "ssh", "b:1", "\"a\"")
                ),
                "reached by nobody",
            ),
            (
                format!("{db}{}", target("b", "postgres", "localhost:5432", "\"web\"")),
                "watched twice",
            ),
            (format!("{db}sockets = [\"/run/x\"]"), "this host's"),
        ] {
            let error = with(&more).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
