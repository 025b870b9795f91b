//! Conditions on a program that a command line runs, and on the files that it names.
//!
//! A line is a statement for each program that it runs, so that a rule which allows must match each of
//! them. Does not belong here: reading a line.

use chaperone_model::{Hides, PathUse, Statement};
use wildmatch::WildMatch;

/// Whether a statement may run such a program with such a word.
pub(super) fn may_match(
    programs: &[WildMatch],
    arguments: &[WildMatch],
    statement: &Statement,
) -> bool {
    if programs.is_empty() && arguments.is_empty() || statement.opaque {
        return true;
    }
    let Some(program) = &statement.program else { return false };
    (programs.is_empty()
        || program.name.is_empty()
        || programs.iter().any(|glob| glob.matches(&program.name)))
        && (arguments.is_empty()
            || program
                .arguments
                .iter()
                .any(|word| !word.literal || arguments.iter().any(|glob| glob.matches(&word.text))))
}

/// Whether it surely is such a program, runs no other that the line does not name, and is given such
/// words alone.
pub(super) fn surely_matches(
    programs: &[WildMatch],
    arguments: &[WildMatch],
    statement: &Statement,
) -> bool {
    if programs.is_empty() && arguments.is_empty() {
        return true;
    }
    let Some(program) = &statement.program else { return false };
    program.hides < Hides::Programs
        && !program.name.is_empty()
        && (programs.is_empty() || programs.iter().any(|glob| glob.matches(&program.name)))
        && (arguments.is_empty()
            || !program.arguments.is_empty()
                && program.arguments.iter().all(|word| {
                    word.literal && arguments.iter().any(|glob| glob.matches(&word.text))
                }))
}

/// Whether a file, or one below it where these are meant, may be one of those.
pub(super) fn may_be(glob: &WildMatch, one: &PathUse) -> bool {
    if glob.matches(&one.path) {
        return true;
    }
    if !one.below {
        return false;
    }
    // What comes before the first sign that stands for others.
    let pattern = glob.pattern();
    let fixed = pattern.split(['*', '?']).next().unwrap_or_default();
    let folder = format!("{}/", one.path.trim_end_matches('/'));
    fixed.starts_with(&folder) || folder.starts_with(fixed)
}

/// Whether it is one of those, with all that is below it.
pub(super) fn surely_is(glob: &WildMatch, one: &PathUse) -> bool {
    let below = || format!("{}/\u{1}/\u{2}", one.path.trim_end_matches('/'));
    glob.matches(&one.path) && (!one.below || glob.matches(&below()))
}
