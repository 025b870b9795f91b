//! Edges between the workspace's crates: which may use which, and who alone may use what.
//!
//! Belongs here: the tables and the check as a pure function of what Cargo says. A new crate is a
//! new line here.

/// Which members a member may use. All but these edges are refused.
const EDGES: &[(&str, &[&str])] = &[
    ("chaperone-abi", &[]),
    ("chaperone-model", &[]),
    ("chaperone-wire", &["chaperone-model"]),
    ("chaperone-policy", &["chaperone-model"]),
    ("chaperone-sql", &["chaperone-model"]),
    ("chaperone-shell", &["chaperone-model"]),
    ("chaperone-control", &["chaperone-model"]),
    ("chaperone-audit", &["chaperone-model"]),
    ("chaperone-kernel", &["chaperone-model", "chaperone-abi"]),
    (
        "chaperone",
        &[
            "chaperone-model",
            "chaperone-wire",
            "chaperone-policy",
            "chaperone-sql",
            "chaperone-shell",
            "chaperone-control",
            "chaperone-audit",
            "chaperone-kernel",
        ],
    ),
    (
        "chaperone-host-tests",
        &[
            "chaperone-model",
            "chaperone-wire",
            "chaperone-policy",
            "chaperone-audit",
            "chaperone-control",
        ],
    ),
    ("chaperone-driver-agents", &[]),
    ("chaperone-vm-tests", &[]),
    ("xtask", &[]),
];

/// The only member that may use a crate from elsewhere, in tests too.
const ONLY_USERS: &[(&str, &str)] = &[("rusqlite", "chaperone-audit"), ("aya", "chaperone-kernel")];

/// These may read the log with it, in tests: as an auditor's own tool would.
const TEST_USERS: &[(&str, &str)] = &[("rusqlite", "chaperone-host-tests")];

/// Members without I/O, and the crates that would bring it in.
const PURE: &[&str] = &["chaperone-wire", "chaperone-policy", "chaperone-shell", "chaperone-model"];
const IO: &[&str] = &["tokio", "nix", "socket2"];

/// The only member that may hold `unsafe` code; it has lints of its own.
const UNSAFE: &str = "chaperone-kernel";

/// A workspace member as far as edges go.
pub(crate) struct Member {
    pub(crate) name: String,
    /// The text of its `Cargo.toml`.
    pub(crate) manifest: String,
    pub(crate) uses: Vec<Use>,
}

/// One dependency.
pub(crate) struct Use {
    pub(crate) name: String,
    /// In tests alone.
    pub(crate) dev: bool,
}

/// What is wrong, each a sentence that names the edge.
pub(crate) fn violations(members: &[Member], workspace: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !section_has(workspace, "[workspace.lints.rust]", "unsafe_code = \"forbid\"") {
        found.push("the workspace's lints do not forbid unsafe code: [workspace.lints.rust] needs unsafe_code = \"forbid\"".into());
    }
    for member in members {
        let name = member.name.as_str();
        let Some((_, allowed)) = EDGES.iter().find(|(of, _)| *of == name) else {
            found.push(format!(
                "{name} is a new member: say in xtask/src/edges.rs which members it may use"
            ));
            continue;
        };
        if name != UNSAFE && !section_has(&member.manifest, "[lints]", "workspace = true") {
            found.push(format!("{name} does not inherit the workspace's lints, and only {UNSAFE} may have its own: it needs [lints] workspace = true"));
        }
        for used in &member.uses {
            let target = used.name.as_str();
            let is_member = members.iter().any(|other| other.name == target);
            if is_member && !used.dev && !allowed.contains(&target) {
                found.push(format!("{name} → {target} is not an allowed edge"));
            }
            if let Some((_, only)) = ONLY_USERS.iter().find(|(of, _)| *of == target)
                && *only != name
                && !(used.dev && TEST_USERS.contains(&(target, name)))
            {
                found.push(format!(
                    "{name} → {target} is not an allowed edge: only {only} uses {target}"
                ));
            }
            if !used.dev && PURE.contains(&name) && IO.contains(&target) {
                found.push(format!("{name} → {target} is not an allowed edge: {name} does no I/O"));
            }
        }
    }
    found
}

/// Whether a line stands in a table of a TOML file, in the plain form that this repository writes.
/// Another form of saying the same is refused: the plain one is easy to check and to read.
fn section_has(toml: &str, header: &str, wanted: &str) -> bool {
    toml.lines()
        .map(str::trim)
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .any(|line| line == wanted)
}

#[cfg(test)]
mod tests {
    use super::{Member, Use, violations};

    const ROOT: &str = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n";

    fn member(name: &str, uses: &[&str]) -> Member {
        let uses = uses.iter().map(|name| Use { name: (*name).into(), dev: false }).collect();
        Member { name: name.into(), manifest: "[lints]\nworkspace = true\n".into(), uses }
    }

    fn tests_of(name: &str, uses: &str) -> Member {
        let uses = vec![Use { name: uses.into(), dev: true }];
        Member { uses, ..member(name, &[]) }
    }

    fn check(members: &[Member]) -> String {
        violations(members, ROOT).join("\n")
    }

    #[test]
    fn the_drawn_edges_are_allowed() {
        let members = [
            member("chaperone-model", &["serde"]),
            member("chaperone-audit", &["chaperone-model", "rusqlite", "tokio"]),
            Member {
                manifest: String::new(),
                ..member("chaperone-kernel", &["chaperone-abi", "aya"])
            },
            member("chaperone", &["chaperone-audit", "chaperone-kernel", "tokio"]),
            tests_of("chaperone-host-tests", "rusqlite"),
        ];
        assert_eq!(check(&members), "");
    }

    #[test]
    fn an_edge_between_siblings_is_named() {
        let members =
            [member("chaperone-policy", &[]), member("chaperone-wire", &["chaperone-policy"])];
        assert_eq!(check(&members), "chaperone-wire → chaperone-policy is not an allowed edge");
    }

    #[test]
    fn an_edge_upwards_is_named() {
        let members = [member("chaperone", &[]), member("chaperone-model", &["chaperone"])];
        assert_eq!(check(&members), "chaperone-model → chaperone is not an allowed edge");
    }

    #[test]
    fn sqlite_and_aya_have_one_user_each() {
        assert!(
            check(&[member("chaperone", &["rusqlite"])])
                .contains("only chaperone-audit uses rusqlite")
        );
        assert!(
            check(&[tests_of("chaperone", "rusqlite")])
                .contains("only chaperone-audit uses rusqlite")
        );
        assert!(
            check(&[member("chaperone-host-tests", &["rusqlite"])])
                .contains("chaperone-host-tests → rusqlite")
        );
        assert!(check(&[member("chaperone", &["aya"])]).contains("only chaperone-kernel uses aya"));
    }

    #[test]
    fn crates_without_io_stay_so() {
        assert!(
            check(&[member("chaperone-wire", &["tokio"])]).contains("chaperone-wire does no I/O")
        );
        assert!(
            check(&[member("chaperone-policy", &["nix"])]).contains("chaperone-policy does no I/O")
        );
    }

    #[test]
    fn lints_of_ones_own_are_for_the_kernel_crate() {
        let own = Member { manifest: "[lints.rust]\n".into(), ..member("chaperone-wire", &[]) };
        assert!(check(&[own]).contains("does not inherit"));
        let misplaced = Member {
            manifest: "[lints]\n[package]\nworkspace = true\n".into(),
            ..member("xtask", &[])
        };
        assert!(check(&[misplaced]).contains("does not inherit"));
        assert!(violations(&[], "[workspace]\n").join("").contains("forbid unsafe code"));
    }

    #[test]
    fn an_unknown_member_is_refused() {
        assert!(check(&[member("chaperone-new", &[])]).contains("is a new member"));
    }
}
