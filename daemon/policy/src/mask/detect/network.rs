//! Addresses of hosts with colons. Those with dots are found among the numbers.

use std::net::Ipv6Addr;

use super::{Add, Detector, before, is_word, run};

/// With an IPv4 address at its end.
const LONGEST: usize = 45;

pub(super) fn find(text: &[u8], add: Add<'_>) {
    let mut after = 0;
    for colon in memchr::memchr_iter(b':', text) {
        if colon < after {
            continue;
        }
        // Another colon within four digits, or it is a time, a pair, a path.
        let next = run(text, colon + 1, |byte| byte.is_ascii_hexdigit());
        if text.get(next) != Some(&b':') || next - colon > 5 {
            continue;
        }
        let digits = text[..colon].iter().rev().take(5).take_while(|byte| byte.is_ascii_hexdigit());
        let start = colon - digits.count();
        if colon - start > 4 || is_word(before(text, start)) || before(text, start) == Some(b':') {
            continue;
        }
        let most = &text[..text.len().min(start + LONGEST + 1)];
        let mut end = run(most, start, |byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
        // What follows an address in a sentence.
        while end > start && (text[end - 1] == b'.' || lone_colon(&text[start..end])) {
            end -= 1;
        }
        after = end;
        if !is_word(text.get(end).copied()) && is_address(&text[start..end]) {
            add(Detector::Ipv6, start..end);
        }
    }
}

fn lone_colon(address: &[u8]) -> bool {
    address.ends_with(b":") && !address.ends_with(b"::")
}

fn is_address(candidate: &[u8]) -> bool {
    let colons = memchr::memchr_iter(b':', candidate).count();
    let short = memchr::memmem::find(candidate, b"::").is_some();
    if !short && !(6..=7).contains(&colons) {
        return false;
    }
    // `dead::beef` is a path in some languages; an address of few groups has a digit.
    if short && colons < 4 && !candidate.iter().any(u8::is_ascii_digit) {
        return false;
    }
    std::str::from_utf8(candidate).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}
