//! What of a mask people are asked about: whether a guess may run, and whether the mask is lifted.
//!
//! Both stand in the mask and not in a rule: of rules the strictest holds, and to lift a mask is laxer
//! than anything that a rule says. Does not belong here: what they answer (`approvals`,
//! `exceptions`).

use std::{sync::Arc, time::Duration};

use chaperone_policy::Terms;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{Guessing, Misplaced, Raw};
use crate::config::{
    duration,
    rule::{Written, terms, word},
};

/// How long a mask is lifted at most, where it does not say.
const LASTS: Duration = Duration::from_hours(1);
/// The longest that it may say.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// Who may lift a mask.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawUnmask {
    approvers: Spanned<Value>,
    quorum: Option<Spanned<u32>>,
    deadline: Option<Spanned<String>>,
    lasts: Option<Spanned<String>>,
}

#[derive(Clone, Copy)]
enum Said {
    Refuse,
    Hold,
    Allow,
}

/// What becomes of guesses, with the terms on which they wait for a person.
pub(super) fn guessing(raw: &Raw, name: &Arc<str>) -> Result<Guessing, Misplaced> {
    let written = Written {
        approvers: raw.approvers.as_ref(),
        deadline: raw.deadline.as_ref(),
        quorum: raw.quorum.as_ref(),
        wait: raw.wait.as_ref(),
        lifetime: raw.lifetime.as_ref(),
        uses: raw.uses.as_ref(),
        bind: raw.bind.as_ref(),
    };
    let words = [("refuse", Said::Refuse), ("hold", Said::Hold), ("allow", Said::Allow)];
    let said = word(raw.guessing.as_ref(), &words)?.unwrap_or(Said::Refuse);
    let misplaced = written.any().filter(|_| !matches!(said, Said::Hold));
    if let Some(span) = misplaced {
        let message = "this is for masks with guessing = \"hold\" alone: who may lift one is said by unmask = { approvers = … }";
        return Err((span, message.into()));
    }
    Ok(match said {
        Said::Refuse => Guessing::Refuse,
        Said::Allow => Guessing::Allow,
        Said::Hold => {
            let span = raw.guessing.as_ref().map_or(0..0, Spanned::span);
            Guessing::Hold(Arc::new(terms(&written, name, span)?))
        }
    })
}

/// Who may lift the mask, where somebody may.
pub(super) fn unmask(raw: &Raw, name: &Arc<str>) -> Result<Option<Arc<Terms>>, Misplaced> {
    let Some(unmask) = &raw.unmask else { return Ok(None) };
    let RawUnmask { approvers, quorum, deadline, lasts } = unmask.get_ref();
    let written = Written {
        approvers: Some(approvers),
        quorum: quorum.as_ref(),
        deadline: deadline.as_ref(),
        ..Written::default()
    };
    let terms = terms(&written, name, unmask.span())?;
    let lifetime = lasts.as_ref().map_or(Ok(LASTS), |text| duration(text, LONGEST))?;
    Ok(Some(Arc::new(Terms { lifetime, uses: None, ..terms })))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chaperone_policy::{Approver, Wait};

    use super::super::{
        Guessing,
        tests::{MASK, with},
    };

    #[test]
    fn a_mask_can_ask_people_about_guesses_on_the_terms_of_a_rule() {
        let lines = "with = \"null\"\nguessing = \"hold\"\napprovers = [\"group:dba\"]\nquorum = 2\nwait = \"retry\"";
        let masks = with(&format!("{MASK}{lines}")).expect("good");
        let Guessing::Hold(terms) = &masks[0].guessing else { panic!("{:?}", masks[0].guessing) };
        assert_eq!((&*terms.rule, terms.quorum, terms.wait), ("mail", 2, Wait::Retry));
        assert_eq!(terms.approvers, [Approver::Group("dba".into())]);
        assert!(masks[0].unmask.is_none(), "who approves a guess does not lift the mask");
    }

    #[test]
    fn a_mask_says_who_may_lift_it_and_for_how_long() {
        let with = |unmask: &str| with(&format!("{MASK}with = \"null\"\nunmask = {unmask}"));
        let masks = with("{ approvers = \"user:anna\" }").expect("good");
        let terms = masks[0].unmask.as_ref().expect("somebody may");
        assert_eq!((terms.lifetime, terms.quorum), (super::LASTS, 1));
        let masks =
            with("{ approvers = \"group:dpo\", quorum = 2, lasts = \"4h\", deadline = \"1h\" }");
        let masks = masks.expect("good");
        let terms = masks[0].unmask.as_ref().expect("somebody may");
        let hour = Duration::from_hours(1);
        assert_eq!((terms.lifetime, terms.quorum, terms.deadline), (4 * hour, 2, hour));
        assert_eq!(masks[0].terms().count(), 1);
    }

    #[test]
    fn mistakes_in_whom_a_mask_asks_are_told() {
        for (lines, why) in [
            ("guessing = \"hold\"", "who may approve it?"),
            ("approvers = \"user:anna\"", "guessing = \"hold\" alone"),
            ("guessing = \"allow\"\nquorum = 2", "guessing = \"hold\" alone"),
            ("guessing = \"hold\"\napprovers = \"anna\"", "names nobody"),
            ("unmask = { lasts = \"1h\" }", "approvers"),
            ("unmask = { approvers = [] }", "nobody who could approve"),
            ("unmask = { approvers = \"user:anna\", lasts = \"0s\" }", "out of range"),
            ("unmask = { approvers = \"user:anna\", lasts = \"169h\" }", "out of range"),
            ("unmask = { approvers = \"user:anna\", quorum = 2 }", "1 to 1 different people"),
            ("unmask = { approvers = \"user:anna\", for = \"1h\" }", "for"),
        ] {
            let told = with(&format!("{MASK}with = \"null\"\n{lines}")).expect_err(lines);
            assert!(told.contains(why), "{lines}: {told}");
        }
    }
}
