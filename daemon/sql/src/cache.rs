//! Readings that are kept, by their texts and by templates. Bounded by bytes, for one thread.
//!
//! A text is found by all of its bytes: one that could be taken for another would be decided as that
//! other. Hashing is keyed, so that nobody can choose texts that collide. Does not belong here: when
//! two texts are of one template.

use std::{
    mem::size_of,
    sync::Arc,
    time::{Duration, Instant},
};

use chaperone_model::{Column, QualifiedName, Reading, Relation, Statement};
use quick_cache::{Weighter, unsync};

use crate::template::{Template, skeleton};

/// Longer texts are seldom sent again, and would crowd out many others.
const TEXT_MOST: usize = 16 << 10;
/// How long a text is remembered that took a worker with it. Not for ever: the machine may have been
/// at fault, and a text that is innocent is to be read again.
pub(crate) const STRUCK_FOR: Duration = Duration::from_mins(1);
/// What an entry takes beside its text and its reading.
const OVERHEAD: usize = 128;
/// For the size of tables that grow: what a text and its reading take, as a rule.
const USUAL: usize = 1 << 10;

/// The texts of one thread, and the templates.
pub(crate) struct Cache {
    texts: unsync::Cache<Box<str>, Kept, Weight>,
    templates: unsync::Cache<Box<[u8]>, Pattern, Weight>,
    /// For the skeletons of texts that are looked up.
    scratch: Vec<u8>,
}

impl Cache {
    /// One that takes so many bytes: a quarter of them is for templates.
    pub(crate) fn new(bytes: usize) -> Self {
        let (texts, templates) = (bytes - bytes / 4, bytes / 4);
        Self {
            texts: unsync::Cache::with_weighter(texts / USUAL, texts as u64, Weight),
            templates: unsync::Cache::with_weighter(templates / USUAL, templates as u64, Weight),
            scratch: Vec::new(),
        }
    }

    /// The reading of this very text.
    pub(crate) fn text(&self, text: &str) -> Option<Arc<Reading>> {
        let kept = self.texts.get(text)?;
        match kept.until {
            Some(until) if until <= Instant::now() => None,
            _ => Some(kept.reading.clone()),
        }
    }

    /// The reading of a text that differs from this one in literals alone.
    pub(crate) fn template(&mut self, text: &str) -> Option<Arc<Reading>> {
        skeleton(text, &mut self.scratch);
        let pattern = self.templates.get(&self.scratch[..])?;
        pattern.template.matches(text).then(|| pattern.reading.clone())
    }

    pub(crate) fn keep(&mut self, text: &str, reading: &Arc<Reading>) {
        if text.len() <= TEXT_MOST {
            self.insert(text, reading, None);
        }
    }

    /// Keeps that a text took a worker with it, however long the text is.
    pub(crate) fn keep_struck(&mut self, text: &str, reading: &Arc<Reading>) {
        self.insert(text, reading, Some(Instant::now() + STRUCK_FOR));
    }

    pub(crate) fn keep_template(&mut self, template: Template, reading: &Arc<Reading>) {
        skeleton(template.text(), &mut self.scratch);
        let weight = weight(self.scratch.len() + template.size(), reading);
        let pattern = Pattern { template, reading: reading.clone(), weight };
        self.templates.insert(self.scratch[..].into(), pattern);
    }

    fn insert(&mut self, text: &str, reading: &Arc<Reading>, until: Option<Instant>) {
        let kept = Kept { reading: reading.clone(), until, weight: weight(text.len(), reading) };
        self.texts.insert(text.into(), kept);
    }
}

struct Kept {
    reading: Arc<Reading>,
    until: Option<Instant>,
    weight: u64,
}

struct Pattern {
    template: Template,
    reading: Arc<Reading>,
    weight: u64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Box<str>, Kept> for Weight {
    fn weight(&self, _: &Box<str>, kept: &Kept) -> u64 {
        kept.weight
    }
}

impl Weighter<Box<[u8]>, Pattern> for Weight {
    fn weight(&self, _: &Box<[u8]>, pattern: &Pattern) -> u64 {
        pattern.weight
    }
}

/// About how many bytes an entry takes. Readings that are shared count for each.
fn weight(key: usize, reading: &Reading) -> u64 {
    let name = |name: &QualifiedName| {
        name.name.capacity() + name.schema.as_ref().map_or(0, String::capacity)
    };
    let statement = |statement: &Statement| {
        let relations = statement.relations.iter().map(|relation| name(&relation.name));
        let functions = statement.functions.iter().map(name);
        let columns = statement
            .columns
            .iter()
            .map(|column| column.name.capacity() + column.relation.as_ref().map_or(0, name));
        size_of::<Statement>()
            + statement.kind.capacity()
            + statement.reason.capacity()
            + statement.relations.capacity() * size_of::<Relation>()
            + statement.functions.capacity() * size_of::<QualifiedName>()
            + statement.columns.capacity() * size_of::<Column>()
            + relations.chain(functions).chain(columns).sum::<usize>()
    };
    let statements = reading.statements.iter().map(statement).sum::<usize>();
    let words = reading.disagreement.as_ref().map_or(0, String::capacity);
    (OVERHEAD + key + size_of::<Reading>() + statements + words) as u64
}

#[cfg(test)]
mod tests {
    use chaperone_model::Rung;

    use super::*;
    use crate::template::{Slot, SlotKind};

    fn reading(kind: &str) -> Arc<Reading> {
        let statements = vec![Statement::new(kind, Rung::Read, "")];
        Arc::new(Reading { statements, disagreement: None })
    }

    #[test]
    fn a_text_is_found_by_all_of_its_bytes() {
        let mut cache = Cache::new(1 << 20);
        cache.keep("select 1", &reading("SELECT"));
        assert_eq!(cache.text("select 1"), Some(reading("SELECT")));
        for other in ["select 1 ", "select 2", "SELECT 1", "", "select 1\0"] {
            assert_eq!(cache.text(other), None);
        }
    }

    #[test]
    fn p8_it_takes_no_more_than_its_bytes() {
        let mut cache = Cache::new(1 << 20);
        for i in 0..20_000 {
            cache.keep(&format!("select {i} from somewhere"), &reading("SELECT"));
            let text = format!("select 1 from t{i}");
            let slot = Slot { start: 7, end: 8, kind: SlotKind::Number };
            let template = Template::new(&text, &[slot]).expect("a template");
            cache.keep_template(template, &reading("SELECT"));
        }
        assert!(cache.texts.weight() <= (1 << 20) * 3 / 4, "{}", cache.texts.weight());
        assert!(cache.templates.weight() <= (1 << 20) / 4, "{}", cache.templates.weight());
        assert!(cache.texts.len() > 1000 && cache.templates.len() > 300);
    }

    #[test]
    fn long_texts_are_not_kept_but_for_those_that_struck() {
        let mut cache = Cache::new(1 << 20);
        let long = "x".repeat(TEXT_MOST + 1);
        cache.keep(&long, &reading("SELECT"));
        assert_eq!(cache.text(&long), None);
        let most = "x".repeat(256 << 10);
        cache.keep_struck(&most, &reading("unreadable"));
        assert_eq!(cache.text(&most), Some(reading("unreadable")));
    }
}
