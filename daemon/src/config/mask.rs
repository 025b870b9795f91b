//! `[[mask]]`: what agents may not see, and what stands in its place.
//!
//! Does not belong here: masking itself (`chaperone_policy::mask`), and which columns of a result it
//! touches (`masks`).

use std::sync::Arc;

use chaperone_model::Protocol;
use chaperone_policy::{
    ColumnGlob, Terms, When,
    mask::{Detector, Detectors, Form, Keep},
};
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{
    Agent, Misplaced, Target,
    rule::{RawWhen, column, strings, when_of, word},
};
use crate::secret::Source;

mod people;

/// Comparisons of a masked column with a value that an agent may make in a minute, where the mask
/// does not say.
const EQUALITY: u64 = 60;

/// A mask.
#[derive(Clone, Debug)]
pub(crate) struct Mask {
    /// What auditors are told.
    pub(crate) name: Arc<str>,
    /// Which columns are masked. None: whatever is found anywhere.
    pub(crate) columns: Vec<ColumnGlob>,
    /// What is looked for in values, to be masked there. None: the values as a whole.
    pub(crate) detect: Detectors,
    /// For which sessions.
    pub(crate) when: When,
    pub(crate) form: Form,
    /// Of pseudonyms.
    pub(crate) key: Option<Source>,
    /// Whether a masked column may decide which rows come, and in which order, or be written
    /// elsewhere.
    pub(crate) guessing: Guessing,
    /// Statements a minute that may compare one with a value by `=`.
    pub(crate) equality: u64,
    /// Whether code that nobody reads may run.
    pub(crate) unread: bool,
    /// Whether files that SFTP and scp carry to the agent are looked into.
    pub(crate) files: bool,
    /// Who may lift it for a run, and for how long at most (`lifetime`); `None` is nobody.
    pub(crate) unmask: Option<Arc<Terms>>,
}

/// What becomes of a statement that tells something of a masked column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guessing {
    Refuse,
    /// It waits for a person.
    Hold(Arc<Terms>),
    Allow,
}

impl Mask {
    /// The terms of all that people are asked because of it.
    pub(crate) fn terms(&self) -> impl Iterator<Item = &Arc<Terms>> {
        let held = match &self.guessing {
            Guessing::Hold(terms) => Some(terms),
            Guessing::Refuse | Guessing::Allow => None,
        };
        held.into_iter().chain(&self.unmask)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    columns: Option<Spanned<Value>>,
    detect: Option<Spanned<Value>>,
    when: Option<Spanned<RawWhen>>,
    with: Spanned<String>,
    text: Option<Spanned<String>>,
    first: Option<Spanned<usize>>,
    last: Option<Spanned<usize>>,
    prefix: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    guessing: Option<Spanned<String>>,
    equality: Option<Spanned<u64>>,
    unread: Option<Spanned<String>>,
    files: Option<Spanned<bool>>,
    approvers: Option<Spanned<Value>>,
    deadline: Option<Spanned<String>>,
    quorum: Option<Spanned<u32>>,
    wait: Option<Spanned<String>>,
    lifetime: Option<Spanned<String>>,
    uses: Option<Spanned<Value>>,
    bind: Option<Spanned<String>>,
    unmask: Option<Spanned<people::RawUnmask>>,
}

/// Checks all masks, against what they may name.
pub(super) fn check(
    raw: Vec<Raw>,
    agents: &[Agent],
    targets: &[Target],
) -> Result<Vec<Mask>, Misplaced> {
    let mut masks: Vec<Mask> = Vec::new();
    for raw in raw {
        let mask = mask(&raw, agents, targets)?;
        if masks.iter().any(|other| other.name == mask.name) {
            let message = format!("there is another mask named {:?}", mask.name);
            return Err((raw.name.span(), message));
        }
        masks.push(mask);
    }
    Ok(masks)
}

fn mask(raw: &Raw, agents: &[Agent], targets: &[Target]) -> Result<Mask, Misplaced> {
    let name = raw.name.get_ref().trim();
    if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
        let message = "a mask's name is a short text: it is what auditors are told";
        return Err((raw.name.span(), message.into()));
    }
    let columns = columns(raw)?;
    let detect = detect(raw)?;
    if columns.is_empty() {
        of_columns_alone(raw)?;
    }
    let files = match &raw.files {
        None => false,
        Some(files) if !columns.is_empty() => {
            return Err((
                files.span(),
                "files are looked into for masks with `detect` alone".into(),
            ));
        }
        Some(files) => *files.get_ref(),
    };
    let when = match &raw.when {
        None => When::default(),
        Some(when) => {
            let found = when_of(when.get_ref(), agents, targets, &mut <_>::default())?;
            if !found.is_of_sessions() {
                let message = "a mask is for all that a session does: its `when` cannot speak of statements, times or rates";
                return Err((when.span(), message.into()));
            }
            found
        }
    };
    for target in targets {
        let meant = when.targets.is_empty() || when.targets.contains(&target.name);
        if !columns.is_empty()
            && meant
            && target.protocol == Protocol::Postgres
            && target.credentials.is_empty()
        {
            let message = format!(
                "masks need the target's catalog, and target {} has no `credential` with which the daemon could ask it",
                target.name
            );
            return Err((raw.name.span(), message));
        }
    }
    let name: Arc<str> = name.into();
    let unread = word(raw.unread.as_ref(), &[("refuse", false), ("allow", true)])?;
    Ok(Mask {
        columns,
        detect,
        when,
        form: form(raw)?,
        key: raw
            .key
            .as_ref()
            .map(|text| text.get_ref().parse().map_err(|message: String| (text.span(), message)))
            .transpose()?,
        guessing: people::guessing(raw, &name)?,
        equality: raw.equality.as_ref().map_or(EQUALITY, |most| *most.get_ref()),
        unread: unread.unwrap_or(false),
        files,
        unmask: people::unmask(raw, &name)?,
        name,
    })
}

fn columns(raw: &Raw) -> Result<Vec<ColumnGlob>, Misplaced> {
    let Some(value) = &raw.columns else {
        if raw.detect.is_some() {
            return Ok(Vec::new());
        }
        let message = "what does it mask? Say so by columns = [\"schema.table.column\"], by detect = [\"email\"], or by both";
        return Err((raw.name.span(), message.into()));
    };
    let texts = strings(value)?;
    if texts.is_empty() {
        return Err((value.span(), "a mask without columns masks nothing".into()));
    }
    let column = |text: &String| column(text).map_err(|message| (value.span(), message));
    texts.iter().map(column).collect()
}

fn detect(raw: &Raw) -> Result<Detectors, Misplaced> {
    let Some(value) = &raw.detect else { return Ok(Detectors::default()) };
    let names = strings(value)?;
    if names.is_empty() {
        return Err((value.span(), "a mask that looks for nothing masks nothing".into()));
    }
    if raw.with.get_ref() == "year" {
        let message = "with = \"year\" is for dates, and no detector finds those";
        return Err((raw.with.span(), message.into()));
    }
    let detector = |name: &String| {
        Detector::named(name).ok_or_else(|| {
            let known = Detector::ALL.map(Detector::name).join("\", \"");
            (value.span(), format!("{name:?} is no detector: there are \"{known}\""))
        })
    };
    names.iter().map(detector).collect()
}

/// What counts for masks of columns is not said of others.
fn of_columns_alone(raw: &Raw) -> Result<(), Misplaced> {
    let spans = [
        ("guessing", raw.guessing.as_ref().map(Spanned::span)),
        ("equality", raw.equality.as_ref().map(Spanned::span)),
        ("unread", raw.unread.as_ref().map(Spanned::span)),
        ("unmask", raw.unmask.as_ref().map(Spanned::span)),
    ];
    match spans.into_iter().find_map(|(key, span)| Some((key, span?))) {
        Some((key, span)) => Err((span, format!("{key} is for masks with `columns` alone"))),
        None => Ok(()),
    }
}

fn form(raw: &Raw) -> Result<Form, Misplaced> {
    let with = raw.with.get_ref().as_str();
    let only = |key: &str, span: Option<std::ops::Range<usize>>, of: &str| match span {
        Some(span) if with != of => Err((span, format!("{key} is for with = {of:?} alone"))),
        _ => Ok(()),
    };
    only("text", raw.text.as_ref().map(Spanned::span), "constant")?;
    only("first", raw.first.as_ref().map(Spanned::span), "partial")?;
    only("last", raw.last.as_ref().map(Spanned::span), "partial")?;
    only("prefix", raw.prefix.as_ref().map(Spanned::span), "pseudonym")?;
    only("key", raw.key.as_ref().map(Spanned::span), "pseudonym")?;
    let missing = |message: &str| Err((raw.with.span(), message.to_owned()));
    match with {
        "null" => Ok(Form::Null),
        "year" => Ok(Form::Year),
        "constant" => match &raw.text {
            Some(text) => Ok(Form::Constant(text.get_ref().as_str().into())),
            None => missing("which constant? Say so by text = \"…\""),
        },
        "partial" => match (&raw.first, &raw.last) {
            (Some(count), None) => Ok(Form::Partial(Keep::First(*count.get_ref()))),
            (None, Some(count)) => Ok(Form::Partial(Keep::Last(*count.get_ref()))),
            (None, None) => missing("how much of it stays? Say so by first = 2 or last = 4"),
            (Some(_), Some(last)) => {
                Err((last.span(), "either `first` or `last` stays, not both".into()))
            }
        },
        "pseudonym" if raw.key.is_none() => {
            missing("a pseudonym needs a key: say where it is by key = \"systemd:mask-key\"")
        }
        "pseudonym" => {
            let prefix = raw.prefix.as_ref().map_or("", |text| text.get_ref().as_str());
            Ok(Form::Pseudonym(prefix.into()))
        }
        other => Err((
            raw.with.span(),
            format!(
                "{other:?} is no way to mask: use \"null\", \"constant\", \"partial\", \"pseudonym\" or \"year\""
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use chaperone_policy::mask::{Detector, Form, Keep};

    use super::super::tests::{GOOD, parse};

    /// A configuration whose target the daemon can ask.
    pub(in crate::config::mask) fn with(lines: &str) -> Result<Vec<super::Mask>, String> {
        let good = GOOD.replace("[[target]]", "[[target]]\ncredential = { user = \"app\" }");
        parse(&format!("{good}[[mask]]\n{lines}\n")).map(|config| config.masks)
    }

    pub(in crate::config::mask) const MASK: &str =
        "name = \"mail\"\ncolumns = [\"public.customers.email\", \"*.cards.pan\"]\n";

    #[test]
    fn a_mask_is_read() {
        let masks = with(&format!("{MASK}with = \"partial\"\nlast = 4")).expect("good");
        assert_eq!(masks[0].form, Form::Partial(Keep::Last(4)));
        assert_eq!(masks[0].guessing, super::Guessing::Refuse);
        assert!(!masks[0].unread && masks[0].unmask.is_none());
        assert_eq!(masks[0].equality, super::EQUALITY);
        let key = format!("{MASK}with = \"pseudonym\"\nkey = \"systemd:mask\"");
        assert_eq!(with(&key).expect("good")[0].form, Form::Pseudonym("".into()));
        assert!(
            with(&format!("{key}\n[[mask]]\n{key}")).expect_err("two").contains("another mask")
        );
    }

    #[test]
    fn mistakes_in_a_mask_are_told() {
        for (lines, why) in [
            ("with = \"hide\"", "no way to mask"),
            ("with = \"partial\"", "how much of it stays"),
            ("with = \"partial\"\nfirst = 1\nlast = 1", "not both"),
            ("with = \"pseudonym\"", "needs a key"),
            ("with = \"constant\"", "which constant"),
            ("with = \"null\"\nlast = 4", "for with = \"partial\" alone"),
            ("with = \"null\"\nwhen = { class = \"read\" }", "cannot speak of statements"),
            ("with = \"null\"\nguessing = \"ask\"", "\"refuse\" or \"hold\" or \"allow\""),
            ("with = \"null\"\nhidden = true", "hidden"),
        ] {
            let told = with(&format!("{MASK}{lines}")).expect_err(lines);
            assert!(told.contains(why), "{lines}: {told}");
        }
        for (lines, why) in [
            ("", "what does it mask"),
            ("detect = []", "looks for nothing"),
            ("detect = [\"cards\"]", "is no detector: there are \"email\", \"card\""),
            ("detect = [\"card\"]\nunread = \"allow\"", "for masks with `columns` alone"),
            ("columns = [\"a.b\"]\nfiles = true", "with `detect` alone"),
            ("detect = [\"card\"]\nequality = 3", "for masks with `columns` alone"),
        ] {
            let told = with(&format!("name = \"a\"\nwith = \"null\"\n{lines}")).expect_err(lines);
            assert!(told.contains(why), "{lines}: {told}");
        }
        let told = with("name = \"a\"\ndetect = [\"card\"]\nwith = \"year\"").expect_err("a year");
        assert!(told.contains("for dates"), "{told}");
        let told =
            with("name = \"a\"\ncolumns = [\"email\"]\nwith = \"null\"").expect_err("a column");
        assert!(told.contains("is no column"), "{told}");
    }

    #[test]
    fn p2_a_mask_needs_a_target_that_can_be_asked() {
        let told =
            parse(&format!("{GOOD}[[mask]]\n{MASK}with = \"null\"\n")).expect_err("no credential");
        assert!(told.contains("catalog"), "{told}");
    }

    #[test]
    fn a_mask_of_what_is_found_needs_no_catalog() {
        let mask = "[[mask]]\nname = \"found\"\ndetect = [\"card\", \"aws-secret\"]\nwith = \"partial\"\nlast = 4\n";
        let masks = parse(&format!("{GOOD}{mask}")).map(|config| config.masks).expect("good");
        assert!(masks[0].columns.is_empty());
        assert_eq!(masks[0].detect, [Detector::Card, Detector::AwsSecret].into_iter().collect());
    }
}
