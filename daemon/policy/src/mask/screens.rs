//! Detectors of several masks: each finds for the first mask that has it.
//!
//! Does not belong here: how values of types are looked into (`screen`).

use std::ops::Range;

use super::{Detector, Detectors, Form, Format, Key, Scanner, Scanners, types};

/// See the module's comment.
#[derive(Clone, Debug, Default)]
pub struct Screens {
    detectors: Detectors,
    masks: Vec<One>,
    /// By detector, a place in `masks`.
    of: [u8; Detector::ALL.len()],
}

/// What one mask puts in the place of what is found for it.
#[derive(Clone, Debug)]
struct One {
    way: u16,
    form: Form,
    key: Option<Key>,
}

/// What has to be looked at of a value to know that nothing is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Nothing: its type holds nothing that could be found.
    Never,
    /// Its bytes, as they are.
    Bytes,
    /// Its bytes, and where a backslash is among them the value as such.
    Escaped,
    /// The value as such.
    Value,
}

impl Screens {
    /// Adds a mask, for what no other looks for yet. `way` is the caller's name for it.
    pub fn add(&mut self, way: u16, detectors: Detectors, form: Form, key: Option<Key>) {
        let new: Detectors = detectors.iter().filter(|one| !self.detectors.has(*one)).collect();
        if new.is_empty() {
            return;
        }
        for one in new.iter() {
            // There are no more masks here than detectors.
            self.of[one as usize] = u8::try_from(self.masks.len()).unwrap_or(u8::MAX);
        }
        self.masks.push(One { way, form, key });
        self.detectors = self.detectors.with(new);
    }

    /// All that is looked for.
    pub fn detectors(&self) -> Detectors {
        self.detectors
    }

    /// Whether something is in a text.
    pub fn finds(&self, text: &[u8]) -> bool {
        !self.detectors.find(text).is_empty()
    }

    /// What has to be looked at of values of a type.
    pub fn look(&self, type_oid: u32, format: Format) -> Look {
        types::look(type_oid, format, self.detectors)
    }

    /// The ways of the masks that these were found for, each once.
    pub fn ways(&self, hits: Detectors) -> impl Iterator<Item = u16> {
        self.masks_of(hits).map(|one| one.way)
    }

    /// The same masks for a text that comes in pieces.
    pub fn scanners(&self) -> Scanners {
        Scanners::new(self.masks.iter().enumerate().map(|(place, one)| {
            let own = |detector: &Detector| usize::from(self.of[*detector as usize]) == place;
            let own: Detectors = self.detectors.iter().filter(own).collect();
            (one.way, Scanner::new(own, one.form.clone(), one.key.clone()))
        }))
    }

    /// Overwrites all that is found, so that the text is as long as before: `partial` leaves what it
    /// leaves, all other forms leave asterisks alone. Answers for which ways, and how often, it begins
    /// in this part.
    pub fn cover(&self, text: &mut [u8], counted: Range<usize>) -> Vec<(u16, u64)> {
        let mut counts: Vec<(u16, u64)> = Vec::new();
        for one in self.detectors.find(text) {
            if counted.contains(&one.span.start) {
                for way in self.ways(one.all) {
                    match counts.iter_mut().find(|(known, _)| *known == way) {
                        Some((_, count)) => *count += 1,
                        None => counts.push((way, 1)),
                    }
                }
            }
            let Some(place) = text.get_mut(one.span) else { continue };
            let mut shown = Vec::new();
            if let Some(mask @ One { form: Form::Partial(_), .. }) = self.common(one.all) {
                mask.form.apply_to_part(None, place, &mut shown);
            }
            if shown.len() == place.len() {
                place.copy_from_slice(&shown);
            } else {
                place.fill(b'*');
            }
        }
        counts
    }

    fn masks_of(&self, hits: Detectors) -> impl Iterator<Item = &One> {
        let hits = hits.iter().filter(|hit| self.detectors.has(*hit));
        let places = hits.fold(0_u16, |places, hit| places | 1 << self.of[hit as usize]);
        self.masks.iter().enumerate().filter(move |(at, _)| places & (1 << at) != 0).map(|(_, m)| m)
    }

    /// The mask that all of these were found for; `None` where they were for several.
    fn common(&self, found: Detectors) -> Option<&One> {
        let mut masks = self.masks_of(found);
        let one = masks.next();
        one.filter(|_| masks.next().is_none())
    }

    /// How a whole value is masked in which these were found; `None` is NULL.
    pub(super) fn whole(&self, found: Detectors) -> Option<(&Form, Option<&Key>)> {
        self.common(found).map(|one| (&one.form, one.key.as_ref()))
    }

    /// Appends a text with all that is found masked, and says what was found. Where nothing is,
    /// nothing is appended. `takes`: whether what stands in its place may stand there.
    pub(super) fn put(
        &self,
        text: &[u8],
        out: &mut Vec<u8>,
        takes: impl Fn(&[u8]) -> bool,
    ) -> Result<Detectors, Detectors> {
        let found = self.detectors.find(text);
        let all = found.iter().fold(Detectors::default(), |all, one| all.with(one.all));
        let mut at = 0;
        for one in &found {
            out.extend_from_slice(&text[at..one.span.start]);
            let begin = out.len();
            // Where two masks meet, nothing of it stays.
            if let Some(mask) = self.common(one.all) {
                mask.form.apply_to_part(mask.key.as_ref(), &text[one.span.clone()], out);
            }
            if !takes(&out[begin..]) {
                return Err(all);
            }
            at = one.span.end;
        }
        if !found.is_empty() {
            out.extend_from_slice(&text[at..]);
        }
        Ok(all)
    }

    /// Appends a text of no type with all that is found masked, and says what was found. Where
    /// nothing is, nothing is appended.
    pub fn text(&self, text: &[u8], out: &mut Vec<u8>) -> Detectors {
        self.put(text, out, |_| true).unwrap_or_default()
    }
}
