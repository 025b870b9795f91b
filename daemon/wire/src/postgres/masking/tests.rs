//! Rows with masked columns, and with what is found.

use super::{super::reply, *};

/// A value's length that says NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Masks the second column: texts become `x`, all else NULL.
#[derive(Debug)]
struct Second;

impl Masks for Second {
    fn plan(&self, _: u32, fields: Option<&[Field]>, count: usize) -> Plan {
        match fields {
            Some(fields) if fields.iter().all(|field| field.number != 2) => Plan::Pass,
            Some(fields) => {
                Plan::Each(fields.iter().map(|f| (f.number == 2).then_some(1)).collect())
            }
            None => Plan::Each(vec![Some(0); count]),
        }
    }

    fn value(
        &self,
        way: u16,
        oid: u32,
        binary: bool,
        _: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Became {
        counts.add(way);
        if way != 1 || oid != 25 || binary {
            return Became::Null;
        }
        out.push(b'x');
        Became::Value
    }

    fn copies(&self, _: u32) -> Copies {
        Copies::Rows(
            CopyLayout::usual(chaperone_model::CopyFormat::Text),
            CopiedColumns::Each(vec![(None, 0), (Some(1), 25)]),
        )
    }

    fn hides_messages(&self) -> bool {
        true
    }

    fn name(&self, way: u16) -> String {
        format!("way {way}")
    }
}

/// Records what [`Second`] leaves, and shows all.
#[derive(Debug)]
struct Lifted;

impl Masks for Lifted {
    fn plan(&self, part: u32, fields: Option<&[Field]>, count: usize) -> Plan {
        Second.plan(part, fields, count)
    }

    fn value(
        &self,
        way: u16,
        oid: u32,
        binary: bool,
        value: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Became {
        Second.value(way, oid, binary, value, out, counts)
    }

    fn copies(&self, part: u32) -> Copies {
        Second.copies(part)
    }

    fn hides_messages(&self) -> bool {
        true
    }

    fn shown(&self) -> Option<Rc<dyn Masks>> {
        Some(Rc::new(All))
    }

    fn name(&self, way: u16) -> String {
        Second.name(way)
    }
}

#[derive(Debug)]
struct All;

impl Masks for All {
    fn plan(&self, _: u32, _: Option<&[Field]>, _: usize) -> Plan {
        Plan::Pass
    }

    fn value(&self, _: u16, _: u32, _: bool, _: &[u8], _: &mut Vec<u8>, _: &mut Counts) -> Became {
        Became::Null
    }

    fn copies(&self, _: u32) -> Copies {
        Copies::Pass
    }

    fn hides_messages(&self) -> bool {
        true
    }

    fn name(&self, _: u16) -> String {
        String::new()
    }
}

#[test]
fn p5_what_is_lifted_is_shown_and_recorded_masked() {
    let mut masking = Masking::new(Some(Rc::new(Lifted)), None).expect("masks");
    masking.set_columns(described(&[1, 2], 25, false));
    let sent = row(&[Some(b"a"), Some(b"secret")]);
    let kept = masking.row(0, &sent).expect("a row");
    assert_eq!(kept, Some(row(&[Some(b"a"), Some(b"x")])));
    assert_eq!(masking.shown_row(0, &sent, kept).expect("a row"), None, "as it is");
    assert_eq!(masking.finish().as_deref(), Some("{\"way 1\":1}"));
    let data = reply::message(b'd', b"a\tsecret\n");
    masking.begin_copy(0, &reply::message(b'H', &[0, 0, 2, 0, 0, 0, 0])).expect("it begins");
    let kept = masking.copied(&data).expect("a row");
    assert_eq!(kept.as_deref(), Some(&reply::message(b'd', b"a\tx\n")[..]));
    assert_eq!(masking.shown_copy(&data, kept).expect("a row"), None, "as it is");
    masking.end_copy().expect("it ends");
    // From here on nothing is lifted.
    masking.replace(Rc::new(Second));
    masking.set_columns(described(&[1, 2], 25, false));
    let kept = masking.row(0, &sent).expect("a row");
    assert!(kept.is_some());
    assert_eq!(masking.shown_row(0, &sent, kept.clone()).expect("a row"), kept);
}

fn second() -> Box<Masking> {
    Masking::new(Some(Rc::new(Second)), None).expect("masks")
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut message = b"D\0\0\0\0".to_vec();
    message.extend(u16::try_from(values.len()).expect("few").to_be_bytes());
    for value in values {
        let Some(value) = value else {
            message.extend(NULL);
            continue;
        };
        message.extend(i32::try_from(value.len()).expect("short").to_be_bytes());
        message.extend_from_slice(value);
    }
    reply::set_length(&mut message);
    message
}

fn described(numbers: &[i16], oid: u32, binary: bool) -> Rc<Columns> {
    Rc::new(Columns {
        types: vec![oid; numbers.len()],
        origins: numbers.iter().map(|number| (7, *number)).collect(),
        formats: Formats::All(binary),
        ..Columns::default()
    })
}

#[test]
fn p5_a_value_is_masked_and_the_others_are_as_they_were() {
    let mut masking = second();
    masking.set_columns(described(&[1, 2, 3], 25, false));
    let sent = row(&[Some(b"a"), Some(b"secret"), None]);
    let with = masking.row(0, &sent).expect("a row");
    assert_eq!(with, Some(row(&[Some(b"a"), Some(b"x"), None])));
    assert_eq!(masking.finish().as_deref(), Some("{\"way 1\":1}"));
    assert_eq!(masking.finish(), None);
}

#[test]
fn p5_what_cannot_be_masked_is_null() {
    for (oid, binary) in [(25, true), (23, false)] {
        let mut masking = second();
        masking.set_columns(described(&[2], oid, binary));
        let with = masking.row(0, &row(&[Some(b"secret")])).expect("a row");
        assert_eq!(with, Some(row(&[None])));
    }
}

#[test]
fn p5_a_result_that_was_not_described_as_it_comes_is_masked_whole() {
    let mut masking = second();
    let sent = row(&[Some(b"a"), Some(b"b")]);
    let null = row(&[None, None]);
    assert_eq!(masking.row(0, &sent).expect("a row"), Some(null.clone()));
    masking.set_columns(described(&[1], 25, false));
    assert_eq!(masking.row(0, &sent).expect("a row"), Some(null));
}

#[test]
fn a_result_that_no_mask_touches_passes() {
    let mut masking = second();
    masking.set_columns(described(&[1, 3], 25, false));
    assert_eq!(masking.row(0, &row(&[Some(b"a"), None])).expect("a row"), None);
    assert_eq!(masking.passes(), Some(true));
}

proptest::proptest! {
    #[test]
    fn p8_no_row_panics(mut bytes: Vec<u8>) {
        bytes.splice(0..0, *b"D\0\0\0\0");
        reply::set_length(&mut bytes);
        let mut masking = second();
        let _ = masking.row(0, &bytes);
    }
}
