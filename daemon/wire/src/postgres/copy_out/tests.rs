//! COPY's three formats, cut at every byte.

use super::*;

/// The second column: `secret…` becomes what the rest says, `gone` becomes NULL.
fn change(column: usize, value: &[u8], out: &mut Vec<u8>) -> Became {
    match value {
        _ if column != 1 => Became::Same,
        b"gone" => Became::Null,
        [b's', b'e', b'c', b'r', b'e', b't', rest @ ..] => {
            out.extend_from_slice(rest);
            Became::Value
        }
        _ => Became::Same,
    }
}

fn through(layout: &CopyLayout, columns: usize, pieces: &[&[u8]]) -> Result<Vec<u8>, Broken> {
    let mut copy = CopyOut::new(layout.clone(), columns);
    let mut all = Vec::new();
    for piece in pieces {
        let mut out = Vec::new();
        let changed = copy.push(piece, &mut out, &mut change)?;
        all.extend_from_slice(if changed { &out } else { piece });
    }
    if copy.may_end() { Ok(all) } else { Err("it has not ended") }
}

#[track_caller]
fn becomes(layout: &CopyLayout, columns: usize, data: &[u8], expected: &[u8]) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let check = |pieces: &[&[u8]]| {
        let out = through(layout, columns, pieces).expect("it can be taken apart");
        assert_eq!(text(&out), text(expected));
    };
    check(&[data]);
    for cut in 1..data.len() {
        check(&[&data[..cut], &data[cut..]]);
    }
    check(&data.chunks(1).collect::<Vec<_>>());
}

#[test]
fn p5_text() {
    let mut layout = CopyLayout::usual(CopyFormat::Text);
    becomes(
        &layout,
        3,
        b"1\tsecret\\tx\\\\\t\\N\nsecret\t\\N\tgone\n\tgone\t\\x\n",
        b"1\t\\tx\\\\\t\\N\nsecret\t\\N\tgone\n\t\\N\t\\x\n",
    );
    layout.delimiter = b'@';
    layout.header = true;
    layout.null = String::new();
    becomes(&layout, 2, b"a@secret\n1@secreta\\@b\n2@gone\n3@\n", b"a@secret\n1@a\\@b\n2@\n3@\n");
    becomes(&CopyLayout::usual(CopyFormat::Text), 0, b"\n\n", b"\n\n");
}

#[test]
fn p5_csv() {
    let mut layout = CopyLayout::usual(CopyFormat::Csv);
    layout.header = true;
    becomes(
        &layout,
        3,
        b"a,secret,b\n1,secret,x\n2,\"secret\n\"\"x\",\"\"\n3,,\n4,gone,\"\"\n5,\"\",\"a\nb\"\n",
        b"a,secret,b\n1,\"\",x\n2,\"\n\"\"x\",\"\"\n3,,\n4,,\"\"\n5,\"\",\"a\nb\"\n",
    );
    let odd = CopyLayout {
        delimiter: b'|',
        quote: b'\'',
        escape: b'!',
        null: "-".into(),
        ..CopyLayout::usual(CopyFormat::Csv)
    };
    becomes(
        &odd,
        2,
        b"1|'secret!!!'\n|'\n2|secret-\n3|'gone'\n'!''|-\n",
        b"1|'!!!'\n|'\n2|'-'\n3|-\n'!''|-\n",
    );
}

/// The statement says what stands for NULL and between values: it may be a guess.
#[test]
fn p5_quotes_of_csv_say_nothing_of_the_value_that_was_there() {
    let guess = CopyLayout { null: "secret1".into(), ..CopyLayout::usual(CopyFormat::Csv) };
    becomes(&guess, 2, b"1,\"secret1\"\n", b"1,\"1\"\n");
    becomes(&guess, 2, b"1,secret2\n", b"1,\"2\"\n");
    becomes(&CopyLayout { delimiter: b'z', ..guess }, 2, b"1zsecret2\n", b"1z\"2\"\n");
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut row = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
    for value in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).expect("short"));
        row.extend(length.to_be_bytes());
        row.extend_from_slice(value.unwrap_or_default());
    }
    row
}

#[test]
fn p5_binary() {
    let layout = CopyLayout::usual(CopyFormat::Binary);
    let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02xy";
    let with = |rows: &[Vec<u8>]| [&head[..], &rows.concat(), binary::TRAILER].concat();
    let data = with(&[
        row(&[Some(b"secret"), Some(b"secret\xff\xff"), None]),
        row(&[None, Some(b"gone"), Some(b"")]),
        row(&[None, None, Some(b"gone")]),
    ]);
    let expected = with(&[
        row(&[Some(b"secret"), Some(b"\xff\xff"), None]),
        row(&[None, None, Some(b"")]),
        row(&[None, None, Some(b"gone")]),
    ]);
    becomes(&layout, 3, &data, &expected);
}

#[test]
fn rows_in_which_nothing_changes_are_not_written_anew() {
    let mut copy = CopyOut::new(CopyLayout::usual(CopyFormat::Text), 2);
    let mut out = Vec::new();
    assert_eq!(copy.push(b"a\tb\nc\td\n", &mut out, &mut change), Ok(false));
    assert!(out.is_empty());
}

#[test]
fn p2_what_is_not_what_it_should_be_is_refused() {
    let text = CopyLayout::usual(CopyFormat::Text);
    let csv = CopyLayout::usual(CopyFormat::Csv);
    let binary = CopyLayout::usual(CopyFormat::Binary);
    let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    for (layout, data) in [
        (&text, &b"1\n"[..]),
        (&text, b"1\t2\t3\n"),
        (&text, b"1\t2"),
        (&text, b"1\t2\\\n"),
        (&csv, b"1\n"),
        (&csv, b"1,2,3\n"),
        (&csv, b"1,\"2\"3\n"),
        (&csv, b"1,2\"\"3\n"),
        (&csv, b"1,\"2\n"),
        (&binary, b"PGCOPX"),
        (&binary, head),
        (&binary, &[&head[..], &row(&[None]), binary::TRAILER].concat()),
        (&binary, &[&head[..], binary::TRAILER, b"x"].concat()),
        (&binary, &[&head[..], b"\0\x02\0\0\0\x01"].concat()),
        (&binary, &[&head[..], b"\0\x02\xff\0\0\x01"].concat()),
    ] {
        assert!(through(layout, 2, &[data]).is_err(), "{:?}", String::from_utf8_lossy(data));
    }
}

proptest::proptest! {
    #[test]
    fn p8_no_data_panics(
        pieces: Vec<Vec<u8>>,
        format in proptest::sample::select(vec![CopyFormat::Text, CopyFormat::Csv, CopyFormat::Binary]),
        columns in 0..4_usize,
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let _ = through(&CopyLayout::usual(format), columns, &pieces);
    }

    /// What is written is read as the same value.
    #[test]
    fn p5_any_value_comes_through(value in "[a-c\\\\\"',!\\t\n\r\u{8} é|-]{0,12}", csv: bool, quote in "[\"'!]") {
        let format = if csv { CopyFormat::Csv } else { CopyFormat::Text };
        let layout = CopyLayout { quote: quote.as_bytes()[0], escape: b'!', ..CopyLayout::usual(format) };
        let mut written = Vec::new();
        let mut copy = CopyOut::new(layout.clone(), 2);
        copy.push(b"x\ty\n".map(|b| if csv && b == b'\t' { b',' } else { b }).as_slice(), &mut written, &mut |_, _, out| {
            out.extend_from_slice(value.as_bytes());
            Became::Value
        }).expect("written");
        let mut seen = Vec::new();
        let mut copy = CopyOut::new(layout, 2);
        copy.push(&written, &mut Vec::new(), &mut |_, value, _| {
            seen.push(value.to_vec());
            Became::Same
        }).expect("read");
        proptest::prop_assert_eq!(seen, vec![value.as_bytes().to_vec(); 2]);
    }
}
