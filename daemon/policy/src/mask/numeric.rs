//! Numbers of any precision: groups of four decimal digits, as PostgreSQL keeps them.

use std::fmt::Write;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITE: u16 = 0xd000;
const MINUS_INFINITE: u16 = 0xf000;

/// Without groups of zeros at either end, so that equal numbers are equal but for their scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numeric {
    sign: u16,
    /// Of the first group: ten thousand to this power.
    weight: i16,
    /// Digits after the point that are shown.
    scale: u16,
    groups: Vec<u16>,
}

impl Numeric {
    pub(super) fn from_binary(value: &[u8]) -> Option<Self> {
        let (header, rest) = value.split_first_chunk::<8>()?;
        let (header, _) = header.as_chunks::<2>();
        let [count, weight, sign, scale] = [0, 1, 2, 3].map(|at| u16::from_be_bytes(header[at]));
        let (groups, []) = rest.as_chunks::<2>() else { return None };
        let groups: Vec<_> = groups.iter().map(|group| u16::from_be_bytes(*group)).collect();
        let known = matches!(sign, 0 | NEGATIVE | NAN | INFINITE | MINUS_INFINITE);
        if groups.len() != usize::from(count) || !known || groups.iter().any(|group| *group > 9999)
        {
            return None;
        }
        Some(Self { sign, weight: weight.cast_signed(), scale, groups }.trimmed())
    }

    /// Digits with or without a point and a sign, no exponent.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let special = |sign| Some(Self { sign, weight: 0, scale: 0, groups: Vec::new() });
        match text {
            "NaN" => return special(NAN),
            "Infinity" => return special(INFINITE),
            "-Infinity" => return special(MINUS_INFINITE),
            _ => {}
        }
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (NEGATIVE, digits),
            None => (0, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = || whole.bytes().chain(fraction.bytes());
        if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let mut padded = vec![b'0'; whole.len().next_multiple_of(4) - whole.len()];
        padded.extend_from_slice(whole.as_bytes());
        let weight = i16::try_from(padded.len() / 4).ok()? - 1;
        padded.extend_from_slice(fraction.as_bytes());
        padded.resize(padded.len().next_multiple_of(4), b'0');
        let (groups, _) = padded.as_chunks::<4>();
        let groups = groups
            .iter()
            .map(|group| group.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
            .collect();
        Some(Self { sign, weight, scale: fraction.len().try_into().ok()?, groups }.trimmed())
    }

    /// Of a whole number.
    pub(super) fn from_int(value: u64) -> Self {
        let mut groups: Vec<u16> = Vec::new();
        let mut rest = value;
        while rest > 0 {
            groups.insert(0, u16::try_from(rest % 10_000).unwrap_or_default());
            rest /= 10_000;
        }
        let weight = i16::try_from(groups.len()).unwrap_or_default() - 1;
        Self { sign: 0, weight, scale: 0, groups }.trimmed()
    }

    pub(super) fn to_binary(&self, out: &mut Vec<u8>) {
        out.extend(u16::try_from(self.groups.len()).unwrap_or_default().to_be_bytes());
        out.extend(self.weight.to_be_bytes());
        out.extend(self.sign.to_be_bytes());
        out.extend(self.scale.to_be_bytes());
        out.extend(self.groups.iter().flat_map(|group| group.to_be_bytes()));
    }

    pub(super) fn to_text(&self) -> String {
        match self.sign {
            NAN => return "NaN".to_owned(),
            INFINITE => return "Infinity".to_owned(),
            MINUS_INFINITE => return "-Infinity".to_owned(),
            _ => {}
        }
        let group = |power: i32| {
            usize::try_from(i32::from(self.weight) - power)
                .ok()
                .and_then(|at| self.groups.get(at))
                .copied()
                .unwrap_or_default()
        };
        let mut whole = String::new();
        for power in (0..=i32::from(self.weight)).rev() {
            let _ = write!(whole, "{:04}", group(power));
        }
        let whole = whole.trim_start_matches('0');
        let mut text = if self.sign == NEGATIVE { "-".to_owned() } else { String::new() };
        text.push_str(if whole.is_empty() { "0" } else { whole });
        if self.scale > 0 {
            let mut fraction = String::new();
            for power in 1..=i32::from(self.scale.div_ceil(4)) {
                let _ = write!(fraction, "{:04}", group(-power));
            }
            text.push('.');
            text.push_str(&fraction[..self.scale.into()]);
        }
        text
    }

    /// Equal numbers have equal ones.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + 2 * self.groups.len());
        out.extend(self.sign.to_be_bytes());
        out.extend(self.weight.to_be_bytes());
        out.extend(self.groups.iter().flat_map(|group| group.to_be_bytes()));
        out
    }

    fn trimmed(mut self) -> Self {
        while self.groups.last() == Some(&0) {
            self.groups.pop();
        }
        let zeros = self.groups.iter().take_while(|group| **group == 0).count();
        self.groups.drain(..zeros);
        self.weight = self.weight.saturating_sub(i16::try_from(zeros).unwrap_or(i16::MAX));
        if self.groups.is_empty() {
            self.weight = 0;
            if self.sign == NEGATIVE {
                self.sign = 0;
            }
        }
        self
    }
}
