//! S3, or what speaks like it: an object for each checkpoint, under a lock that nobody can lift
//! before its time (`COMPLIANCE`).
//!
//! Does not belong here: making the bucket, which needs object lock from its beginning.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chaperone_audit::Sealed;
use md5::Md5;
use rusty_s3::{Credentials, S3Action as _};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::{Failure, Place};
use crate::{clock, config::ObjectStore, outbound};

/// How long a signed request can be used.
const VALID: Duration = Duration::from_mins(5);
/// Longest answer that is read, in bytes.
const LONGEST: u64 = 64 << 10;
const DAY: i64 = 86_400;

pub(super) struct Store {
    store: ObjectStore,
    agent: ureq::Agent,
}

impl Store {
    pub(super) fn new(store: &ObjectStore) -> Result<Self> {
        let store = Self { store: store.clone(), agent: outbound::client() };
        store.credentials().context("the credentials")?;
        Ok(store)
    }

    /// Read each time: they may have been renewed.
    fn credentials(&self) -> Result<Credentials> {
        let (access, secret) = (self.store.access_key.read()?, self.store.secret_key.read()?);
        Ok(Credentials::new(access.expose_secret(), secret.expose_secret()))
    }

    fn put(&self, head: &Sealed) -> Result<(u16, String), Failure> {
        let credentials = self.credentials().map_err(Failure::later)?;
        // Names sort by size.
        let name = format!("{}{:020}.note", self.store.prefix, head.size);
        let headers = headers(&head.note, clock::wall().0 / 1_000_000, self.store.retain_days);
        let mut action = self.store.bucket.put_object(Some(&credentials), &name);
        for (name, value) in &headers {
            action.headers_mut().insert(*name, value.as_str());
        }
        let url = action.sign(VALID);
        let mut request = self.agent.put(url.as_str()).config().http_status_as_error(false).build();
        for (name, value) in &headers {
            request = request.header(*name, value);
        }
        // The address of a request is a credential: errors are told without it.
        let mut answer = request.send(&*head.note).map_err(|error| match error {
            ureq::Error::BadUri(_) => Failure::later("the address cannot be used"),
            error => Failure::later(error),
        })?;
        let text = answer.body_mut().with_config().limit(LONGEST).read_to_string();
        Ok((answer.status().as_u16(), text.unwrap_or_default()))
    }
}

impl Place for Store {
    fn take(&mut self, head: &Sealed, _: u64) -> Result<String, Failure> {
        match self.put(head)? {
            (200, _) => Ok(head.note.to_string()),
            (status, text) => Err(Failure::Later(format!(
                "the store did not take it ({status}){}",
                reason(&text)
            ))),
        }
    }
}

/// What is signed along with the address. The hashes bind the body to it, and a request with a lock
/// must have one.
fn headers(note: &str, now: i64, retain_days: u32) -> Vec<(&'static str, String)> {
    let until = jiff::Timestamp::from_second(now + i64::from(retain_days) * DAY);
    vec![
        ("content-md5", BASE64.encode(Md5::digest(note))),
        ("content-type", "text/plain; charset=utf-8".into()),
        ("x-amz-checksum-sha256", BASE64.encode(Sha256::digest(note))),
        ("x-amz-object-lock-mode", "COMPLIANCE".into()),
        ("x-amz-object-lock-retain-until-date", until.unwrap_or_default().to_string()),
    ]
}

/// The code and the message of an error document, which is XML.
fn reason(text: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once(&format!("</{name}>"))?;
        Some(value.chars().filter(|c| !c.is_control()).take(200).collect::<String>())
    };
    let parts = [element("Code"), element("Message")];
    parts.into_iter().flatten().fold(String::new(), |all, part| all + ": " + &part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_locked_and_its_hashes_are_said() {
        let headers = headers("a note\n", 1_000_000_000, 365);
        let value = |name: &str| {
            headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
        };
        // printf 'a note\n' | openssl dgst -md5 -binary | base64
        assert_eq!(value("content-md5"), Some("uuGsNJhQOBa3Li8Oj7hWSg=="));
        assert_eq!(value("x-amz-object-lock-mode"), Some("COMPLIANCE"));
        assert_eq!(value("x-amz-object-lock-retain-until-date"), Some("2002-09-09T01:46:40Z"));
    }

    #[test]
    fn an_error_document_is_told_in_words() {
        let text = "<Error><Code>AccessDenied</Code><Message>no &amp; never</Message></Error>";
        assert_eq!(reason(text), ": AccessDenied: no &amp; never");
        assert_eq!(reason("<html>"), "");
    }
}
