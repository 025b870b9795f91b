//! Detectors over values of columns.

use super::super::{Detector, Detectors, Form, Format, Keep, Look, Screened, Screens};

fn all(form: &Form) -> Screens {
    let mut screens = Screens::default();
    screens.add(1, Detectors::all(), form.clone(), Some(super::key(1)));
    screens
}

fn screen(form: &Form, oid: u32, format: Format, value: &[u8]) -> (Screened, String) {
    let mut out = b"before ".to_vec();
    let mut hits = Detectors::default();
    let screened = all(form).screen(oid, format, value, &mut out, &mut hits);
    if screened == Screened::Masked {
        assert!(!hits.is_empty(), "what was masked is counted");
    }
    let rest = out.strip_prefix(b"before ").expect("is left alone");
    (screened, String::from_utf8_lossy(rest).into_owned())
}

#[test]
fn in_texts_json_and_arrays() {
    let last = Form::Partial(Keep::Last(4));
    let masked = |oid, value: &str| {
        let (screened, out) = screen(&last, oid, Format::Text, value.as_bytes());
        assert_eq!(screened, Screened::Masked, "{value}");
        out
    };
    assert_eq!(masked(25, "to ada@example.com, now"), "to ***********.com, now");
    assert_eq!(masked(114, r#"{"a": 4111111111111111}"#), r#"{"a": "************1111"}"#);
    assert_eq!(masked(3802, r#"["10.0.0.1", 7]"#), r#"["****.0.1", 7]"#);
    // Escaped, as json may be and jsonb is not.
    assert_eq!(masked(114, r#"{"a": "ada\u0040example.com"}"#), r#"{"a": "***********.com"}"#);
    assert_eq!(masked(1009, r#"{one,"ada@example.com",NULL}"#), "{one,***********.com,NULL}");
    let constant = Form::Constant("\"".into());
    let (_, out) = screen(&constant, 114, Format::Text, br#"["ada@example.com"]"#);
    assert_eq!(out, r#"["\""]"#);
}

#[test]
fn in_other_types_the_whole_value() {
    let last = Form::Partial(Keep::Last(4));
    let card = 4_111_111_111_111_111_i64;
    for (oid, format, value) in [
        (20, Format::Text, card.to_string().into_bytes()),
        (20, Format::Binary, card.to_be_bytes().to_vec()),
        (869, Format::Text, b"10.0.0.1".to_vec()),
        // tsvector
        (3614, Format::Text, b"'ada@example.com':1".to_vec()),
        (99_999, Format::Binary, b"\0\0\0\x0fada@example.com".to_vec()),
    ] {
        assert_eq!(screen(&last, oid, format, &value), (Screened::Null, String::new()));
    }
    let (screened, _) =
        screen(&Form::Constant("0".into()), 20, Format::Binary, &card.to_be_bytes());
    assert_eq!(screened, Screened::Masked);
}

#[test]
fn clean_values_are_not_written() {
    for (oid, value) in [
        (25, "hello"),
        (114, r#"{"a": "\u0041", "b": [1, 2.5e3, null]}"#),
        (1009, "{a,b}"),
        (20, "12"),
        (1700, "12.50"),
        (2950, "550e8400-e29b-41d4-a716-446655440000"),
        (1184, "2024-05-06 07:08:09+00"),
        (99_999, "(1,2)"),
        (99_999, "\\x00ff"),
    ] {
        let clean = (Screened::Clean, String::new());
        assert_eq!(screen(&Form::Null, oid, Format::Text, value.as_bytes()), clean, "{value}");
    }
}

#[test]
fn values_of_other_types_are_taken_for_what_they_look_like() {
    let last = Form::Partial(Keep::Last(4));
    let text = |oid, value: &str| screen(&last, oid, Format::Text, value.as_bytes());
    for oid in [0, 2249, 99_999] {
        let (screened, out) = text(oid, "(ada@example.com,1)");
        assert_eq!((screened, out.as_str()), (Screened::Masked, "(***********.com,1)"));
    }
    assert_eq!(text(0, r#"{"a": 4111111111111111}"#).1, r#"{"a": "************1111"}"#);
    assert_eq!(text(0, r#"["ada\u0040example.com"]"#).1, r#"["***********.com"]"#);
    assert_eq!(text(114, r#"{"raw": "\\x616461406578616d706c652e636f6d"}"#).1, r#"{"raw": ""}"#);
    let (_, out) = screen(&last, 0, Format::Binary, b"\x01{\"a\": 4111111111111111}");
    assert_eq!(out, "\x01{\"a\": \"************1111\"}");
    let (_, out) = screen(&last, 0, Format::Binary, br#"["ada\u0040example.com"]"#);
    assert_eq!(out, r#"["***********.com"]"#);
    // Bytes stay bytes.
    let (screened, out) = text(0, "\\x616461406578616d706c652e636f6d");
    assert_eq!((screened, out.as_str()), (Screened::Masked, "\\x2a2a2a2a2a2a2a2a2a2a2a2e636f6d"));
    // What would break a list or a record is NULL.
    for (form, value) in [
        (Form::Null, "{ada@example.com,b}"),
        (Form::Constant("a,b".into()), "(ada@example.com,1)"),
        (Form::Constant("a b".into()), "{ada@example.com}"),
    ] {
        let screened = screen(&form, 99_999, Format::Text, value.as_bytes());
        assert_eq!(screened, (Screened::Null, String::new()), "{value}");
    }
    let (_, out) = screen(&Form::Constant("a, b".into()), 99_999, Format::Text, b"ada@example.com");
    assert_eq!(out, "a, b");
    // A record of an array of texts and a number, in binary.
    let card = 4_111_111_111_111_111_i64.to_be_bytes();
    let array = b"\0\0\0\x01\0\0\0\0\0\0\0\x19\0\0\0\x01\0\0\0\x01\0\0\0\x0fada@example.com";
    let length = u32::try_from(array.len()).expect("short").to_be_bytes();
    let record =
        [b"\0\0\0\x02\0\0\x03\xf1", &length[..], array, b"\0\0\0\x14\0\0\0\x08", &card].concat();
    for oid in [2249, 99_999] {
        let (screened, out) = screen(&last, oid, Format::Binary, &record);
        assert_eq!(screened, Screened::Masked);
        assert!(out.contains("***********.com") && out.ends_with("\u{fffd}"), "NULL: {out:?}");
    }
    let (_, out) = screen(&last, 99_999, Format::Binary, b"ada@example.com");
    assert_eq!(out, "***********.com");
}

#[test]
fn p5_each_mask_has_its_form_and_where_two_meet_nothing_stays() {
    let mut screens = Screens::default();
    screens.add(3, Detector::Email.into(), Form::Partial(Keep::Last(4)), None);
    screens.add(5, Detectors::all(), Form::Constant("(card)".into()), None);
    screens.add(6, Detector::Card.into(), Form::Constant("never".into()), None);
    let mut out = Vec::new();
    let hits = screens.text(b"a ada@example.com b 4111111111111111 c", &mut out);
    assert_eq!(String::from_utf8_lossy(&out), "a ***********.com b (card) c");
    assert_eq!(screens.ways(hits).collect::<Vec<_>>(), [3, 5]);
    out.clear();
    let hits = screens.text(b"a 4111 1111 1111 1111@example.com b", &mut out);
    let shown = String::from_utf8_lossy(&out).into_owned();
    assert!(!shown.contains("1111"), "{shown}");
    assert_eq!(screens.ways(hits).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(screens.text(b"nothing", &mut out), Detectors::default());
    assert_eq!(String::from_utf8_lossy(&out), shown, "nothing was appended");
}

proptest::proptest! {
    /// Where a value need not be looked at as such, nothing is found in it that is not in its bytes,
    /// whatever stands around them.
    #[test]
    fn p5_what_is_passed_by_its_bytes_has_nothing(
        oid in proptest::sample::select(vec![
            0_u32, 16, 17, 18, 19, 20, 23, 25, 114, 142, 650, 701, 869, 1000, 1001, 1007, 1009, 1016,
            1042, 1043, 1082, 1231, 1700, 2249, 2950, 3614, 3802, 3807, 3904, 3926, 99_999,
        ]),
        binary: bool,
        parts in proptest::collection::vec("[ -~]{0,6}|[0-9]{1,6}|ada@example\\.com|4111111111111111\
            |219-09-9999|10\\.0\\.0\\.1|\\\\x616461|[{}\",\\\\]", 0..8),
    ) {
        let format = if binary { Format::Binary } else { Format::Text };
        let value = parts.concat().into_bytes();
        let screens = all(&Form::Partial(Keep::Last(4)));
        let look = screens.look(oid, format);
        let around = [&b"\0"[..], &value, b"\0"].concat();
        let by_bytes = match look {
            Look::Never => true,
            Look::Bytes => !screens.finds(&around),
            Look::Escaped => !value.contains(&b'\\') && !screens.finds(&around),
            Look::Value => return Ok(()),
        };
        let (screened, _) = screen(&Form::Null, oid, format, &value);
        let has_nothing = screened == Screened::Clean;
        // What is not written as its type is written is NULL, and no server writes it.
        proptest::prop_assert!(!by_bytes || has_nothing || screened == Screened::Null && is_not_written(oid));
    }
}

fn is_not_written(oid: u32) -> bool {
    matches!(oid, 1000 | 1001 | 1007 | 1009 | 1016 | 1231 | 3802 | 3807)
}

#[test]
fn p5_in_place_a_text_stays_as_long_as_it_was() {
    let text = "mail ada@example.com, card 4111 1111 1111 1111; host 10.0.0.1.\n";
    for (form, shown) in [
        (Form::Null, "mail ***************, card *******************; host ********.\n"),
        (
            Form::Partial(Keep::Last(4)),
            "mail ***********.com, card ***************1111; host ****.0.1.\n",
        ),
        (
            Form::Constant("[hidden]".into()),
            "mail ***************, card *******************; host ********.\n",
        ),
        (
            Form::Pseudonym("p-".into()),
            "mail ***************, card *******************; host ********.\n",
        ),
    ] {
        let mut bytes = text.as_bytes().to_vec();
        let counts = all(&form).cover(&mut bytes, 0..25);
        assert_eq!(String::from_utf8_lossy(&bytes), shown, "{form:?}");
        assert_eq!(counts, [(1, 1)], "what begins in that part is counted");
    }
    assert!(Detectors::all().reach() > 64 * 1024);
    assert!(Detectors::from(Detector::Email).reach() >= 16 * 1024);
}
