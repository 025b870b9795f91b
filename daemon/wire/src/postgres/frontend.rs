//! The client's messages that are looked into (protocol-message-formats).

use super::{
    frame::{Body, Violation},
    masking::{Became, Counts, Screens},
    response::Formats,
    value::push_json,
};

/// `Parse`.
pub(crate) struct Parse<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) text: &'a [u8],
    pub(crate) types: Vec<u32>,
}

impl<'a> Parse<'a> {
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Body::of(message);
        let (name, text) = (body.text()?, body.text()?);
        let types = (0..body.count()?).map(|_| body.u32()).collect::<Result<_, _>>()?;
        body.end()?;
        Ok(Self { name, text, types })
    }
}

/// `Bind`, its parameters not yet looked at.
pub(crate) struct Bind<'a> {
    pub(crate) portal: &'a [u8],
    pub(crate) statement: &'a [u8],
    pub(crate) formats: Formats,
    pub(crate) values: Vec<Option<&'a [u8]>>,
    pub(crate) results: Formats,
}

impl<'a> Bind<'a> {
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Body::of(message);
        let (portal, statement) = (body.text()?, body.text()?);
        let formats = Formats::read(&mut body)?;
        let values = (0..body.count()?).map(|_| body.value()).collect::<Result<_, _>>()?;
        let results = Formats::read(&mut body)?;
        body.end()?;
        Ok(Self { portal, statement, formats, values, results })
    }

    /// The parameters as a JSON array of at most about `limit` bytes, and whether it was cut.
    pub(crate) fn parameters(
        &self,
        types: &[u32],
        screens: Option<&dyn Screens>,
        limit: usize,
    ) -> (String, bool) {
        parameters(&self.values, &self.formats, types, screens, limit)
    }
}

/// Values as a JSON array of at most about `limit` bytes, without what is found in them, and whether
/// it was cut.
pub(crate) fn parameters(
    values: &[Option<&[u8]>],
    formats: &Formats,
    types: &[u32],
    screens: Option<&dyn Screens>,
    limit: usize,
) -> (String, bool) {
    let mut out = vec![b'['];
    let mut with = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let mark = out.len();
        if index > 0 {
            out.push(b',');
        }
        let length = value.map_or(4, <[u8]>::len);
        if out.len() + length <= limit {
            let oid = types.get(index).copied().unwrap_or(0);
            let binary = formats.binary(index);
            with.clear();
            let became = match (screens, value) {
                (Some(screens), Some(value)) => {
                    screens.value(oid, binary, value, &mut with, &mut Counts::default())
                }
                _ => Became::Same,
            };
            let value = match became {
                Became::Same => *value,
                Became::Value => Some(with.as_slice()),
                Became::Null => None,
            };
            push_json(&mut out, oid, binary, value);
        }
        if out.len() + 1 > limit || out.len() == mark || out.ends_with(b",") {
            out.truncate(mark);
            out.push(b']');
            out.shrink_to_fit();
            return (String::from_utf8(out).unwrap_or_default(), true);
        }
    }
    out.push(b']');
    (String::from_utf8(out).unwrap_or_default(), false)
}

/// What `Describe` and `Close` speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    Statement(&'a [u8]),
    Portal(&'a [u8]),
}

impl<'a> Named<'a> {
    pub(crate) fn name(self) -> &'a [u8] {
        match self {
            Self::Statement(name) | Self::Portal(name) => name,
        }
    }

    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Body::of(message);
        let kind = body.u8()?;
        let name = body.text()?;
        let found = match kind {
            b'S' => Self::Statement(name),
            b'P' => Self::Portal(name),
            _ => return Err(body.malformed("it speaks of neither a statement nor a portal")),
        };
        body.end()?;
        Ok(found)
    }
}

/// `SASLInitialResponse`: whether the client says that it could bind the exchange to its TLS
/// connection and was not offered to (RFC 5802, section 6: the flag `y`).
pub(crate) fn claims_no_binding(message: &[u8]) -> bool {
    let mut body = Body::of(message);
    let Ok(_mechanism) = body.text() else { return false };
    matches!(body.value(), Ok(Some([b'y', ..])))
}

/// `Execute`: the portal's name.
pub(crate) fn execute(message: &[u8]) -> Result<&[u8], Violation> {
    let mut body = Body::of(message);
    let portal = body.text()?;
    let _rows = body.i32()?;
    body.end()?;
    Ok(portal)
}

/// `Query`: its text.
pub(crate) fn query(message: &[u8]) -> Result<&[u8], Violation> {
    let mut body = Body::of(message);
    let text = body.text()?;
    body.end()?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = b"p\0s\0\0\0".to_vec();
        body.extend(u16::try_from(values.len()).expect("few").to_be_bytes());
        for value in values {
            match value {
                None => body.extend((-1_i32).to_be_bytes()),
                Some(v) => {
                    body.extend(i32::try_from(v.len()).expect("short").to_be_bytes());
                    body.extend_from_slice(v);
                }
            }
        }
        body.extend(b"\0\x01\0\x01");
        let mut message = vec![b'B'];
        message.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn parameters_are_kept_and_the_cut_is_said() {
        let message = bind(&[Some(b"one"), None, Some(&[b'x'; 50])]);
        let bind = Bind::read(&message).expect("valid");
        assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s"[..]));
        assert!(bind.results.binary(7));
        let (all, cut) = bind.parameters(&[], None, 1000);
        assert_eq!(all, format!(r#"["one",null,"{}"]"#, "x".repeat(50)));
        assert!(!cut);
        assert_eq!(bind.parameters(&[], None, 30), (r#"["one",null]"#.into(), true));
        assert_eq!(bind.parameters(&[], None, 3), ("[]".into(), true));
    }

    proptest::proptest! {
        #[test]
        fn p8_no_client_message_panics(bytes: Vec<u8>) {
            let _ = Parse::read(&bytes);
            let _ = Bind::read(&bytes);
            let _ = Named::read(&bytes);
            let _ = execute(&bytes);
            let _ = query(&bytes);
            let _ = claims_no_binding(&bytes);
        }

        #[test]
        fn kept_parameters_are_valid_json(values: Vec<Option<Vec<u8>>>, limit in 0_usize..200) {
            let values: Vec<_> = values.iter().map(Option::as_deref).collect();
            let message = bind(&values);
            let bind = Bind::read(&message).expect("valid");
            let (json, cut) = bind.parameters(&[], None, limit);
            let kept: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
            proptest::prop_assert_eq!(kept.len() < values.len(), cut);
        }
    }
}
