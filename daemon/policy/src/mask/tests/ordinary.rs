//! What detectors find where there is nothing to find: ordinary data, made by a small generator, and
//! texts that systems have. docs/measured.md has the numbers.

use std::{collections::BTreeMap, fmt::Write, fs};

use super::super::{Detector, Detectors};

/// Numbers that look random, the same ones each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
    }

    fn of(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length)
            .map(|_| {
                let at = self.next(alphabet.len() as u64);
                char::from(alphabet[usize::try_from(at).unwrap_or_default()])
            })
            .collect()
    }
}

const HEX: &[u8] = b"0123456789abcdef";
const DIGITS: &[u8] = b"0123456789";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LINES: usize = 20_000;

fn lines(mut one: impl FnMut(&mut Numbers, &mut String)) -> String {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut text = String::new();
    for _ in 0..LINES {
        one(&mut numbers, &mut text);
        text.push('\n');
    }
    text
}

fn counts(text: &[u8]) -> BTreeMap<Detector, usize> {
    let mut counts = BTreeMap::new();
    for one in Detectors::all().find(text) {
        *counts.entry(one.detector).or_default() += 1;
    }
    counts
}

/// In each of the kinds of data no more than these are found.
#[track_caller]
fn at_most(kind: &str, text: &str, bounds: &[(Detector, usize)]) {
    let counts = counts(text.as_bytes());
    println!("{kind}: {} bytes, {counts:?}", text.len());
    for (detector, count) in &counts {
        let bound = bounds.iter().find(|(one, _)| one == detector).map_or(0, |(_, bound)| *bound);
        assert!(*count <= bound, "{kind}: {count} of {} in {LINES} lines", detector.name());
    }
}

#[test]
fn in_ordinary_data() {
    let uuids = lines(|n, out| {
        let [low, middle, high, clock, node] = [8, 4, 3, 3, 12].map(|length| n.of(HEX, length));
        let _ = write!(out, "{low}-{middle}-4{high}-a{clock}-{node}");
    });
    at_most("UUIDs", &uuids, &[]);
    let prices = lines(|n, out| {
        let _ = write!(
            out,
            "{}.{:02},{:.3},{}",
            n.next(100_000),
            n.next(100),
            0.001 * f64::from(u32::try_from(n.next(9_999_999)).unwrap_or_default()),
            n.next(1000)
        );
    });
    at_most("prices", &prices, &[]);
    let times = lines(|n, out| {
        let (month, day, hour, minute) = (n.next(12) + 1, n.next(28) + 1, n.next(24), n.next(60));
        let micros = n.next(1_000_000);
        let _ = write!(
            out,
            "2024-{month:02}-{day:02} {hour:02}:{minute:02}:07.{micros:06}+02 2024-{month:02}-{day:02}T{hour:02}:{minute:02}:00Z {}{:03}",
            1_700_000_000 + n.next(99_999_999),
            n.next(1000)
        );
    });
    at_most("timestamps", &times, &[]);
    let versions = lines(|n, out| {
        let [a, b, c, d] = [30, 20, 100, 20].map(|below| n.next(below));
        let _ = write!(
            out,
            "{a}.{b}.{c} v{a}.{b}.{c}.{d} 1:{a}.{b}.{c}.{d}-{d}ubuntu1 {a}.{b}.{c}-rc.{d}+build.{c}"
        );
    });
    at_most("versions", &versions, &[]);
    let hashes = lines(|n, out| {
        let [md5, sha1, sha256] = [32, 40, 64].map(|length| n.of(HEX, length));
        let _ = write!(out, "{md5} {sha1} {sha256} {}= {}", n.of(BASE64, 43), n.of(BASE64, 64));
    });
    at_most("hashes", &hashes, &[]);
    let orders = lines(|n, out| {
        let [a, b, c, d] = [3, 7, 8, 10].map(|length| n.of(DIGITS, length));
        let _ = write!(out, "{a}-{b}-{b} ORD-{c} #{d} {c}{a} INV{d}-{a} 2024/{c}");
    });
    at_most("order numbers", &orders, &[]);
    // One in ten has the check digit of a card by chance, if it begins as one. That is what they are.
    let long = lines(|n, out| {
        let _ = write!(out, "{} {}", n.of(DIGITS, 13), n.of(DIGITS, 16));
    });
    at_most("numbers of 13 and 16 digits", &long, &[(Detector::Card, LINES * 5 / 100)]);
    // Two letters and 20 digits: one in 97 has the check digits.
    let codes = lines(|n, out| {
        let _ = write!(
            out,
            "{}{} {}",
            n.of(b"ABCDEFGHIKLMNOPRSTU", 2),
            n.of(DIGITS, 20),
            n.of(b"ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", 10)
        );
    });
    at_most("letters and 20 digits", &codes, &[(Detector::Iban, LINES / 1000)]);
    let paths = lines(|n, out| {
        let words = [
            "usr",
            "share",
            "lib",
            "Program",
            "Files",
            "node_modules",
            "x86_64",
            "Common",
            "src",
            "MyApp",
            "v2",
            "Test1",
        ];
        for _ in 0..8 {
            let at = usize::try_from(n.next(words.len() as u64)).unwrap_or_default();
            let _ = write!(out, "/{}", words[at]);
        }
        let _ = write!(out, " std::fmt::Display a::b key:value {}:{}", n.next(99), n.next(99));
    });
    at_most("paths", &paths, &[]);
}

/// Licences, as Debian and its kin have them; elsewhere there is nothing to count.
#[test]
fn in_licences() {
    let Ok(folder) = fs::read_dir("/usr/share/common-licenses") else { return };
    let mut text = String::new();
    for file in folder.flatten() {
        if file.file_type().is_ok_and(|kind| kind.is_file()) {
            text += &String::from_utf8_lossy(&fs::read(file.path()).unwrap_or_default());
        }
    }
    at_most("licences", &text, &[]);
}
