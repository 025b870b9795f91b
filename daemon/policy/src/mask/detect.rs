//! Detectors: what in a text is a secret or names a person, whatever the column is called.
//!
//! A cheap pass over all bytes for those that can begin something, and exact checks behind it. Texts
//! are ASCII where it matters and may hold any other bytes. Does not belong here: what is put in the
//! place of what was found.

use std::ops::Range;

mod literal;
mod mail;
mod network;
mod number;

pub(super) use literal::{LONGEST_LABEL, LONGEST_PEM, open_pem};

/// What can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Detector {
    /// An address of mail (RFC 5321, without quoted local parts).
    Email,
    /// The number of a payment card (ISO/IEC 7812) of an issuer that is known, with its check digit.
    Card,
    /// A social security number of the United States, with its dashes or spaces.
    Ssn,
    /// An account number (ISO 13616) of a known country, with its length and check digits.
    Iban,
    /// A telephone number with plus and country code (E.164).
    Phone,
    /// An address of four decimal parts.
    Ipv4,
    /// An address as in RFC 4291, but for `::` alone.
    Ipv6,
    /// A token in compact form (RFC 7515) of at most 8 KiB.
    Jwt,
    /// The id of an access key of AWS.
    AwsKeyId,
    /// What looks like the secret of an access key of AWS: 40 characters of base64, well mixed.
    AwsSecret,
    /// A token of GitHub, with its check sum where it has one.
    GithubToken,
    /// A private key in PEM (RFC 7468), up to its end or for 64 KiB.
    PrivateKey,
}

impl Detector {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Email,
        Self::Card,
        Self::Ssn,
        Self::Iban,
        Self::Phone,
        Self::Ipv4,
        Self::Ipv6,
        Self::Jwt,
        Self::AwsKeyId,
        Self::AwsSecret,
        Self::GithubToken,
        Self::PrivateKey,
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Card => "card",
            Self::Ssn => "ssn",
            Self::Iban => "iban",
            Self::Phone => "phone",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Jwt => "jwt",
            Self::AwsKeyId => "aws-key-id",
            Self::AwsSecret => "aws-secret",
            Self::GithubToken => "github-token",
            Self::PrivateKey => "private-key",
        }
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detectors(u16);

/// Where something was found. Where things overlap they are one, named for the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What.
    pub detector: Detector,
    /// Bytes of the text.
    pub span: Range<usize>,
    /// All that was found there.
    pub all: Detectors,
}

impl FromIterator<Detector> for Detectors {
    fn from_iter<T: IntoIterator<Item = Detector>>(detectors: T) -> Self {
        Self(detectors.into_iter().fold(0, |set, one| set | (1 << one as u8)))
    }
}

impl From<Detector> for Detectors {
    fn from(detector: Detector) -> Self {
        Self(1 << detector as u8)
    }
}

impl Detectors {
    /// All of them.
    pub fn all() -> Self {
        Detector::ALL.into_iter().collect()
    }

    /// Whether this one is among them.
    pub fn has(self, detector: Detector) -> bool {
        self.0 & (1 << detector as u8) != 0
    }

    /// Whether none is among them.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and those.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Detector> {
        Detector::ALL.into_iter().filter(move |one| self.has(*one))
    }

    pub(super) fn any(self, of: &[Detector]) -> bool {
        of.iter().any(|detector| self.has(*detector))
    }

    /// What they find, in order and without overlaps.
    pub fn find(self, text: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        self.find_into(text, &mut found);
        found
    }

    pub(super) fn find_into(self, text: &[u8], found: &mut Vec<Found>) {
        found.clear();
        let mut at = 0;
        // A private key is a border for all else.
        while self.has(Detector::PrivateKey)
            && text.len() - at >= literal::SHORTEST_PEM
            && let Some((span, _)) = literal::next_pem(text, at)
        {
            self.find_between(text, at..span.start, found);
            at = span.end;
            let detector = Detector::PrivateKey;
            found.push(Found { detector, span, all: detector.into() });
        }
        self.find_between(text, at..text.len(), found);
    }

    fn find_between(self, text: &[u8], part: Range<usize>, found: &mut Vec<Found>) {
        let before = found.len();
        let begin = part.start;
        let text = &text[part];
        let mut add = |detector, span: Range<usize>| {
            if self.has(detector) {
                let span = begin + span.start..begin + span.end;
                found.push(Found { detector, span, all: detector.into() });
            }
        };
        if self.has(Detector::Email) {
            mail::find(text, &mut add);
        }
        if self.has(Detector::Ipv6) {
            network::find(text, &mut add);
        }
        if self.any(&[
            Detector::Card,
            Detector::Ssn,
            Detector::Iban,
            Detector::Phone,
            Detector::Ipv4,
        ]) {
            number::find(text, &mut add);
        }
        if self.any(&[Detector::Jwt, Detector::AwsKeyId, Detector::GithubToken]) {
            literal::find(text, &mut add);
        }
        if self.has(Detector::AwsSecret) {
            literal::find_aws_secrets(text, &mut add);
        }
        if found.len() > before + 1 {
            merge(found);
        }
    }
}

fn merge(found: &mut Vec<Found>) {
    found.sort_by_key(|one| (one.span.start, one.detector));
    found.dedup_by(|next, one| {
        let overlap = next.span.start < one.span.end;
        if overlap {
            one.span.end = one.span.end.max(next.span.end);
            one.all = one.all.with(next.all);
        }
        overlap
    });
}

/// Where finders put what they find.
type Add<'a> = &'a mut dyn FnMut(Detector, Range<usize>);

/// The byte before this place.
fn before(text: &[u8], at: usize) -> Option<u8> {
    text.get(at.checked_sub(1)?).copied()
}

fn is_word(byte: Option<u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Where the bytes that are in the class end, from here on.
fn run(text: &[u8], from: usize, class: impl Fn(u8) -> bool) -> usize {
    text[from..].iter().position(|byte| !class(*byte)).map_or(text.len(), |length| from + length)
}
