//! A text in pieces is masked as the whole text is.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Detectors, Form, Keep, Key, Scanner};

fn forms() -> Vec<Form> {
    vec![
        Form::Null,
        Form::Constant("[gone]".into()),
        Form::Partial(Keep::Last(4)),
        Form::Pseudonym(Arc::from("p_")),
    ]
}

fn whole(form: &Form, text: &[u8]) -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    let count = Detectors::all().mask(form, Some(&super::key(1)), text, &mut out);
    (out, count)
}

fn pieces(form: &Form, text: &[u8], sizes: &[usize]) -> (Vec<u8>, u64, usize) {
    let mut scanner = Scanner::new(Detectors::all(), form.clone(), Some(super::key(1)));
    let (mut out, mut rest, mut most) = (Vec::new(), text, 0);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).clamp(1, rest.len()));
        scanner.push(piece, &mut out);
        most = most.max(scanner.waiting());
        rest = after;
    }
    scanner.finish(&mut out);
    (out, scanner.count(), most)
}

/// Parts of things that are found, and what stands between.
fn part() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "ada@example.com",
        "4111 1111 1111 1111",
        "4111-1111-",
        "1111-1111",
        "219-09-9999",
        "DE89 3704 0044 0532 0130 00",
        "+1 (415) 555-2671",
        "10.0.0.1",
        "2001:db8::1",
        "eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "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",
        "-----BEGIN PRIVATE KEY-----\nMIIB\nAAAA",
        "-----BEGIN PRIVATE KEY-----",
        "\n-----END PRIVATE KEY-----",
        "-----",
        "word",
        "Word",
        "W",
        "\u{fc}",
        " ",
        "  ",
        "\n",
        ",",
        "\"",
        "@",
        ".",
        ":",
        "+",
        "-",
        "/",
        "(",
        "7",
        "4111",
        "=",
        "_",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn however_it_is_cut(
        parts in prop::collection::vec(part(), 0..40),
        sizes in prop::collection::vec(1_usize..60, 1..8),
        form in prop::sample::select(forms()),
    ) {
        let text = parts.concat();
        let (expected, count) = whole(&form, text.as_bytes());
        let (out, counted, _) = pieces(&form, text.as_bytes(), &sizes);
        prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "{}", text);
        prop_assert_eq!(counted, count as u64);
    }

    #[test]
    fn any_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        sizes in prop::collection::vec(1_usize..60, 1..8),
    ) {
        let form = Form::Constant("x".into());
        let (out, ..) = pieces(&form, &bytes, &sizes);
        prop_assert_eq!(out, whole(&form, &bytes).0);
    }

    #[test]
    fn masking_twice_is_safe(parts in prop::collection::vec(part(), 0..20)) {
        let text = parts.concat();
        for form in [Form::Partial(Keep::Last(4)), Form::Pseudonym("p_".into())] {
            let (once, _) = whole(&form, text.as_bytes());
            let (twice, _) = whole(&form, &once);
            prop_assert!(std::str::from_utf8(&twice).is_ok());
            if let Form::Partial(_) = form {
                let count = String::from_utf8_lossy(&twice).chars().count();
                prop_assert_eq!(count, text.chars().count(), "one asterisk for one");
            }
        }
    }
}

#[test]
fn a_stretch_without_an_end_waits_within_bounds() {
    let secret = "ada@example.com";
    for at in [1_000, 16_370, 16_384, 20_000, 32_760, 32_768, 50_000] {
        let text = format!("{}!{secret}!{}", "x".repeat(at), "y".repeat(60_000));
        for size in [1_000, 7_777, 100_000] {
            let form = Form::Constant("[gone]".into());
            let (out, count, most) = pieces(&form, text.as_bytes(), &[size]);
            assert_eq!(count, 1, "at {at} in pieces of {size}");
            assert_eq!(out, whole(&form, text.as_bytes()).0);
            assert!(most <= 32 * 1024, "{most} bytes waited");
        }
    }
}

#[test]
fn a_private_key_may_come_line_by_line() {
    let key = format!(
        "before\n-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\nafter ada@example.com\n",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n".repeat(30)
    );
    let form = Form::Constant("[gone]".into());
    for size in [1, 13, 65, 1_000] {
        let (out, count, _) = pieces(&form, key.as_bytes(), &[size]);
        assert_eq!(String::from_utf8_lossy(&out), "before\n[gone]\nafter [gone]\n");
        assert_eq!(count, 2);
    }
}

#[test]
fn a_private_key_without_an_end_stops_somewhere() {
    let text = format!("-----BEGIN PRIVATE KEY-----\n{}", "MIIE\n".repeat(40_000));
    let form = Form::Constant("[gone]".into());
    let (out, _, most) = pieces(&form, text.as_bytes(), &[4_000]);
    assert_eq!(out, whole(&form, text.as_bytes()).0);
    assert!(out.starts_with(b"[gone]") && out.len() > 100_000);
    assert!(most <= 64 * 1024 + 4_000, "{most} bytes waited");
}

#[test]
fn a_question_without_an_end_of_line_can_be_let_go() {
    let mut scanner = Scanner::new(Detectors::all(), Form::Null, None);
    let mut out = Vec::new();
    scanner.push(b"Number", &mut out);
    assert_eq!(out, b"", "it may go on");
    scanner.flush(&mut out);
    assert_eq!(out, b"Number");
    assert_eq!(scanner.waiting(), 0);
    scanner.push(b": 4111 1111 ", &mut out);
    scanner.push(b"1111 1111\n", &mut out);
    scanner.finish(&mut out);
    assert_eq!(out, b"Number: \n");
}

#[test]
fn what_is_not_found_is_as_it_was() {
    let text = "Plain words, 12 numbers: 3.14; \u{fc}nd so on.\n".repeat(50);
    let (out, count, _) = pieces(&Form::Null, text.as_bytes(), &[17]);
    assert_eq!((out, count), (text.into_bytes(), 0));
}

#[test]
fn keys_are_not_shown() {
    let scanner = Scanner::new(Detectors::all(), Form::Null, Key::new(&[7; 32]).ok());
    assert!(!format!("{scanner:?}").contains('7'));
}
