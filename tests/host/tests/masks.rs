//! P5: what masking makes of values is what a real server takes for values of their types.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, bail, ensure};
use chaperone_host_tests::{Host, Scene};
use chaperone_policy::mask::{Form, Format, Keep, Key, Masked};

/// A column for each type, and values that are unlike each other.
const COLUMNS: [(&str, u32, [&str; 3]); 35] = [
    ("text", 25, ["'Ada Lovelace'", "''", "E'tab\\t, \"quote\", \\\\, \u{fc}\u{1f600}'"]),
    ("varchar(40)", 1043, ["'varying'", "'x'", "'NULL'"]),
    ("char(8)", 1042, ["'abc'", "'abcdefgh'", "''"]),
    ("name", 19, ["'a_name'", "'x'", "'pg_class'"]),
    ("json", 114, ["'\"a string\"'", "'{\"a\": [1, 2]}'", "'12.5'"]),
    ("jsonb", 3802, ["'\"a \\\" string\"'", "'{\"a\": [1, 2]}'", "'null'"]),
    ("xml", 142, ["'<a>b</a>'", "'plain &amp; text'", "''"]),
    ("uuid", 2950, ["gen_random_uuid()", "'550e8400-e29b-41d4-a716-446655440000'", "NULL"]),
    ("int2", 21, ["12", "-32768", "32767"]),
    ("int4", 23, ["12", "-2147483648", "2147483647"]),
    ("int8", 20, ["12", "-9223372036854775808", "9223372036854775807"]),
    ("float4", 700, ["1.5", "'NaN'", "'-Infinity'"]),
    ("float8", 701, ["1.5e300", "-0.0", "0.1"]),
    ("numeric", 1700, ["12345.678900", "'NaN'", "-0.00001"]),
    ("bool", 16, ["true", "false", "NULL"]),
    ("date", 1082, ["'2024-05-06'", "'0044-03-15 BC'", "'infinity'"]),
    ("timestamp", 1114, ["'2024-05-06 07:08:09.1'", "'1999-12-31 23:59:59'", "'-infinity'"]),
    (
        "timestamptz",
        1184,
        ["'2024-05-06 07:08:09+02'", "'2024-01-01 00:30:00+01'", "'0044-03-15 BC'"],
    ),
    ("time", 1083, ["'07:08:09'", "'24:00:00'", "'00:00:00.000001'"]),
    ("timetz", 1266, ["'07:08:09+02'", "'07:08:09-03:30'", "NULL"]),
    ("interval", 1186, ["'1 day 2 hours'", "'00:00:01'", "'-3 months'"]),
    ("bytea", 17, ["'\\x0001ff'", "''", "'plain'"]),
    ("inet", 869, ["'10.0.0.1'", "'2001:db8::1/64'", "'10.0.0.1/8'"]),
    ("cidr", 650, ["'10.0.0.0/8'", "'2001:db8::/32'", "NULL"]),
    ("macaddr", 829, ["'08:00:2b:01:02:03'", "'00:00:00:00:00:00'", "NULL"]),
    ("text[]", 1009, ["'{a,NULL,\"b,c\"}'", "'{}'", "'[0:1]={\"x\\\"y\",\"\"}'"]),
    ("int4[]", 1007, ["'{{1,2},{3,4}}'", "'{NULL}'", "NULL"]),
    ("date[]", 1182, ["'{2024-05-06,infinity}'", "'{NULL}'", "'{}'"]),
    ("uuid[]", 2951, ["ARRAY[gen_random_uuid()]", "'{}'", "NULL"]),
    ("jsonb[]", 3807, ["ARRAY['\"s\"'::jsonb, '{}']", "'{}'", "NULL"]),
    ("numeric[]", 1231, ["'{1.50,NaN}'", "'{}'", "NULL"]),
    ("daterange", 3912, ["'[2024-05-06,2024-06-01)'", "'empty'", "'(,2024-06-01)'"]),
    ("tstzrange", 3910, ["'[2023-05-06,2024-06-01)'", "'(,)'", "'[2024-05-06,2024-06-01]'"]),
    ("int4range", 3904, ["'[1,5)'", "'empty'", "NULL"]),
    ("tsrange[]", 3909, ["'{\"[2023-05-06,2024-06-01)\",NULL}'", "'{}'", "NULL"]),
];

#[test]
fn p5_a_server_takes_masked_values_of_every_type_in_both_formats() -> Result<()> {
    let host = Scene::default().prepare()?;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    let columns =
        |of: &dyn Fn(usize) -> String| (0..COLUMNS.len()).map(of).collect::<Vec<_>>().join(", ");
    let types = columns(&|at| format!("c{at} {}", COLUMNS[at].0));
    let rows: Vec<String> =
        (0..3).map(|row| format!("({})", columns(&|at| COLUMNS[at].2[row].to_owned()))).collect();
    let sql = |sql: &str| host.postgres().sql(sql);
    sql(&format!("CREATE TABLE original ({types})"))?;
    // Lengths are the column's and not the value's.
    let types = types.replace("char(8)", "bpchar");
    for table in ["text_masked", "binary_masked"] {
        sql(&format!("CREATE TABLE {table} ({types})"))?;
    }
    for row in rows {
        sql(&format!("INSERT INTO original VALUES {row}"))?;
    }
    let key = Key::new(&[7; 32])?;
    let [text, binary] = ["text", "binary"].map(|name| folder.path().join(name));
    let out = |path: &Path, format| {
        sql(&format!("COPY original TO '{}' (FORMAT {format})", path.display()))
    };
    out(&text, "text")?;
    out(&binary, "binary")?;
    let original = (fs::read(&text)?, fs::read(&binary)?);
    let mut values = 0;
    for form in [
        Form::Null,
        Form::Constant("x".into()),
        Form::Constant("0".into()),
        Form::Constant("-12345.6789".into()),
        Form::Constant("t".into()),
        Form::Constant("1970-01-01".into()),
        Form::Constant("0044-03-15 BC".into()),
        Form::Constant("1970-01-01 00:00:00".into()),
        Form::Constant("1970-01-01 00:00:00+00".into()),
        Form::Constant("12:34:56.7".into()),
        Form::Constant("12:34:56+01".into()),
        Form::Constant("192.0.2.0/24".into()),
        Form::Constant("2001:db8::1".into()),
        Form::Constant("02:00:00:00:00:01".into()),
        Form::Constant("00000000-0000-8000-8000-000000000000".into()),
        Form::Partial(Keep::First(2)),
        Form::Partial(Keep::Last(2)),
        Form::Pseudonym("p_".into()),
        Form::Year,
    ] {
        let mask = |at: usize, format, value: &[u8]| {
            let mut out = Vec::new();
            match form.apply(Some(&key), COLUMNS[at].1, format, value, &mut out) {
                Masked::Value => Some(out),
                Masked::Null => None,
            }
        };
        fs::write(&text, of_text(&original.0, mask)?)?;
        fs::write(&binary, of_binary(&original.1, mask)?)?;
        for (table, path, format) in
            [("text_masked", &text, "text"), ("binary_masked", &binary, "binary")]
        {
            sql(&format!("TRUNCATE {table}"))?;
            sql(&format!("COPY {table} FROM '{}' (FORMAT {format})", path.display()))
                .with_context(|| format!("{form:?} in {format}"))?;
        }
        for (at, (name, ..)) in COLUMNS.iter().enumerate() {
            let column =
                |table: &str| sql(&format!("SELECT coalesce(c{at}::text, 'NULL') FROM {table}"));
            let (one, other) = (column("text_masked")?, column("binary_masked")?);
            ensure!(one == other, "{form:?} of {name}: {one} in text, {other} in binary");
        }
        let some = columns(&|at| format!("c{at}"));
        let count = sql(&format!("SELECT sum(num_nonnulls({some})) FROM text_masked"))?;
        values += count.parse::<u32>().unwrap_or(0);
    }
    ensure!(values > 300, "only {values} values were not NULL");
    stays_hidden(&host)
}

/// The original is none of the masked ones where the form hides it all.
fn stays_hidden(host: &Host) -> Result<()> {
    let same = host.postgres().sql(
        "SELECT count(*) FROM original o, text_masked m WHERE o.c0 = m.c0 OR o.c9 = m.c9 OR o.c13 = m.c13",
    )?;
    ensure!(same == "0", "{same} values are as they were");
    Ok(())
}

/// Applies the mask to each field of a COPY in text.
fn of_text(copy: &[u8], mask: impl Fn(usize, Format, &[u8]) -> Option<Vec<u8>>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for line in copy.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        for (at, field) in line.split(|byte| *byte == b'\t').enumerate() {
            if at > 0 {
                out.push(b'\t');
            }
            let masked =
                if field == b"\\N" { None } else { mask(at, Format::Text, &plain(field)?) };
            match masked {
                None => out.extend(b"\\N"),
                Some(value) => {
                    for byte in value {
                        match byte {
                            b'\\' => out.extend(b"\\\\"),
                            b'\t' => out.extend(b"\\t"),
                            b'\n' => out.extend(b"\\n"),
                            byte => out.push(byte),
                        }
                    }
                }
            }
        }
        out.push(b'\n');
    }
    Ok(out)
}

fn plain(field: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, byte == &b'\\') {
            (_, true) => match bytes.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'\\') => b'\\',
                other => bail!("an escape that is not in these values: {other:?}"),
            },
            (byte, false) => *byte,
        });
    }
    Ok(out)
}

/// Applies the mask to each field of a COPY in binary.
fn of_binary(
    copy: &[u8],
    mask: impl Fn(usize, Format, &[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<u8>> {
    // The signature, flags and the length of an extension, of which there is none.
    let (header, mut rest) = copy.split_at_checked(19).context("it has a header")?;
    let mut out = header.to_vec();
    loop {
        let (count, after) = rest.split_first_chunk::<2>().context("it has a trailer")?;
        out.extend(count);
        rest = after;
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            return Ok(out);
        }
        for at in 0..usize::try_from(count)? {
            let (length, after) = rest.split_first_chunk::<4>().context("a field has a length")?;
            rest = after;
            let length = i32::from_be_bytes(*length);
            let mut masked = None;
            if length >= 0 {
                let (value, after) =
                    rest.split_at_checked(usize::try_from(length)?).context("it is cut")?;
                rest = after;
                masked = mask(at, Format::Binary, value);
            }
            match masked {
                None => out.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    out.extend(i32::try_from(value.len())?.to_be_bytes());
                    out.extend(value);
                }
            }
        }
    }
}
