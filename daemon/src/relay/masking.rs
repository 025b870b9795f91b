//! What a session's masks say of a command, before it is decided.
//!
//! Does not belong here: which columns are masked, and what becomes of values (`masks`).

use std::{collections::HashMap, rc::Rc, sync::Arc};

use chaperone_model::{CommandKind, Lineage, NameUse, Outputs, Reading, Seq};
use chaperone_wire::postgres::{Masks, Refusal, Screens};

use super::{
    Relay,
    pending::{Pending, Turn},
};
use crate::catalog::Known;
use crate::masks::{Blind, Columns, Concern, Found, Guess, Guesses, Held, Lift, OfSession, Traced};

/// Statements, and names, of which it is remembered what comes of them.
const REMEMBERED: usize = 1000;

/// Statements of which it is remembered what they have to do with masked columns.
const WEIGHED: usize = 64;

/// The kind of a statement that may write rows in a way of its own.
const COPY: &str = "COPY";

/// What stands in the log for a text whose values cannot be left out.
const WITHHELD: &str = "(withheld: it may hold values for masked columns)";

/// Why a prepared statement does not run: the server binds names when it prepares, and may bind them
/// anew.
const BOUND_ANEW: &str = "its names may stand for something else by now: prepare it again";

/// What a session's masks need to know of it.
#[derive(Default)]
pub(super) struct Masking {
    of: Option<Arc<OfSession>>,
    /// What is looked for in all that comes, and in what is recorded.
    pub(super) found: Option<Rc<Found>>,
    /// What statements have to do with masked columns, by their readings.
    concerns: HashMap<usize, Weighed>,
    /// Prepared statements, by their readings: held so that no other gets its address.
    prepared: HashMap<usize, (Arc<Reading>, Rc<Traced>)>,
    /// What SQL's `PREPARE` and `DECLARE` made; `None` where a name was given twice.
    named: HashMap<String, Option<Rc<Traced>>>,
}

/// What a statement was found to have to do with masked columns, and what that depends on.
struct Weighed {
    /// Held so that no other gets its address.
    resolved: Arc<Reading>,
    known: Arc<Known>,
    version: u64,
    path_is_known: bool,
    concern: Concern,
}

/// How far following a command's columns has come.
#[derive(Default)]
pub(super) enum Followed {
    /// It has not begun.
    #[default]
    No,
    /// The columns of its text were looked for.
    Found(Arc<Columns>, Followup),
    /// It is refused, as nothing could be looked for.
    Refused(Followup),
    /// It is done.
    Done,
}

/// What a process said of a text.
pub(super) struct Followup {
    lineage: Option<Arc<Vec<Lineage>>>,
    without_values: Option<String>,
}

/// What the masks say of a command.
#[derive(Default)]
pub(super) struct Said {
    /// What masks its results.
    masks: Option<Rc<Traced>>,
    /// Why it does not go on, and the mask that says so.
    pub(super) refusal: Option<(Arc<str>, Refusal)>,
    /// What a person is asked about before it goes on.
    pub(super) held: Vec<Held>,
    /// The masks that are lifted for what it does, and by which exception.
    pub(super) lifted: Vec<(Arc<str>, Seq)>,
    /// Its text and parameters in the log are without values.
    pub(super) withheld: bool,
}

impl Said {
    /// It is to be found out once more. What was withheld stays so.
    pub(super) fn forget(&mut self) {
        let withheld = self.withheld;
        *self = Self { withheld, ..Self::default() };
    }

    pub(super) fn masks(&self) -> Option<Rc<dyn Masks>> {
        self.masks.clone().map(|masks| masks as Rc<dyn Masks>)
    }
}

impl Masking {
    pub(super) fn new(of: Option<Arc<OfSession>>) -> Self {
        let found = of.as_ref().and_then(OfSession::found).map(Rc::new);
        Self { of, found, ..Self::default() }
    }

    /// What masks the results of what is run by a name that is not known.
    pub(super) fn blind(&self) -> Option<Rc<dyn Masks>> {
        let of = self.of.clone().filter(|of| of.has_columns())?;
        Some(Rc::new(Blind(of)))
    }

    /// What is looked for in all that comes.
    pub(super) fn screens(&self) -> Option<Rc<dyn Screens>> {
        self.found.clone().map(|found| found as Rc<dyn Screens>)
    }

    /// What was found of a prepared statement, by its reading.
    pub(super) fn of_prepared(&self, reading: Option<&Arc<Reading>>) -> Option<Rc<Traced>> {
        let (_, traced) = self.prepared.get(&address(reading?))?;
        Some(traced.clone())
    }

    /// A statement is prepared. Answers the reading by which it is known from here on: texts that differ
    /// in their literals alone share one, of which not all may come to the same.
    pub(super) fn prepared(
        &mut self,
        reading: Option<Arc<Reading>>,
        said: &Said,
    ) -> Option<Arc<Reading>> {
        let (mut reading, traced) = match (reading, &said.masks) {
            (Some(reading), Some(traced)) => (reading, traced),
            (reading, _) => return reading,
        };
        let known = self.prepared.get(&address(&reading));
        if known.is_some_and(|(_, known)| !known.is_like(traced)) {
            reading = Arc::new(Reading::clone(&reading));
        }
        if self.prepared.len() >= REMEMBERED {
            // What runs of those is refused, and can be prepared again.
            self.prepared.clear();
        }
        self.prepared.insert(address(&reading), (reading.clone(), traced.clone()));
        Some(reading)
    }

    fn name(&mut self, name: &str, traced: &Rc<Traced>) {
        if self.named.len() >= REMEMBERED {
            self.named.clear();
        }
        self.named
            .entry(name.to_owned())
            .and_modify(|known| {
                // Whether the server took the last of them is not waited for.
                if known.as_ref().is_some_and(|known| !known.is_like(traced)) {
                    *known = None;
                }
            })
            .or_insert_with(|| Some(traced.clone()));
    }
}

impl Relay<'_> {
    /// Finds out what the masks say of a command. Gives it back where its columns have to be followed
    /// first: then it is the session's turn to wait.
    pub(super) fn follow(&mut self, mut pending: Pending) -> Option<Pending> {
        let Some(of) = self.deciding.masking.of.clone() else { return Some(pending) };
        if pending.command.kind == CommandKind::Cancel {
            return Some(pending);
        }
        match std::mem::take(&mut pending.followed) {
            Followed::Done => {
                pending.followed = Followed::Done;
                return Some(pending);
            }
            Followed::Found(columns, found) => {
                pending.followed = Followed::Done;
                self.found(&mut pending, &of, columns, found);
                return Some(pending);
            }
            Followed::Refused(found) => {
                pending.followed = Followed::Done;
                withhold(&mut pending, found.without_values);
                return Some(pending);
            }
            Followed::No => {}
        }
        let concern = if of.has_columns() { self.concern(&pending, &of) } else { Concern::None };
        let copies = || {
            let statements = pending.raw.iter().flat_map(|raw| &raw.statements);
            self.deciding.masking.found.is_some()
                && statements.into_iter().any(|one| one.kind == COPY)
        };
        let columns = match concern {
            // How it writes what is looked into must be known.
            Concern::None if copies() => Arc::default(),
            Concern::None => {
                pending.followed = Followed::Done;
                return Some(pending);
            }
            Concern::Unclear(why) => {
                pending.followed = Followed::Done;
                pending.said.refusal = Some(unclear(&why));
                let text = pending.original.as_ref().or(pending.command.text.as_ref());
                let Some(text) = text.cloned() else {
                    withhold_parameters(&mut pending);
                    return Some(pending);
                };
                // It may be about any column.
                let local = self.session.local.clone();
                let agent = self.session.identity.agent.clone();
                let withholding = async move {
                    let without_values = local.readers.without_values(&text, &agent.0).await;
                    Followup { lineage: None, without_values }
                };
                self.deciding.turn = Turn::Following(pending, None, Box::pin(withholding));
                return None;
            }
            Concern::Follow(columns) => columns,
        };
        let text = pending.original.as_ref().or(pending.command.text.as_ref());
        let Some(text) = text.cloned() else {
            pending.followed = Followed::Done;
            self.runs_again(&mut pending, &of, &columns);
            return Some(pending);
        };
        let local = self.session.local.clone();
        let agent = self.session.identity.agent.clone();
        let schema = columns.schema.clone();
        let following = async move {
            let lineage = local.readers.lineage(&text, &schema, &agent.0).await;
            let uses = |all: &Arc<Vec<Lineage>>| all.iter().any(|one| !one.uses.is_empty());
            let holds = lineage.as_ref().is_none_or(uses);
            let without_values =
                if holds { local.readers.without_values(&text, &agent.0).await } else { None };
            Followup { lineage, without_values }
        };
        self.deciding.turn = Turn::Following(pending, Some(columns), Box::pin(following));
        None
    }

    fn concern(&mut self, pending: &Pending, of: &OfSession) -> Concern {
        let (Some(raw), Some(resolved)) = (&pending.raw, &pending.command.reading) else {
            return Concern::Unclear("which statement it is, is not known here".into());
        };
        let Some(known) = &pending.known else {
            return if pending.asked {
                Concern::Unclear("the target's catalog could not be asked".into())
            } else {
                of.without_catalog(raw)
            };
        };
        let sight = self.deciding.looking.sight();
        let (version, path_is_known) = (sight.version(), pending.path_is_known);
        let concerns = &mut self.deciding.masking.concerns;
        // A command that was seen before costs no more than this.
        if let Some(one) = concerns.get(&address(resolved))
            && Arc::ptr_eq(&one.known, known)
            && (one.version, one.path_is_known) == (version, path_is_known)
        {
            return one.concern.clone();
        }
        let concern = of.concern(raw, resolved, known, sight, path_is_known);
        if concerns.len() >= WEIGHED {
            concerns.clear();
        }
        let (resolved, known, again) = (resolved.clone(), known.clone(), concern.clone());
        let one = Weighed { resolved, known, version, path_is_known, concern: again };
        concerns.insert(address(&one.resolved), one);
        concern
    }

    /// A command with a text, whose columns were followed.
    fn found(
        &mut self,
        pending: &mut Pending,
        of: &Arc<OfSession>,
        columns: Arc<Columns>,
        Followup { lineage, without_values }: Followup,
    ) {
        let statements = pending.raw.as_ref().map_or(0, |raw| raw.statements.len());
        let lineage = lineage.filter(|lineage| lineage.len() == statements);
        let Some(lineage) = lineage else {
            pending.said.refusal = Some(unclear("where its columns come from cannot be told"));
            withhold(pending, without_values);
            return;
        };
        let mut traced = Traced::new(of.clone(), columns, lineage);
        let names: Vec<_> = pending.raw.iter().flat_map(|raw| &raw.statements).collect();
        let names: Vec<_> = names.into_iter().map(|one| one.name.clone()).collect();
        if let Some(name) = traced.runs() {
            let known = self.deciding.masking.named.get(&name).cloned().flatten();
            let Some(known) = known.filter(|_| traced.lineage.len() == 1) else {
                let why = format!("it is not known where the columns of {name} come from");
                pending.said.refusal = Some(unclear(&why));
                withhold(pending, without_values);
                return;
            };
            // A cursor keeps what it was declared with.
            let executes = matches!(names.first(), Some(Some(NameUse::Executes(_))));
            if executes && known.columns != traced.columns {
                pending.said.refusal = Some(unclear(BOUND_ANEW));
                withhold(pending, without_values);
                return;
            }
            traced = Traced::clone(&known);
        } else {
            for (place, name) in names.iter().enumerate() {
                if let Some(NameUse::Prepares(name) | NameUse::Declares(name)) = name {
                    // What runs by that name later is a text of its own.
                    self.deciding.masking.name(name, &Rc::new(traced.only(place)));
                }
            }
        }
        let shown = traced.lifting(self.lift(of));
        // A prepared statement is asked about whenever it runs, a cursor when it is declared.
        let later = |place: usize| {
            matches!(
                names.get(place).and_then(Option::as_ref),
                Some(NameUse::Prepares(_) | NameUse::Fetches(_))
            )
        };
        match shown.guesses(later) {
            Guesses::Refused(guess) => pending.said.refusal = Some(guessed(guess)),
            Guesses::Held(held) => pending.said.held = held,
        }
        if let (Some(why), Some(_)) = (traced.unclear_copy(), &self.deciding.masking.found)
            && pending.said.refusal.is_none()
        {
            pending.said.refusal = Some(unread(why));
        }
        if pending.said.refusal.is_none() && pending.command.kind == CommandKind::Query {
            pending.said.refusal = self.too_often(&shown);
        }
        if traced.holds_values() {
            withhold(pending, without_values);
        } else if pending.said.refusal.is_some() && traced.copies_out() {
            // What was to stand for NULL may be a guess.
            withhold(pending, None);
        }
        let runs = pending.command.kind == CommandKind::Query;
        pending.said.lifted = shown.lifted(runs);
        // What is prepared may run when nothing is lifted any more.
        pending.said.masks = Some(Rc::new(if runs { shown } else { traced }));
    }

    /// What is lifted of the session's masks now.
    fn lift(&self, of: &OfSession) -> Option<Arc<Lift>> {
        let session = self.session;
        of.lift(&session.shared.exceptions.of(&session.identity, &session.target))
    }

    /// A prepared statement runs, which may be about masked columns.
    fn runs_again(&mut self, pending: &mut Pending, of: &OfSession, columns: &Arc<Columns>) {
        let Some(traced) = pending.prepared.take() else {
            withhold_parameters(pending);
            let why = "which statement it is, is not known here: prepare it again";
            pending.said.refusal = Some(unclear(why));
            return;
        };
        if *traced.columns != **columns {
            withhold_parameters(pending);
            pending.said.refusal = Some(unclear(BOUND_ANEW));
            return;
        }
        let lift = self.lift(of);
        let is_lifted = lift.is_some();
        let shown = traced.lifting(lift);
        match shown.guesses(|_| false) {
            Guesses::Refused(guess) => pending.said.refusal = Some(guessed(guess)),
            Guesses::Held(held) if held.is_empty() => {}
            // Nobody was asked when it got its parameters.
            Guesses::Held(_) => {
                let why =
                    "a person is asked about it when it gets its parameters: prepare it again";
                pending.said.refusal = Some(unclear(why));
            }
        }
        if pending.said.refusal.is_none() && pending.command.kind == CommandKind::Execute {
            pending.said.refusal = self.too_often(&shown);
        }
        if traced.holds_values() {
            withhold_parameters(pending);
        }
        if is_lifted {
            pending.said.lifted = shown.lifted(true);
            pending.said.masks = Some(Rc::new(shown));
        }
    }

    /// Counts comparisons with a masked column.
    fn too_often(&self, traced: &Traced) -> Option<(Arc<str>, Refusal)> {
        let (most, mask, times) = traced.equality()?;
        let session = self.session;
        let equalities = &session.shared.masks.equalities;
        let count = equalities.count(&session.identity.agent, &session.target, times);
        (count > most).then(|| {
            let what = "compares a masked column with a value too often";
            let (rule, refusal) = guessed(Guess { mask, what, column: None });
            (rule, refusal.hint(format!("It may be compared with {most} values in a minute.")))
        })
    }
}

impl Traced {
    /// The prepared statement or cursor that it runs, where it runs one.
    fn runs(&self) -> Option<String> {
        self.lineage.iter().find_map(|lineage| match &lineage.outputs {
            Outputs::Of(name) => Some(name.clone()),
            _ => None,
        })
    }
}

/// The log has the statement without the values that it compares or writes.
fn withhold(pending: &mut Pending, without_values: Option<String>) {
    let without_values = without_values.unwrap_or_else(|| WITHHELD.into());
    let original = pending.command.text.replace(without_values);
    pending.original = pending.original.take().or(original);
    withhold_parameters(pending);
}

fn withhold_parameters(pending: &mut Pending) {
    pending.said.withheld = true;
    if let Some(parameters) = &mut pending.command.parameters {
        *parameters = String::from("[]");
        pending.command.parameters_cut = true;
    }
}

fn unclear(why: &str) -> (Arc<str>, Refusal) {
    let refusal = Refusal::new(
        "42501",
        format!("chaperone cannot tell which masked columns this statement shows: {why}"),
    )
    .hint("Write it in a simpler way, or ask operations to change the masks.");
    ("masks".into(), refusal)
}

fn unread(why: &str) -> (Arc<str>, Refusal) {
    let refusal =
        Refusal::new("42501", format!("chaperone cannot look into what this COPY writes: {why}"))
            .hint("Write it in the formats text, csv or binary, and in UTF8.");
    ("masks".into(), refusal)
}

fn guessed(Guess { mask, what, column: _ }: Guess) -> (Arc<str>, Refusal) {
    let refusal =
        Refusal::new("42501", format!("chaperone does not allow this statement: it {what}"));
    let refusal = match &mask {
        Some(mask) => refusal.detail(format!("Mask: {mask}.")),
        None => refusal,
    };
    let refusal = refusal.hint("Do it without that column, or ask operations to change the mask.");
    (mask.unwrap_or_else(|| "masks".into()), refusal)
}

fn address(reading: &Arc<Reading>) -> usize {
    Arc::as_ptr(reading) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p5_prepared_statements_that_share_a_reading_are_told_apart() {
        let mut masking = Masking::new(None);
        let reading = Arc::new(Reading::default());
        let mut prepare = |compared: u64| {
            let lineage = Arc::new(vec![Lineage { compared, ..Lineage::default() }]);
            let traced = Traced::new(Arc::default(), Arc::default(), lineage);
            let said = Said { masks: Some(Rc::new(traced)), ..Said::default() };
            let known_by = masking.prepared(Some(reading.clone()), &said);
            let found = |masking: &Masking, by: &Arc<Reading>| {
                masking.of_prepared(Some(by)).map(|traced| traced.lineage[0].compared)
            };
            let by = known_by.expect("it has one");
            assert_eq!(found(&masking, &by), Some(compared));
            (by, found(&masking, &reading))
        };
        let (first, of_reading) = prepare(1);
        assert!(Arc::ptr_eq(&first, &reading) && of_reading == Some(1));
        let (second, of_reading) = prepare(2);
        assert!(!Arc::ptr_eq(&second, &reading) && of_reading == Some(1));
        let (again, _) = prepare(1);
        assert!(Arc::ptr_eq(&again, &reading));
    }
}
