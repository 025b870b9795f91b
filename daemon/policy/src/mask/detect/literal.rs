//! What begins with letters of its own: tokens, keys, PEM. And secrets of AWS, which do not.

use std::{ops::Range, sync::LazyLock};

use aho_corasick::AhoCorasick;
use base64::Engine;
use memchr::memmem::Finder;

use super::{Add, Detector, before, is_word, run};

/// As long as a header of HTTP may be, as most servers have it.
const LONGEST_JWT: usize = 8192;
/// A private key of any kind is shorter.
pub(in super::super) const LONGEST_PEM: usize = 64 * 1024;
/// Its first line.
pub(super) const SHORTEST_PEM: usize = b"-----BEGIN PRIVATE KEY-----".len();
/// A line that begins or ends one.
pub(in super::super) const LONGEST_LABEL: usize = 80;
const PEM_BEGIN: &[u8] = b"-----BEGIN ";
const PEM_END: &[u8] = b"-----END ";

const BEGINNINGS: [&[u8]; 11] = [
    b"eyJ",
    b"AKIA",
    b"ASIA",
    b"ABIA",
    b"ACCA",
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat_",
];

static AUTOMATON: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::new(BEGINNINGS).ok());

pub(super) fn find(text: &[u8], add: Add<'_>) {
    // Of access keys' ids, the shortest.
    if text.len() < 20 {
        return;
    }
    // It is built of constants, and a test builds it.
    let Some(automaton) = &*AUTOMATON else { return };
    let mut after = 0;
    for begin in automaton.find_iter(text) {
        let start = begin.start();
        if start < after {
            continue;
        }
        let found = match begin.pattern().as_usize() {
            0 => jwt(text, start).map(|end| (Detector::Jwt, end)),
            1..=4 => aws_key_id(text, start).map(|end| (Detector::AwsKeyId, end)),
            kind => github(text, start, kind).map(|end| (Detector::GithubToken, end)),
        };
        if let Some((detector, end)) = found {
            add(detector, start..end);
            after = end;
        }
    }
}

static BEGIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PEM_BEGIN));

/// A private key from here on, and whether it ends there for good.
pub(super) fn next_pem(text: &[u8], from: usize) -> Option<(Range<usize>, bool)> {
    BEGIN.find_iter(&text[from..]).find_map(|at| {
        let start = from + at;
        pem(text, start).map(|(end, closed)| (start..end, closed))
    })
}

/// Where a private key begins whose end is not there yet.
pub(in super::super) fn open_pem(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some((span, closed)) = next_pem(text, at) {
        if !closed {
            return Some(span.start);
        }
        at = span.end;
    }
    None
}

/// Where it ends, and whether that is its end for good.
fn pem(text: &[u8], start: usize) -> Option<(usize, bool)> {
    let label = start + PEM_BEGIN.len();
    let body = label_end(text, label)?;
    memchr::memmem::find(&text[label..body], b"PRIVATE KEY")?;
    let limit = start + LONGEST_PEM;
    let most = &text[..text.len().min(limit)];
    let end = memchr::memmem::find(&most[body.min(most.len())..], PEM_END)
        .and_then(|at| label_end(most, body + at + PEM_END.len()));
    Some(match end {
        Some(end) => (end, true),
        None => (most.len(), text.len() >= limit),
    })
}

/// Behind the dashes that end a line of PEM.
fn label_end(text: &[u8], from: usize) -> Option<usize> {
    let window = &text[from..text.len().min(from + LONGEST_LABEL)];
    let dashes = memchr::memmem::find(window, b"-----")?;
    let label = &window[..dashes];
    let known = label
        .iter()
        .all(|byte| byte.is_ascii_uppercase() || *byte == b' ' || byte.is_ascii_digit());
    known.then_some(from + dashes + 5)
}

fn is_url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Three parts, of which the first is JSON that names an algorithm. The last may be empty: "none".
fn jwt(text: &[u8], start: usize) -> Option<usize> {
    if before(text, start).is_some_and(is_url_safe) {
        return None;
    }
    let most = &text[..text.len().min(start + LONGEST_JWT)];
    let header = run(most, start, is_url_safe);
    if most.get(header) != Some(&b'.') {
        return None;
    }
    let payload = run(most, header + 1, is_url_safe);
    if payload == header + 1 || most.get(payload) != Some(&b'.') {
        return None;
    }
    let signature = run(most, payload + 1, is_url_safe);
    let json =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&text[start..header]).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&json).ok()?;
    (json.get("alg")?.is_string() && signature < start + LONGEST_JWT).then_some(signature)
}

fn aws_key_id(text: &[u8], start: usize) -> Option<usize> {
    let end = start + 20;
    let rest = text.get(start + 4..end)?;
    let known = rest.iter().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(byte));
    (known && !is_word(before(text, start)) && !is_word(text.get(end).copied())).then_some(end)
}

fn github(text: &[u8], start: usize, kind: usize) -> Option<usize> {
    if is_word(before(text, start)) {
        return None;
    }
    let body = start + BEGINNINGS[kind].len();
    let most = &text[..text.len().min(body + 256)];
    if kind == BEGINNINGS.len() - 1 {
        let end = run(most, body, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let fits = end - body == 82 && text[body + 22] == b'_';
        return fits.then_some(end);
    }
    let end = run(most, body, |byte| byte.is_ascii_alphanumeric());
    if is_word(text.get(end).copied()) {
        return None;
    }
    match end - body {
        36 => {
            let (random, sum) = text[body..end].split_at(30);
            (base62(crc32fast::hash(random)) == *sum).then_some(end)
        }
        // Refresh tokens, and what may come; without a sum that is documented.
        40..=255 => Some(end),
        _ => None,
    }
}

/// Six digits.
fn base62(value: u32) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut out = [b'0'; 6];
    let mut rest = value;
    for place in out.iter_mut().rev() {
        *place = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    out
}

const SECRET: usize = 40;

/// A run of 40 has a byte at one of every 40 places: only there is looked.
pub(super) fn find_aws_secrets(text: &[u8], add: Add<'_>) {
    let mut probe = SECRET - 1;
    while let Some(byte) = text.get(probe) {
        if !BASE64[*byte as usize] {
            probe += SECRET;
            continue;
        }
        let end =
            run(&text[..text.len().min(probe + SECRET + 1)], probe, |byte| BASE64[byte as usize]);
        let floor = probe.saturating_sub(SECRET);
        let length = text[floor..probe].iter().rev().take_while(|byte| BASE64[**byte as usize]);
        let start = probe - length.count();
        if end - start == SECRET
            && text.get(end) != Some(&b'=')
            && !text.get(end).is_some_and(|byte| matches!(byte, b'_' | b'-'))
            && !matches!(before(text, start), Some(b'_' | b'-'))
            && is_mixed(&text[start..end])
        {
            add(Detector::AwsSecret, start..end);
        }
        probe += SECRET;
    }
}

const BASE64: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        byte += 1;
    }
    table
};

/// As random characters are: words, paths and hashes change their kind of character less often.
fn is_mixed(run: &[u8]) -> bool {
    let kind = |byte: &u8| match byte {
        b'a'..=b'z' => 0_usize,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let mut counts = [0_usize; 4];
    for byte in run {
        counts[kind(byte)] += 1;
    }
    let changes = run.windows(2).filter(|pair| kind(&pair[0]) != kind(&pair[1])).count();
    counts[0] >= 4 && counts[1] >= 4 && counts[2] >= 1 && counts[3] <= 5 && changes >= 16
}
