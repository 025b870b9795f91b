//! How safe a command's record must be before the command is forwarded, by what the command can do.
//!
//! Does not belong here: making it so (`committer`).

use chaperone_model::Rung;
use serde::Deserialize;

/// How safe a record must be before what it is of goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Safe {
    /// Committed: it outlives a killed daemon, and a power cut can lose the last moments.
    FromCrash,
    /// On the disk: it outlives a power cut.
    FromPowerCut,
}

/// For each rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Durability {
    read: Safe,
    write: Safe,
    destructive: Safe,
    forbidden: Safe,
}

impl Durability {
    /// Of a command on this rung.
    pub(crate) fn of(self, rung: Rung) -> Safe {
        match rung {
            Rung::Read => self.read,
            Rung::Write => self.write,
            Rung::Destructive => self.destructive,
            Rung::Forbidden => self.forbidden,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    Flushed,
    Committed,
}

/// One word for all that is above the rung `read`, or a word for each rung.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "durability is \"flushed\", \"committed\" or a table of the two by class"
)]
pub(super) enum Raw {
    All(Word),
    Each(Each),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Each {
    read: Option<Word>,
    write: Option<Word>,
    destructive: Option<Word>,
    forbidden: Option<Word>,
}

impl Default for Raw {
    fn default() -> Self {
        Self::All(Word::Flushed)
    }
}

impl From<Raw> for Durability {
    fn from(raw: Raw) -> Self {
        let safe = |word: Option<Word>, default: Word| match word.unwrap_or(default) {
            Word::Flushed => Safe::FromPowerCut,
            Word::Committed => Safe::FromCrash,
        };
        let (each, above) = match raw {
            Raw::All(word) => (Each::default(), word),
            Raw::Each(each) => (each, Word::Flushed),
        };
        Self {
            // What changes nothing needs no more, where nothing else is said.
            read: safe(each.read, Word::Committed),
            write: safe(each.write, above),
            destructive: safe(each.destructive, above),
            forbidden: safe(each.forbidden, above),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Durability, toml::de::Error> {
        #[derive(Deserialize)]
        struct File {
            durability: Raw,
        }
        toml::from_str::<File>(text).map(|file| file.durability.into())
    }

    #[test]
    fn a_word_is_for_all_above_reads_and_a_table_for_each() {
        let rungs = [Rung::Read, Rung::Write, Rung::Destructive, Rung::Forbidden];
        let safe = |text: &str| {
            let durability = parsed(text).expect(text);
            rungs.map(|rung| durability.of(rung) == Safe::FromPowerCut)
        };
        assert_eq!(safe("durability = \"flushed\""), [false, true, true, true]);
        assert_eq!(safe("durability = \"committed\""), [false; 4]);
        let each = "durability = { read = \"flushed\", write = \"committed\" }";
        assert_eq!(safe(each), [true, false, true, true]);
        for wrong in ["durability = \"fast\"", "durability = { reed = \"flushed\" }"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
