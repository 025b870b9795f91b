//! What each form makes of values. That a server takes the results is a host test.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Form, Format, Keep, Key, Masked, ShortKey};

const TEXT: u32 = 25;

fn masked(form: &Form, oid: u32, format: Format, value: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let masked = form.apply(Some(&super::key(1)), oid, format, value, &mut out);
    let rest = out.strip_prefix(b"before").expect("is left alone").to_vec();
    match masked {
        Masked::Value => Some(rest),
        Masked::Null => {
            assert_eq!(rest, b"", "NULL has no bytes");
            None
        }
    }
}

fn text(form: &Form, oid: u32, value: &str) -> Option<String> {
    masked(form, oid, Format::Text, value.as_bytes())
        .map(|bytes| String::from_utf8(bytes).expect("is UTF-8"))
}

fn constant(text: &str) -> Form {
    Form::Constant(text.into())
}

fn pseudonym() -> Form {
    Form::Pseudonym(Arc::from("p_"))
}

#[test]
fn a_part_of_a_text_is_left() {
    let last = |n| Form::Partial(Keep::Last(n));
    let first = |n| Form::Partial(Keep::First(n));
    for (form, value, expected) in [
        (last(4), "4111111111111111", "************1111"),
        (first(2), "secret", "se****"),
        (last(2), "\u{fc}\u{e9}\u{1f600}", "*\u{e9}\u{1f600}"),
        (first(1), "\u{fc}\u{e9}", "\u{fc}*"),
        (last(0), "abc", "***"),
        (first(0), "abc", "***"),
        (last(4), "abcd", "****"),
        (last(9), "abcd", "****"),
        (first(4), "abcd", "****"),
        (last(2), "", ""),
    ] {
        assert_eq!(text(&form, TEXT, value).as_deref(), Some(expected), "{form:?} of {value}");
    }
    assert_eq!(masked(&last(2), TEXT, Format::Text, b"ab\xff\xfe"), Some(b"****".to_vec()));
    assert_eq!(text(&last(2), 1042, "abc   ").as_deref(), Some("*bc   "));
    assert_eq!(text(&last(2), 114, "\"a\\u0062c\"").as_deref(), Some("\"*bc\""));
    assert_eq!(text(&last(2), 114, "{\"a\":1}"), None);
    assert_eq!(text(&last(2), 142, "a<b").as_deref(), Some("*&lt;b"));
    assert_eq!(text(&last(1), 17, "\\x010203").as_deref(), Some("\\x2a2a03"));
    assert_eq!(text(&first(1), 17, "\\001\\002").as_deref(), Some("\\x012a"));
    assert_eq!(text(&last(2), 23, "12345"), None);
    assert_eq!(
        text(&last(2), 1009, "{abc,NULL,\"d,\\\"e\"}").as_deref(),
        Some("{*bc,NULL,\"**\\\"e\"}")
    );
}

#[test]
fn a_year_is_left_of_a_date() {
    for (oid, value, expected) in [
        (1082, "2024-05-06", Some("2024-01-01")),
        (1082, "0044-03-15 BC", Some("0044-01-01 BC")),
        (1082, "12024-12-31", Some("12024-01-01")),
        (1114, "1999-12-31 23:59:59.999999", Some("1999-01-01 00:00:00")),
        // In UTC it is still the year before.
        (1184, "2024-01-01 00:30:00+01", Some("2023-01-01 00:00:00+00")),
        (1184, "2024-07-01 00:30:00-03:30", Some("2024-01-01 00:00:00+00")),
        (1184, "infinity", None),
        (1082, "infinity", None),
        // In another style nobody knows.
        (1082, "05/06/2024", None),
        (1082, "2024-02-30", None),
        (1082, "4714-11-24 BC", None),
        (1083, "12:00:00", None),
        (TEXT, "2024-05-06", None),
        (3912, "[2024-05-06,2024-06-01)", Some("[2024-01-01,2024-01-01]")),
        (3912, "(,2024-06-01)", Some("(,2024-01-01)")),
        (3912, "empty", Some("empty")),
        (
            3908,
            "[\"2023-05-06 00:00:00\",\"2024-05-06 00:00:00\")",
            Some("[\"2023-01-01 00:00:00\",\"2024-01-01 00:00:00\")"),
        ),
        (1182, "{2024-05-06,NULL,infinity}", Some("{2024-01-01,NULL,NULL}")),
    ] {
        assert_eq!(text(&Form::Year, oid, value).as_deref(), expected, "{value}");
    }
    let day = |days: i32| masked(&Form::Year, 1082, Format::Binary, &days.to_be_bytes());
    assert_eq!(day(0), Some(0_i32.to_be_bytes().into()));
    assert_eq!(day(365), Some(0_i32.to_be_bytes().into()));
    assert_eq!(day(366), Some(366_i32.to_be_bytes().into()));
    assert_eq!(day(-1), Some((-365_i32).to_be_bytes().into()));
    assert_eq!(day(i32::MAX), None);
    assert_eq!(day(i32::MIN), None);
    assert_eq!(masked(&Form::Year, 1114, Format::Binary, &i64::MAX.to_be_bytes()), None);
}

#[test]
fn a_constant_must_be_a_value_of_the_type() {
    for (form, oid, expected) in [
        ("[hidden]", TEXT, Some("[hidden]")),
        ("[hidden]", 23, None),
        ("0", 23, Some("0")),
        ("70000", 21, None),
        ("0.00", 1700, Some("0.00")),
        ("-12345.678", 1700, Some("-12345.678")),
        ("t", 16, Some("t")),
        ("say \"no\"", 114, Some("\"say \\\"no\\\"\"")),
        ("null", 3802, Some("null")),
        ("a<b", 142, Some("a&lt;b")),
        ("x", 17, Some("\\x78")),
        ("1970-01-01", 1082, Some("1970-01-01")),
        ("1970-01-01 00:00:00+00", 1184, Some("1970-01-01 00:00:00+00")),
        ("00:00:00", 1266, None),
        ("00:00:00+00", 1266, Some("00:00:00+00")),
        ("0.0.0.0", 869, Some("0.0.0.0")),
        ("10.0.0.1/8", 869, Some("10.0.0.1/8")),
        ("10.0.0.1/8", 650, None),
        (
            "00000000-0000-0000-0000-000000000000",
            2950,
            Some("00000000-0000-0000-0000-000000000000"),
        ),
        ("00:00:00:00:00:00", 829, Some("00:00:00:00:00:00")),
        ("x", 99_999, None),
        ("x", 2249, None),
    ] {
        assert_eq!(text(&constant(form), oid, "original").as_deref(), expected, "{form} as {oid}");
    }
    assert_eq!(text(&constant("x"), 1009, "{{a,b},{c,NULL}}").as_deref(), Some("{{x,x},{x,NULL}}"));
    assert_eq!(text(&constant("x"), 1009, "[0:1]={a,b}").as_deref(), Some("[0:1]={x,x}"));
    for broken in ["", "{", "{a", "a", "{a}b", "{{{{{{{a}}}}}}}", "[0:1={a}", "{\"a}"] {
        assert_eq!(text(&constant("x"), 1009, broken), None, "{broken}");
    }
}

#[test]
fn a_pseudonym_is_the_same_for_equal_values_alone() {
    let of = |oid, value| text(&pseudonym(), oid, value).expect("has one");
    assert_eq!(of(TEXT, "ada"), of(TEXT, "ada"));
    assert_eq!(of(TEXT, "ada"), of(1043, "ada"), "joins work across these");
    assert_eq!(of(TEXT, "ada"), of(1042, "ada  "));
    assert_ne!(of(TEXT, "ada"), of(TEXT, "Ada"));
    assert_eq!(of(TEXT, "ada").len(), 2 + 32);
    assert_eq!(of(1700, "1.0"), of(1700, "1.00"));
    assert_eq!(of(1700, "0"), of(1700, "-0.0"));
    assert_ne!(of(1700, "1"), of(1700, "10000"));
    assert_eq!(of(701, "0"), of(701, "-0"));
    let uuid = of(2950, "550e8400-e29b-41d4-a716-446655440000");
    assert_eq!(&uuid[14..15], "8", "its version");
    assert!("89ab".contains(&uuid[19..20]), "its variant");
    assert!(of(21, "-5").parse::<i16>().is_ok_and(|number| number >= 0));
    assert!(of(23, "-5").parse::<i32>().is_ok_and(|number| number >= 0));
    assert!(of(869, "10.0.0.1").starts_with("fd"));
    assert_eq!(text(&pseudonym(), 16, "t"), None, "two values can be told apart");
    assert_eq!(
        text(&Form::Pseudonym("x".repeat(40).into()), 19, "name"),
        None,
        "too long for a name"
    );
    let mut out = Vec::new();
    assert_eq!(pseudonym().apply(None, TEXT, Format::Text, b"ada", &mut out), Masked::Null);
    assert_eq!(Key::new(b"short").err(), Some(ShortKey));
}

#[test]
fn deep_and_broken_values_are_null() {
    let mut record = 0_u32.to_be_bytes().to_vec();
    for _ in 0..20 {
        let mut outer = 1_u32.to_be_bytes().to_vec();
        outer.extend(2249_u32.to_be_bytes());
        outer.extend(u32::try_from(record.len()).expect("is short").to_be_bytes());
        outer.extend(&record);
        record = outer;
    }
    let out = masked(&constant("x"), 2249, Format::Binary, &record).expect("is a record");
    assert!(out.len() < record.len(), "what lies too deep is NULL");
    assert_eq!(masked(&constant("x"), 2249, Format::Binary, &[0, 0, 0, 9]), None);
    assert_eq!(masked(&constant("x"), 1009, Format::Binary, &[0xff; 30]), None);
}

fn any_form() -> impl Strategy<Value = Form> {
    prop_oneof![
        Just(Form::Null),
        Just(Form::Year),
        Just(pseudonym()),
        prop::sample::select(vec!["x", "0", "1970-01-01", "{}"]).prop_map(constant),
        (0_usize..12).prop_map(|n| Form::Partial(Keep::First(n))),
        (0_usize..12).prop_map(|n| Form::Partial(Keep::Last(n))),
    ]
}

fn any_oid() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![
        16, 17, 19, 20, 21, 23, 25, 114, 142, 650, 700, 701, 829, 869, 1009, 1007, 1042, 1043,
        1082, 1083, 1114, 1184, 1186, 1266, 1700, 2249, 2287, 2950, 3802, 3904, 3906, 3912, 3913,
        99_999,
    ])
}

proptest! {
    #[test]
    fn never_more_than_asked(value in "\\PC{0,20}", n in 0_usize..24) {
        let count = value.chars().count();
        for keep in [Keep::First(n), Keep::Last(n)] {
            let out = text(&Form::Partial(keep), TEXT, &value).expect("is a text");
            prop_assert_eq!(out.chars().count(), count);
            let hidden = if n >= count { count } else { count - n };
            let shown = |at: usize| match keep {
                Keep::First(_) => at < count - hidden,
                Keep::Last(_) => at >= hidden,
            };
            for (at, (masked, original)) in out.chars().zip(value.chars()).enumerate() {
                prop_assert_eq!(masked, if shown(at) { original } else { '*' });
            }
            // And again it shows no more.
            let twice = text(&Form::Partial(keep), TEXT, &out);
            prop_assert_eq!(twice.as_ref(), Some(&out));
        }
    }

    #[test]
    fn a_pseudonym_differs_by_key(value in "\\PC{0,20}") {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let form = pseudonym();
        prop_assert_eq!(form.apply(Some(&super::key(1)), TEXT, Format::Text, value.as_bytes(), &mut one), Masked::Value);
        prop_assert_eq!(form.apply(Some(&super::key(2)), TEXT, Format::Binary, value.as_bytes(), &mut other), Masked::Value);
        prop_assert_ne!(&one, &other);
        let again = masked(&form, TEXT, Format::Binary, value.as_bytes());
        prop_assert_eq!(Some(one), again, "in either format");
    }

    #[test]
    fn numbers_agree_in_both_formats(number in any::<i64>(), small in any::<i32>()) {
        let binary = masked(&pseudonym(), 20, Format::Binary, &number.to_be_bytes());
        let eight: i64 = text(&pseudonym(), 20, &number.to_string()).and_then(|t| t.parse().ok()).expect("a number");
        prop_assert_eq!(binary, Some(eight.to_be_bytes().to_vec()));
        let binary = masked(&pseudonym(), 23, Format::Binary, &small.to_be_bytes());
        let four: i32 = text(&pseudonym(), 23, &small.to_string()).and_then(|t| t.parse().ok()).expect("a number");
        prop_assert_eq!(binary, Some(four.to_be_bytes().to_vec()));
    }

    /// Whatever comes, nothing panics, and NULL has no bytes.
    #[test]
    fn any_bytes_of_any_type(
        form in any_form(),
        oid in any_oid(),
        binary in any::<bool>(),
        value in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[\\[{(]{0,2}[0-9a-z\",:. -]{0,20}[\\]})]{0,2}".prop_map(String::into_bytes),
        ],
    ) {
        let format = if binary { Format::Binary } else { Format::Text };
        masked(&form, oid, format, &value);
    }
}
