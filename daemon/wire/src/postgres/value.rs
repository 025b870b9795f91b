//! Values as JSON, for the record. A text value is kept as the string that it is; a binary value
//! of a common type is written as the text that the server would have sent; any other binary value
//! is kept as `{"binary": "<hex>", "type": <oid>}`.
//!
//! Layouts: the `*_send` functions in src/backend/utils/adt.

use std::fmt::Write;

/// Seconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_DAYS: i64 = 10_957;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Appends a value as JSON.
pub(crate) fn push_json(out: &mut Vec<u8>, oid: u32, binary: bool, value: Option<&[u8]>) {
    let Some(bytes) = value else {
        out.extend_from_slice(b"null");
        return;
    };
    let text =
        if binary { text_of(oid, bytes) } else { std::str::from_utf8(bytes).ok().map(Into::into) };
    match text {
        Some(text) => push_string(out, &text),
        None => push_hex(out, oid, bytes),
    }
}

/// Appends a JSON string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    // Writing into a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn push_hex(out: &mut Vec<u8>, oid: u32, bytes: &[u8]) {
    out.extend_from_slice(format!(r#"{{"binary":"{}","type":{oid}}}"#, hex(bytes)).as_bytes());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The server's text form of a binary value; `None` where the type is not known here.
fn text_of(oid: u32, bytes: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    // Type numbers: src/include/catalog/pg_type.dat.
    Some(match oid {
        16 => match bytes {
            [0] => "f".into(),
            [1] => "t".into(),
            _ => return None,
        },
        17 => format!("\\x{}", hex(bytes)).into(),
        20 => i64::from_be_bytes(bytes.try_into().ok()?).to_string().into(),
        21 => i16::from_be_bytes(bytes.try_into().ok()?).to_string().into(),
        23 => i32::from_be_bytes(bytes.try_into().ok()?).to_string().into(),
        26 => u32::from_be_bytes(bytes.try_into().ok()?).to_string().into(),
        700 => f32::from_be_bytes(bytes.try_into().ok()?).to_string().into(),
        701 => f64::from_be_bytes(bytes.try_into().ok()?).to_string().into(),
        // "char", name, text, json, xml, unknown, bpchar, varchar
        18 | 19 | 25 | 114 | 142 | 705 | 1042 | 1043 => std::str::from_utf8(bytes).ok()?.into(),
        1082 => date(i64::from(i32::from_be_bytes(bytes.try_into().ok()?)))?.into(),
        1114 => timestamp(i64::from_be_bytes(bytes.try_into().ok()?), "")?.into(),
        1184 => timestamp(i64::from_be_bytes(bytes.try_into().ok()?), "+00")?.into(),
        1700 => numeric(bytes)?.into(),
        2950 => {
            let h = hex(<&[u8; 16]>::try_from(bytes).ok()?);
            format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..]).into()
        }
        // jsonb, version 1
        3802 => match bytes {
            [1, text @ ..] => std::str::from_utf8(text).ok()?.into(),
            _ => return None,
        },
        _ => return None,
    })
}

fn date(days: i64) -> Option<String> {
    // Infinity and the years outside 1…9999 are left to the hexadecimal form.
    let (year, month, day) = civil(days.checked_add(EPOCH_DAYS)?);
    (1..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

fn timestamp(micros: i64, zone: &str) -> Option<String> {
    let mut text = date(micros.div_euclid(MICROS_PER_DAY))?;
    let rest = micros.rem_euclid(MICROS_PER_DAY);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let _ = write!(text, " {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!(".{fraction:06}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push_str(zone);
    Some(text)
}

/// Days since 1970-01-01 to year, month, day of the proleptic Gregorian calendar
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// Groups of four digits that a `numeric` is written with beyond those that it has.
const ZEROS: usize = 16;

/// `numeric_send`: count, weight, sign, scale, then digits in base 10,000.
fn numeric(bytes: &[u8]) -> Option<String> {
    let mut fields = bytes.chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]]));
    let count = usize::from(fields.next()?);
    #[expect(clippy::cast_possible_wrap, reason = "the field is a signed 16-bit number")]
    let weight = i32::from(fields.next()? as i16);
    let sign = fields.next()?;
    let scale = usize::from(fields.next()?);
    let digits: Vec<u16> = fields.collect();
    if digits.len() != count || !bytes.len().is_multiple_of(2) {
        return None;
    }
    // A few bytes can stand for a hundred thousand digits: most of them zeros, which say nothing.
    let groups = usize::try_from(weight.max(0)).ok()? + 1 + scale.div_ceil(4);
    if groups > count + ZEROS {
        return None;
    }
    match sign {
        0xc000 => return Some("NaN".into()),
        0xd000 => return Some("Infinity".into()),
        0xf000 => return Some("-Infinity".into()),
        0 | 0x4000 => {}
        _ => return None,
    }
    let digit = |place: i32| {
        usize::try_from(weight - place).ok().and_then(|i| digits.get(i)).copied().unwrap_or(0)
    };
    let mut text = String::new();
    if sign == 0x4000 {
        text.push('-');
    }
    let _ = write!(text, "{}", digit(weight.max(0)));
    for place in (0..weight.max(0)).rev() {
        let _ = write!(text, "{:04}", digit(place));
    }
    if scale > 0 {
        let groups = i32::try_from(scale.div_ceil(4)).ok()?;
        let mut fraction = String::new();
        for group in 1..=groups {
            let _ = write!(fraction, "{:04}", digit(-group));
        }
        text.push('.');
        text.push_str(fraction.get(..scale)?);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(oid: u32, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_json(&mut out, oid, true, Some(bytes));
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn common_types_read_as_the_server_writes_them() {
        assert_eq!(json(23, &42_i32.to_be_bytes()), r#""42""#);
        assert_eq!(json(16, &[1]), r#""t""#);
        assert_eq!(json(17, &[0xde, 0xad]), r#""\\xdead""#);
        assert_eq!(json(1082, &0_i32.to_be_bytes()), r#""2000-01-01""#);
        assert_eq!(json(1082, &(-1_i32).to_be_bytes()), r#""1999-12-31""#);
        assert_eq!(json(1082, &8825_i32.to_be_bytes()), r#""2024-02-29""#);
        assert_eq!(json(1114, &1_500_000_i64.to_be_bytes()), r#""2000-01-01 00:00:01.5""#);
        assert_eq!(json(1184, &(-1_i64).to_be_bytes()), r#""1999-12-31 23:59:59.999999+00""#);
        assert_eq!(json(2950, &[0x12; 16]), r#""12121212-1212-1212-1212-121212121212""#);
        assert_eq!(json(3802, b"\x01{}"), r#""{}""#);
    }

    #[test]
    fn numerics_read_as_the_server_writes_them() {
        let send = |weight: i16, sign: u16, scale: u16, digits: &[u16]| {
            let mut bytes = u16::try_from(digits.len()).expect("few").to_be_bytes().to_vec();
            bytes.extend(weight.to_be_bytes());
            bytes.extend(sign.to_be_bytes());
            bytes.extend(scale.to_be_bytes());
            bytes.extend(digits.iter().flat_map(|d| d.to_be_bytes()));
            json(1700, &bytes)
        };
        assert_eq!(send(0, 0, 0, &[]), r#""0""#);
        assert_eq!(send(0, 0, 2, &[12, 3400]), r#""12.34""#);
        assert_eq!(send(1, 0x4000, 0, &[1, 2]), r#""-10002""#);
        assert_eq!(send(2, 0, 0, &[1]), r#""100000000""#);
        assert_eq!(send(-2, 0, 8, &[5]), r#""0.00000005""#);
        assert_eq!(send(0, 0xc000, 0, &[]), r#""NaN""#);
        assert_eq!(send(9, 0, 0, &[10]), format!(r#""10{}""#, "0".repeat(36)));
    }

    #[test]
    fn p8_a_numeric_of_few_bytes_does_not_become_a_long_text() {
        for bytes in [b"\0\0\x7f\xff\0\0\0\0", b"\0\0\0\0\0\0\x3f\xff"] {
            assert!(json(1700, bytes).len() < 100, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_kept_in_hexadecimal() {
        assert_eq!(json(600, &[1, 2]), r#"{"binary":"0102","type":600}"#);
        assert_eq!(json(23, &[1, 2]), r#"{"binary":"0102","type":23}"#);
        let mut out = Vec::new();
        push_json(&mut out, 25, false, Some(&[0xff]));
        assert_eq!(out, br#"{"binary":"ff","type":25}"#);
    }

    proptest::proptest! {
        #[test]
        fn p8_every_value_becomes_valid_json(oid in proptest::sample::select(vec![0_u32, 16, 17, 20, 21, 23, 25, 26, 700, 701, 1082, 1114, 1184, 1700, 2950, 3802]), binary: bool, bytes: Option<Vec<u8>>) {
            let mut out = Vec::new();
            push_json(&mut out, oid, binary, bytes.as_deref());
            let value: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
            proptest::prop_assert_eq!(value.is_null(), bytes.is_none());
        }
    }
}
