//! The server's messages that are looked into (protocol-message-formats).

use super::{
    expect::ServerError,
    frame::{Body, Violation},
    startup::CancelKey,
};

/// `ErrorResponse` or `NoticeResponse`. Reads what is there, so that the head of a long one will do.
pub(crate) fn error(message: &[u8]) -> ServerError {
    let mut body = Body::of(message);
    let mut found = ServerError::default();
    while let Ok(field) = body.u8() {
        if field == 0 {
            break;
        }
        let Ok(text) = body.text() else { break };
        let text = || Some(String::from_utf8_lossy(text).into_owned());
        match field {
            b'C' => found.code = text(),
            b'M' => found.message = text(),
            // `V` is `S` without translation, since PostgreSQL 9.6.
            b'V' => found.fatal = matches!(text().as_deref(), Some("FATAL" | "PANIC")),
            _ => {}
        }
    }
    found
}

/// `CommandComplete`: the tag.
pub(crate) fn tag(message: &[u8]) -> Result<String, Violation> {
    let mut body = Body::of(message);
    let tag = body.text()?;
    body.end()?;
    Ok(String::from_utf8_lossy(tag).into_owned())
}

/// `ReadyForQuery`: the transaction's state.
pub(crate) fn ready(message: &[u8]) -> Result<&'static str, Violation> {
    let mut body = Body::of(message);
    let state = match body.u8()? {
        b'I' => "idle",
        b'T' => "open",
        b'E' => "failed",
        _ => return Err(body.malformed("the transaction's state is not known")),
    };
    body.end()?;
    Ok(state)
}

/// `BackendKeyData`.
pub(crate) fn cancel_key(message: &[u8]) -> Result<CancelKey, Violation> {
    let mut body = Body::of(message);
    let process = body.u32()?;
    let secret = message.get(9..).unwrap_or_default();
    if !(4..=256).contains(&secret.len()) {
        return Err(body.malformed("the key has an impossible length"));
    }
    Ok(CancelKey { process, secret: secret.into() })
}

/// `ParameterDescription`: the types.
pub(crate) fn parameter_types(message: &[u8]) -> Result<Vec<u32>, Violation> {
    let mut body = Body::of(message);
    let types = (0..body.count()?).map(|_| body.u32()).collect::<Result<_, _>>()?;
    body.end()?;
    Ok(types)
}

/// `ParameterStatus`: name and value.
pub(crate) fn parameter(message: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let mut body = Body::of(message);
    Ok((body.text()?, body.text()?))
}

/// `AuthenticationSASL`: the mechanisms, of a body whose code has been read.
pub(crate) fn mechanisms(mut body: Body<'_>) -> Result<Vec<&str>, Violation> {
    let mut found = Vec::new();
    loop {
        match body.text()? {
            [] => return body.end().map(|()| found),
            name => found.push(
                std::str::from_utf8(name).map_err(|_| body.malformed("a mechanism is no text"))?,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_long_error_will_do() {
        let message = b"E\0\0\xff\xffVFATAL\0C57P01\0Mthe end of";
        let found = error(message);
        assert_eq!(found.code.as_deref(), Some("57P01"));
        assert_eq!(found.message, None);
        assert!(found.fatal);
    }

    proptest::proptest! {
        #[test]
        fn p8_no_server_message_panics(bytes: Vec<u8>) {
            let _ = error(&bytes);
            let _ = tag(&bytes);
            let _ = ready(&bytes);
            let _ = cancel_key(&bytes);
            let _ = parameter_types(&bytes);
            let _ = parameter(&bytes);
            let _ = mechanisms(Body::of(&bytes));
        }
    }
}
