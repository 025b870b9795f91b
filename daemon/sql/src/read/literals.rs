//! The values of literals, and which of them a reading depends on.
//!
//! A reading is reused for texts that differ in literals alone. So whoever looks at a value goes
//! through here, and the place of the literal is kept: it is then no slot (`slots`), and matches only
//! byte for byte.

use pg_query::protobuf::{AConst, a_const::Val};

/// The literals that a reading depends on.
#[derive(Debug, Default)]
pub(super) struct Literals {
    looked_at: Vec<i32>,
}

impl Literals {
    /// The value of a string, which the reading depends on from here on.
    pub(super) fn string<'a>(&mut self, literal: &'a AConst) -> Option<&'a str> {
        self.looked_at.push(literal.location);
        match &literal.val {
            Some(Val::Sval(string)) => Some(&string.sval),
            _ => None,
        }
    }

    /// Where they begin, in bytes, in no order. A sign stands before its number.
    pub(super) fn looked_at(&self) -> &[i32] {
        &self.looked_at
    }
}

/// Whether it is `true` or `false`: a word, and so no slot.
pub(super) fn is_boolean(literal: &AConst) -> bool {
    matches!(literal.val, Some(Val::Boolval(_)))
}

/// Whether it is a string: a matter of its form.
pub(super) fn is_string(literal: &AConst) -> bool {
    matches!(literal.val, Some(Val::Sval(_)))
}

/// Whether it is a number at the end of what numbers can be. These have ten digits or more, or an
/// exponent, and so are no slots.
pub(super) fn is_extreme(literal: &AConst) -> bool {
    const ENDS: [&str; 4] =
        ["2147483647", "2147483648", "9223372036854775807", "9223372036854775808"];
    match &literal.val {
        Some(Val::Ival(number)) => number.ival.unsigned_abs() >= i32::MAX.unsigned_abs(),
        Some(Val::Fval(number)) => {
            let digits = number.fval.trim_start_matches('-');
            ENDS.contains(&digits) || digits.parse::<f64>().map_or(true, |value| value.abs() > 1e19)
        }
        _ => false,
    }
}
