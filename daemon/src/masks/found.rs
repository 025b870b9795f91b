//! What is looked for in all that a session gets, and in what is recorded of what it sends.

use std::{ops::Range, sync::Arc};

use chaperone_model::Command;
use chaperone_policy::mask::{self, Detectors, Format, Scanners, Screened};
use chaperone_wire::{
    postgres::{Became, Counts, Look, Screens},
    ssh::Cover,
};

use super::{OfSession, WHOLE};

/// What stands in the log for parameters that cannot be looked into.
const WITHHELD: &str = "[]";
/// `pg_type.dat`.
const JSON: u32 = 114;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Found(Arc<OfSession>);

impl Found {
    pub(super) fn new(of: Arc<OfSession>) -> Self {
        Self(of)
    }

    /// What is looked for in a text that comes in pieces.
    pub(crate) fn scanners(&self) -> Scanners {
        self.0.screens.scanners()
    }

    /// What is looked for in files that are read, where something is.
    pub(crate) fn in_files(&self) -> Option<Arc<dyn Cover>> {
        let looks = !self.0.files.detectors().is_empty();
        looks.then(|| Arc::new(InFiles(self.0.clone())) as Arc<dyn Cover>)
    }

    /// What a way is called in the record.
    pub(crate) fn name_of(&self, way: u16) -> String {
        self.0.name(way)
    }

    /// A command as it is recorded: without what is found in its text and its parameters.
    pub(crate) fn recorded(&self, command: &mut Command) {
        let screens = &self.0.screens;
        let mut out = Vec::new();
        if let Some(text) = &mut command.text
            && !screens.text(text.as_bytes(), &mut out).is_empty()
        {
            // Found or not, no character was cut.
            *text = String::from_utf8_lossy(&out).into_owned();
        }
        out.clear();
        if let Some(parameters) = &mut command.parameters {
            let hits = &mut Detectors::default();
            match screens.screen(JSON, Format::Text, parameters.as_bytes(), &mut out, hits) {
                Screened::Clean => {}
                Screened::Masked => *parameters = String::from_utf8_lossy(&out).into_owned(),
                Screened::Null => {
                    WITHHELD.clone_into(parameters);
                    command.parameters_cut = true;
                }
            }
        }
    }
}

/// What is looked for in files.
#[derive(Debug)]
struct InFiles(Arc<OfSession>);

impl Cover for InFiles {
    fn reach(&self) -> usize {
        self.0.files.detectors().reach()
    }

    fn cover(&self, bytes: &mut [u8], counted: Range<usize>) -> Vec<(u16, u64)> {
        self.0.files.cover(bytes, counted)
    }
}

impl Screens for Found {
    fn look(&self, type_oid: u32, binary: bool) -> Look {
        match self.0.screens.look(type_oid, format(binary)) {
            mask::Look::Never => Look::Never,
            mask::Look::Bytes => Look::Bytes,
            mask::Look::Escaped => Look::Escaped,
            mask::Look::Value => Look::Value,
        }
    }

    fn finds(&self, bytes: &[u8]) -> bool {
        self.0.screens.finds(bytes)
    }

    fn value(
        &self,
        type_oid: u32,
        binary: bool,
        bytes: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Became {
        value(&self.0.screens, type_oid, format(binary), bytes, out, counts)
    }

    fn text(&self, text: &[u8], out: &mut Vec<u8>, counts: &mut Counts) -> bool {
        let hits = self.0.screens.text(text, out);
        self.0.screens.ways(hits).for_each(|way| counts.add(way));
        !hits.is_empty()
    }

    fn name(&self, way: u16) -> String {
        self.0.name(way)
    }
}

fn format(binary: bool) -> Format {
    if binary { Format::Binary } else { Format::Text }
}

/// What a value becomes, and for which masks.
pub(super) fn value(
    screens: &mask::Screens,
    type_oid: u32,
    format: Format,
    value: &[u8],
    out: &mut Vec<u8>,
    counts: &mut Counts,
) -> Became {
    let mut hits = Detectors::default();
    let screened = screens.screen(type_oid, format, value, out, &mut hits);
    match screened {
        Screened::Clean => return Became::Same,
        // It could not be looked into.
        Screened::Null if hits.is_empty() => counts.add(WHOLE),
        Screened::Masked | Screened::Null => screens.ways(hits).for_each(|way| counts.add(way)),
    }
    if screened == Screened::Masked { Became::Value } else { Became::Null }
}
