//! Detectors over values of columns.

use super::super::{Detectors, Form, Format, Keep, Screened};

fn screen(form: &Form, oid: u32, format: Format, value: &[u8]) -> (Screened, String) {
    let mut out = b"before ".to_vec();
    let screened =
        Detectors::all().screen(form, Some(&super::key(1)), oid, format, value, &mut out);
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
        (99_999, Format::Text, b"(ada@example.com,1)".to_vec()),
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
    ] {
        let clean = (Screened::Clean, String::new());
        assert_eq!(screen(&Form::Null, oid, Format::Text, value.as_bytes()), clean, "{value}");
    }
}
