//! The messages of the connection protocol (RFC 4254), read as far as a relay must know them.

use super::{
    Violation,
    codec::{Put, Reader, message},
};

pub(crate) const GLOBAL_REQUEST: u8 = 80;
pub(crate) const REQUEST_SUCCESS: u8 = 81;
pub(crate) const REQUEST_FAILURE: u8 = 82;
pub(crate) const OPEN: u8 = 90;
pub(crate) const OPEN_CONFIRMATION: u8 = 91;
pub(crate) const OPEN_FAILURE: u8 = 92;
pub(crate) const WINDOW_ADJUST: u8 = 93;
pub(crate) const DATA: u8 = 94;
pub(crate) const EXTENDED_DATA: u8 = 95;
pub(crate) const EOF: u8 = 96;
pub(crate) const CLOSE: u8 = 97;
pub(crate) const REQUEST: u8 = 98;
pub(crate) const SUCCESS: u8 = 99;
pub(crate) const FAILURE: u8 = 100;

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254, section 5.2).
pub(crate) const STDERR: u32 = 1;
/// `SSH_OPEN_ADMINISTRATIVELY_PROHIBITED` (RFC 4254, section 5.1).
const PROHIBITED: u32 = 1;

/// A request, of a channel or of the whole connection.
pub(crate) struct Asked<'a> {
    pub(crate) kind: &'a [u8],
    pub(crate) wants_reply: bool,
    /// What is in it beyond that.
    pub(crate) body: Reader<'a>,
}

impl<'a> Asked<'a> {
    pub(crate) fn read(mut read: Reader<'a>) -> Result<Self, Violation> {
        Ok(Self { kind: read.string()?, wants_reply: read.bool()?, body: read })
    }
}

/// A channel that is to be opened.
pub(crate) struct Opened<'a> {
    pub(crate) kind: &'a [u8],
    /// The number that the side that opens it gives it.
    pub(crate) sender: u32,
    pub(crate) window: u32,
    pub(crate) packet: u32,
    pub(crate) body: Reader<'a>,
}

impl<'a> Opened<'a> {
    pub(crate) fn read(mut read: Reader<'a>) -> Result<Self, Violation> {
        Ok(Self {
            kind: read.string()?,
            sender: read.u32()?,
            window: read.u32()?,
            packet: read.u32()?,
            body: read,
        })
    }
}

/// A message about a channel that says no more.
pub(crate) fn of_channel(number: u8, channel: u32) -> Vec<u8> {
    let mut said = message(number);
    said.put_u32(channel);
    said
}

pub(crate) fn window_adjust(channel: u32, bytes: u32) -> Vec<u8> {
    let mut said = of_channel(WINDOW_ADJUST, channel);
    said.put_u32(bytes);
    said
}

pub(crate) fn data(channel: u32, extended: Option<u32>, bytes: &[u8]) -> Vec<u8> {
    let mut said = Vec::with_capacity(bytes.len() + 13);
    said.push(if extended.is_some() { EXTENDED_DATA } else { DATA });
    said.put_u32(channel);
    if let Some(code) = extended {
        said.put_u32(code);
    }
    said.put_string(bytes);
    said
}

pub(crate) fn open_failure(channel: u32, why: &str) -> Vec<u8> {
    let mut said = of_channel(OPEN_FAILURE, channel);
    said.put_u32(PROHIBITED);
    said.put_string(why.as_bytes());
    said.put_string(b"");
    said
}

pub(crate) fn exit_status(channel: u32, status: u32) -> Vec<u8> {
    let mut said = of_channel(REQUEST, channel);
    said.put_string(b"exit-status");
    said.put_bool(false);
    said.put_u32(status);
    said
}
