use std::sync::LazyLock;

use pg_query::protobuf::Token;
use proptest::prelude::*;

use super::*;
use crate::read;

/// Statements as applications send them, and as those would who try to be taken for another.
const SEEDS: &[&str] = &[
    "select * from t where id = 5",
    "SELECT a, b FROM s.t WHERE name = 'bob' AND n < 10 ORDER BY 1 LIMIT 20 OFFSET 40",
    "insert into t (a, b) values (1, 'x'), (2, 'y'), (3, '')",
    "update t set a = 'x', b = b + 1 where id in (1, 2, 3)",
    "delete from t where id = -7 and d < now() - interval '1 day'",
    "delete from t where created < '2024-01-01'::date",
    "select 1;select 2;delete from t where a = 'x';",
    "/* who asks */ select * from t where id = 5",
    "select 'a'\n'b', 1\n, 'c'\n, 2",
    "select E'it\\'s', 'x', B'01', X'1f', N'n', U&'d\\0061t', 5",
    "select 1.5, .5, 1e5, 0x1f, 0b1, 0o7, 1_000, 12345678901, $1, t1.c2, 3",
    "select 'it''s', 'x' || 'y', ('z'), 5+6, a[1], a[1:2], 4",
    "select $$ 'a' 1 $$, $x$ 'b' $x$, 'c', 9",
    "select \"a'1\", 'b', 2 as \"3\"",
    "select * from t where a like 'x' and j->>'k' = 'v' and k @> '{1}' limit 3",
    "select case when a = 1 then 'x' else 'y' end from t group by 1 having count(*) > 2",
    "merge into t using s on t.id = s.id and t.k = 4 when matched then update set a = 'x'",
    "with x as (delete from t where id = 1 returning *) select * from x where n = 'y'",
    "select extract('epoch' from x), date 'today', time '10:00', bool 'f', -1, +1 from t",
    "values (1, 'a'), (2, 'b')",
    "select 'é', 'a', 'ü' , 1",
    "select(1)from t where 2=2 and(3)=3 or'a'='b'",
    "select \t'a'\r\n,\x0b'b'\x0c, 1\t",
    "explain select 'a'",
    "select 1 union all select 2 -- 'x'",
    "select 007, 0, '0'",
];

fn template(text: &str) -> Option<Template> {
    read::read_with_slots(text).1.and_then(|slots| Template::new(text, &slots))
}

/// One of a text and all of its literals, whether its reading may be reused or not: what is claimed
/// of the lexer holds for any.
fn of_all_literals(text: &str) -> Option<Template> {
    let slots: Vec<_> = tokens(text)
        .into_iter()
        .filter_map(|(start, end, token)| {
            let kind = match token {
                Token::Sconst if text.as_bytes()[start] == b'\'' => SlotKind::String,
                Token::Iconst => SlotKind::Number,
                _ => return None,
            };
            let [start, end] = [start, end].map(|at| u32::try_from(at).expect("short"));
            Some(Slot { start, end, kind })
        })
        .collect();
    Template::new(text, &slots)
}

/// What is read elsewhere, and what is disguised there.
const CORPUS: [&str; 2] = [
    include_str!("../../../../tests/corpus/sql/statements.sql"),
    include_str!("../../../../tests/corpus/sql/hidden.sql"),
];

fn seeds() -> impl Iterator<Item = &'static str> {
    let corpus = CORPUS.into_iter().flat_map(|file| file.split("\n--- "));
    let texts = corpus.filter_map(|entry| entry.split_once('\n')).map(|(_, text)| text);
    let cut = texts.filter(|text| pg_query::scan(text).is_ok());
    SEEDS.iter().copied().chain(cut)
}

fn tokens(text: &str) -> Vec<(usize, usize, Token)> {
    let at = |at: i32| usize::try_from(at).expect("a place");
    let scan = pg_query::scan(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    scan.tokens.iter().map(|token| (at(token.start), at(token.end), token.token())).collect()
}

/// A text of the template, of literals that are chosen by these.
fn fill(template: &Template, literals: &[(u32, String)]) -> String {
    let (mut text, mut at) = (String::new(), 0);
    for (slot, (number, string)) in template.slots.iter().zip(literals.iter().cycle()) {
        text += &template.text[at..slot.start as usize];
        match slot.kind {
            SlotKind::Number => text += &number.to_string(),
            SlotKind::String => text.extend(["'", string, "'"]),
        }
        at = slot.end as usize;
    }
    text + &template.text[at..]
}

static TEMPLATES: LazyLock<Vec<Template>> =
    LazyLock::new(|| seeds().filter_map(template).collect());
static LITERALS: LazyLock<Vec<Template>> =
    LazyLock::new(|| seeds().filter_map(of_all_literals).collect());

fn literals() -> impl Strategy<Value = Vec<(u32, String)>> {
    let string = prop_oneof![
        "[ -&(-\\[\\]-~]{0,12}",
        Just("; drop table t; --".to_owned()),
        Just("$$".to_owned()),
        Just("/*".to_owned()),
        Just("*/ 1 /*".to_owned()),
        Just("%".to_owned()),
    ];
    proptest::collection::vec((0..=999_999_999u32, string), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn p1_texts_of_one_template_have_one_reading(
        which in any::<prop::sample::Index>(),
        literals in literals(),
    ) {
        let template = which.get(&TEMPLATES);
        let text = fill(template, &literals);
        prop_assert!(template.matches(&text), "{text:?} is not of {template:?}");
        prop_assert_eq!(read::read(&text), read::read(&template.text), "{}", text);
    }

    #[test]
    fn p1_texts_of_one_template_have_the_same_tokens(
        which in any::<prop::sample::Index>(),
        literals in literals(),
    ) {
        let template = which.get(&LITERALS);
        let text = fill(template, &literals);
        prop_assert!(template.matches(&text), "{text:?} is not of {template:?}");
        let (own, other) = (tokens(&template.text), tokens(&text));
        prop_assert_eq!(own.len(), other.len(), "{}", text);
        for ((start, end, token), (other_start, other_end, other)) in own.into_iter().zip(other) {
            prop_assert_eq!(token, other, "{}", text);
            let slot = template.slots.iter().any(|slot| slot.start as usize == start);
            if !slot {
                prop_assert_eq!(&template.text[start..end], &text[other_start..other_end]);
            }
        }
    }

    // Whatever a text is made of: if it is of a template, it has the template's reading.
    #[test]
    fn p1_texts_that_were_changed_are_of_no_template_or_of_its_reading(
        which in any::<prop::sample::Index>(),
        literals in literals(),
        place in any::<prop::sample::Index>(),
        other in prop_oneof![
            any::<char>().prop_map(String::from),
            "['\"$\\\\;.&_eExXbBuU0-9a \n/*-]{1,4}",
        ],
        instead in 0..3usize,
    ) {
        let template = which.get(&LITERALS);
        let mut text = fill(template, &literals).into_bytes();
        let at = place.index(text.len());
        text.splice(at..text.len().min(at + instead), other.bytes());
        let Ok(text) = String::from_utf8(text) else { return Ok(()) };
        if template.matches(&text) {
            let kinds = |text: &str| -> Vec<_> {
                tokens(text).into_iter().map(|(_, _, token)| token).collect()
            };
            prop_assert_eq!(kinds(&text), kinds(&template.text), "{}", text);
        }
    }
}

fn hints(text: &str) -> Vec<u8> {
    let mut hints = Vec::new();
    skeleton(text, &mut hints);
    hints
}

#[test]
fn what_applications_send_makes_templates() {
    assert!(TEMPLATES.len() > 200, "{}", TEMPLATES.len());
    assert!(LITERALS.len() > TEMPLATES.len(), "{}", LITERALS.len());
    let others = [(7, "/* it".to_owned()), (77, "1".to_owned()), (0, String::new())];
    let astray: Vec<_> = LITERALS
        .iter()
        .map(|template| (&template.text, fill(template, &others)))
        .filter(|(text, other)| hints(text) != hints(other))
        .collect();
    // Only where a quote stands alone, as in an escape string, is the hint none.
    assert!(astray.len() < LITERALS.len() / 50, "{astray:#?} of {}", LITERALS.len());
}

#[test]
fn p1_a_literal_that_is_not_alone_is_no_slot() {
    for text in [
        "select E'1'",
        "select 1.5",
        "select .5",
        "select $1",
        "select t1",
        "select 1e5",
        "select 0x1f",
        "select 1_000",
        "select U&'a'",
        "select b'1'",
        "select 'it''s'",
        "select 'a\\'",
        "select 'é'",
        "select '\n'",
        "select 1a",
        "select \"1\"",
        "select é1",
        "select 'a'1",
        "select 1'a'",
        "select 1234567890",
        "select 'a'\"b\"",
    ] {
        let slots = (7..text.len()).flat_map(|start| {
            (start + 1..=text.len()).flat_map(move |end| {
                let [start, end] = [start, end].map(|at| u32::try_from(at).expect("short"));
                [SlotKind::Number, SlotKind::String].map(|kind| Slot { start, end, kind })
            })
        });
        for slot in slots {
            assert!(Template::new(text, &[slot]).is_none(), "{text}: {slot:?}");
        }
    }
}

#[test]
fn p1_a_string_that_says_how_an_identifier_is_written_makes_no_template() {
    for text in [
        "select * from U&\"d!0061ta\" UESCAPE '!' where id = 1",
        "select * from U&\"d!0061ta\" uEsCaPe\n'!' where id = 1",
        "select 1 -- one",
        "select /* one */ 1",
        "/* a /* b */ */ select 1",
        "select 1 /* end",
    ] {
        assert!(of_all_literals_where_any(text).is_none(), "{text}");
    }
    assert!(of_all_literals("/* don't */ select 1 where a = 'UESCAPE --'").is_some());
}

/// As [`of_all_literals`]; a text that cannot be cut has one slot, its first digit.
fn of_all_literals_where_any(text: &str) -> Option<Template> {
    if pg_query::scan(text).is_ok() {
        return of_all_literals(text);
    }
    let at = u32::try_from(text.find(|c: char| c.is_ascii_digit())?).expect("short");
    Template::new(text, &[Slot { start: at, end: at + 1, kind: SlotKind::Number }])
}

#[test]
fn p1_what_is_behind_a_slot_must_be_the_same() {
    let template = of_all_literals("select * from t where id = 5 and n = 'x'").expect("a template");
    let matches = |text: &str| template.matches(text);
    assert!(matches("select * from t where id = 123456789 and n = ''"));
    assert!(matches("select * from t where id = 0 and n = '; drop table t; --'"));
    for text in [
        "select * from t where id = 1234567890 and n = 'x'",
        "select * from t where id =  and n = 'x'",
        "select * from t where id = 5.0 and n = 'x'",
        "select * from t where id = '5' and n = 'x'",
        "select * from t where id = 5 and n = 'x''",
        "select * from t where id = 5 and n = 'x' or 1 = 1",
        "select * from t where id = 5 and n = 'x'; drop table t; --'",
        "select * from t where id = 5 and n = 'x\\'",
        "select * from t where id = 5 and n = 'é'",
        "select * from t where id = 5 and n = 'x\n'",
        "select * from t where id = 5 and n = 'x",
        "select * from t where id = 5 and n = '",
        "select * from t where id = 5 and n = ",
        "Select * from t where id = 5 and n = 'x'",
        "",
    ] {
        assert!(!matches(text), "{text}");
    }
}

#[test]
fn slots_that_are_none_are_left_out() {
    let slot = |start, end| Slot { start, end, kind: SlotKind::Number };
    assert!(Template::new("select 1, 2", &[slot(10, 11), slot(7, 8)]).is_none());
    assert!(Template::new("select 1", &[slot(7, 99)]).is_none());
    assert!(Template::new("select 1", &[slot(8, 7)]).is_none());
    assert!(Template::new("select a", &[]).is_none());
    let template = Template::new("select 1, a2", &[slot(7, 8), slot(11, 12)]).expect("one is left");
    assert!(template.matches("select 5, a2") && !template.matches("select 5, a3"));
}
