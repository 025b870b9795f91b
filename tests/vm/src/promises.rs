//! What is promised, one test each, in the order in which they run in one guest.
//!
//! Belongs here: the list, and what each test builds on. Each file below holds one concern.

mod agents;
mod bypass;
mod disk;
mod lifecycle;
mod package;

use anyhow::Result;

use crate::guest::Guest;

/// One test, or several that another program has.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
    /// It sets up what later ones build on.
    base: bool,
    /// It builds on nothing.
    alone: bool,
    /// It belongs to the short run.
    quick: bool,
}

/// How it is run.
pub(crate) enum Run {
    One(fn(&mut Guest) -> Result<()>),
    /// Their names, and one of them.
    Suite(fn(&mut Guest) -> Result<Vec<String>>, fn(&mut Guest, &str) -> Result<()>),
}

const fn base(name: &'static str, run: fn(&mut Guest) -> Result<()>) -> Test {
    Test { name, run: Run::One(run), base: true, alone: false, quick: true }
}

const fn quick(name: &'static str, run: fn(&mut Guest) -> Result<()>) -> Test {
    Test { name, run: Run::One(run), base: false, alone: false, quick: true }
}

const fn long(name: &'static str, run: fn(&mut Guest) -> Result<()>) -> Test {
    Test { name, run: Run::One(run), base: false, alone: false, quick: false }
}

const TESTS: &[Test] = &[
    base("without_the_package_every_agent_reaches_the_server", agents::reach_without),
    base("the_package_installs_without_a_network", package::installs),
    quick("nothing_is_enabled_without_being_asked", package::enables_nothing),
    quick("the_example_configuration_passes_check", package::example_passes),
    base("the_unit_starts_with_its_credential", package::starts),
    quick("p6_every_agent_goes_by_the_daemon_and_is_known", agents::protected),
    quick("p1_a_container_with_a_network_of_its_own_is_refused", agents::refused_in_network),
    quick("p1_the_servers_unix_socket_is_refused", agents::refused_at_socket),
    quick("p2_a_killed_daemon_lets_nobody_past", lifecycle::killed),
    long("p2_an_upgrade_fails_and_lets_past_nobody", lifecycle::upgraded),
    long("p2_while_the_host_starts_nobody_gets_past", lifecycle::rebooted),
    long("p2_after_a_power_cut_nobody_gets_past_and_the_log_is_whole", lifecycle::power_cut),
    long("p2_a_full_disk_refuses_and_recovers", disk::full),
    long("a_purge_leaves_nothing", package::purged),
    Test {
        name: "bypass",
        run: Run::Suite(bypass::list, bypass::run),
        base: false,
        alone: true,
        quick: false,
    },
];

/// Whether one of these is in the name; without any, every name is asked for.
pub(crate) fn is_asked(name: &str, filters: &[String]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter))
}

/// Those that are asked for, with all that they build on. What is no test's name may be that of one in
/// a suite, which only the guest knows.
pub(crate) fn all(quick: bool, filters: &[String]) -> Vec<&'static Test> {
    let elsewhere =
        filters.iter().any(|filter| TESTS.iter().all(|test| !test.name.contains(filter)));
    let asked = |test: &Test| {
        let inside = elsewhere && matches!(test.run, Run::Suite(..));
        (test.quick || !quick) && (inside || is_asked(test.name, filters))
    };
    // What comes behind the last that builds on it sets nothing up for anybody.
    let last = TESTS.iter().rposition(|test| asked(test) && !test.alone);
    let wanted = |index: usize| last.is_some_and(|last| index <= last);
    TESTS
        .iter()
        .enumerate()
        .filter(|(index, test)| asked(test) || (test.base && wanted(*index)))
        .map(|(_, test)| test)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::all;

    fn names(quick: bool, filters: &[&str]) -> Vec<&'static str> {
        let filters: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
        all(quick, &filters).iter().map(|test| test.name).collect()
    }

    #[test]
    fn a_test_comes_with_what_it_builds_on_and_nothing_else() {
        let filtered = names(false, &["full_disk"]);
        assert_eq!(filtered.len(), 4, "{filtered:?}");
        assert_eq!(filtered[3], "p2_a_full_disk_refuses_and_recovers");
        assert_eq!(names(false, &["bypass"]), ["bypass"]);
        assert_eq!(names(false, &["guard::p1"]), ["bypass"]);
        assert_eq!(names(false, &["full_disk", "power_cut"]).len(), 5);
        assert_eq!(names(false, &["the_package_installs"]).len(), 2);
        assert_eq!(names(true, &["full_disk"]), [""; 0]);
        assert!(names(true, &[]).len() < names(false, &[]).len());
    }
}
