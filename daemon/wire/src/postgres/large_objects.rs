//! Large objects by function call messages, as libpq's `lo_…` and JDBC's `LargeObject` use them.
//!
//! The numbers are those of the catalog that every server of version 9.3 or later is born with
//! (`src/include/catalog/pg_proc.dat`); what they call is as good as a statement that calls it.

use super::{
    frame::{Body, Violation},
    masking::Screens,
    response::Formats,
};

const BYTEA: u32 = 17;
const INT4: u32 = 23;
const INT8: u32 = 20;
const OID: u32 = 26;

/// A function: its number, its name, its parameters' types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Function(u32, &'static str, &'static [u32]);

const FUNCTIONS: [Function; 13] = [
    Function(715, "lo_create", &[OID]),
    Function(952, "lo_open", &[OID, INT4]),
    Function(953, "lo_close", &[INT4]),
    Function(954, "loread", &[INT4, INT4]),
    Function(955, "lowrite", &[INT4, BYTEA]),
    Function(956, "lo_lseek", &[INT4, INT4, INT4]),
    Function(957, "lo_creat", &[INT4]),
    Function(958, "lo_tell", &[INT4]),
    Function(964, "lo_unlink", &[OID]),
    Function(1004, "lo_truncate", &[INT4, INT4]),
    Function(3170, "lo_lseek64", &[INT4, INT8, INT4]),
    Function(3171, "lo_tell64", &[INT4]),
    Function(3172, "lo_truncate64", &[INT4, INT8]),
];

/// The function of a number, where it is one of these.
pub(crate) fn function(number: u32) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.0 == number)
}

impl Function {
    /// The statement that does the same.
    pub(crate) fn text(&self) -> String {
        let numbers: Vec<_> = (1..=self.2.len()).map(|number| format!("${number}")).collect();
        format!("SELECT pg_catalog.{}({})", self.1, numbers.join(", "))
    }
}

/// `FunctionCall`.
pub(crate) struct Call<'a> {
    formats: Formats,
    values: Vec<Option<&'a [u8]>>,
}

impl<'a> Call<'a> {
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Body::of(message);
        let _function = body.u32()?;
        let formats = Formats::read(&mut body)?;
        let values = (0..body.count()?).map(|_| body.value()).collect::<Result<_, _>>()?;
        let _result = body.i16()?;
        body.end()?;
        Ok(Self { formats, values })
    }

    /// The parameters as a JSON array of at most about `limit` bytes, and whether it was cut.
    pub(crate) fn parameters(
        &self,
        function: &Function,
        screens: Option<&dyn Screens>,
        limit: usize,
    ) -> (String, bool) {
        super::frontend::parameters(&self.values, &self.formats, function.2, screens, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::reply::message;

    #[test]
    fn a_call_is_read_as_its_statement() {
        let body = b"\0\0\x03\xbb\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x02\0\0\0\x03abc\0\x01";
        let call = message(b'F', body);
        let known = function(955).expect("lowrite");
        assert_eq!(known.text(), "SELECT pg_catalog.lowrite($1, $2)");
        let (parameters, cut) = Call::read(&call).expect("valid").parameters(known, None, 100);
        assert_eq!((parameters.as_str(), cut), (r#"["2","\\x616263"]"#, false));
        assert_eq!(function(89), None, "version() is not among them");
    }

    proptest::proptest! {
        #[test]
        fn p8_no_call_panics(bytes: Vec<u8>) {
            let _ = Call::read(&bytes);
        }
    }
}
