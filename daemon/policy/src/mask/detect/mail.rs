//! Addresses of mail.

use super::{Add, Detector};

/// RFC 5321 allows 64 bytes of local part and 255 of domain; people write more.
const LONGEST_LOCAL: usize = 128;
const LONGEST_DOMAIN: usize = 255;
/// Names of units look like addresses: `getty@tty1.service`.
const UNITS: [&[u8]; 6] = [b"service", b"socket", b"timer", b"mount", b"target", b"slice"];

pub(super) fn find(text: &[u8], add: Add<'_>) {
    let mut after = 0;
    for at in memchr::memchr_iter(b'@', text) {
        let start = local(text, after, at);
        if start == at {
            continue;
        }
        if let Some(end) = domain(text, at + 1) {
            add(Detector::Email, start..end);
            after = end;
        }
    }
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"._%+-~$".contains(&byte)
}

fn local(text: &[u8], after: usize, at: usize) -> usize {
    let floor = after.max(at.saturating_sub(LONGEST_LOCAL)).min(at);
    let length = text[floor..at].iter().rev().take_while(|byte| is_local(**byte)).count();
    // Neither in the middle of a character nor with what only surrounds the address.
    let mut start = at - length;
    while start < at && (is_continuation(text[start]) || b".-".contains(&text[start])) {
        start += 1;
    }
    start
}

fn domain(text: &[u8], from: usize) -> Option<usize> {
    let window = &text[from..text.len().min(from + LONGEST_DOMAIN)];
    let mut end = 0;
    for (index, label) in window.split(|byte| *byte == b'.').enumerate() {
        let length = label.iter().take_while(|byte| is_label(**byte)).count();
        let begin = if index == 0 { 0 } else { end + 1 };
        let mut kept = &label[..length];
        while let [rest @ .., b'-'] = kept {
            kept = rest;
        }
        if kept.is_empty() || kept[0] == b'-' {
            break;
        }
        end = begin + kept.len();
        if kept.len() < label.len() {
            break;
        }
    }
    while end < window.len() && is_continuation(window[end]) {
        end += 1;
    }
    // The last label that can be a top-level domain ends it.
    let mut domain = &window[..end];
    loop {
        let dot = memchr::memrchr(b'.', domain)?;
        if is_top_level(&domain[dot + 1..]) {
            return Some(from + domain.len());
        }
        domain = &domain[..dot];
    }
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || !byte.is_ascii()
}

fn is_top_level(label: &[u8]) -> bool {
    let letters = label.iter().all(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
    label.len() >= 2 && (letters || label.starts_with(b"xn--")) && !UNITS.contains(&label)
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}
