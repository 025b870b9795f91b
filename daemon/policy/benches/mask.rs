//! What it costs to look for secrets in a text, and to mask one value.
//!
//! `cargo bench -p chaperone-policy --bench mask`

use std::fmt::Write;

use chaperone_policy::mask::{Detectors, Form, Format, Keep, Key, Scanner};
use divan::{Bencher, black_box, counter::BytesCount};

fn main() {
    divan::main();
}

const SIZE: usize = 1024 * 1024;

fn repeated(text: &str) -> String {
    let mut out = String::with_capacity(SIZE + text.len());
    let mut number = 0_u64;
    while out.len() < SIZE {
        let _ = writeln!(out, "{number} {text}");
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    out
}

const PROSE: &str = "The quick brown fox, who had seen better days, went to the market (on a Tuesday) \
    and bought: bread, cheese; some 'wine'. It cost about as much as last week, he thought.";
const LOG: &str = "2024-05-06T07:08:09.123456Z INFO worker{id=17}: finished job 550e8400-e29b-41d4-a716-\
    446655440000 in 12.5 ms, 3 rows, path=/srv/app/releases/2024/current.tar.gz status=200";
const ROWS: &str =
    ",Widget,19.99,2024-05-06 07:08:09+00,true,ORD-20240506-1234,in stock,\"blue, large\",,42";
const HITS: &str = "ada@example.com 4111 1111 1111 1111 219-09-9999 DE89370400440532013000 +14155552671 \
    10.0.0.1 2001:db8::1 AKIAIOSFODNN7EXAMPLE";

fn find(bencher: Bencher<'_, '_>, text: &str) {
    let text = repeated(text);
    bencher
        .counter(BytesCount::of_slice(text.as_bytes()))
        .bench(|| Detectors::all().find(black_box(text.as_bytes())).len());
}

#[divan::bench]
fn all_in_prose(bencher: Bencher<'_, '_>) {
    find(bencher, PROSE);
}

#[divan::bench]
fn all_in_a_log(bencher: Bencher<'_, '_>) {
    find(bencher, LOG);
}

#[divan::bench]
fn all_in_rows(bencher: Bencher<'_, '_>) {
    find(bencher, ROWS);
}

#[divan::bench]
fn all_in_hits(bencher: Bencher<'_, '_>) {
    find(bencher, HITS);
}

#[divan::bench]
fn all_in_values_of_a_row(bencher: Bencher<'_, '_>) {
    let text = repeated(ROWS);
    let values: Vec<&[u8]> = text.split([',', '\n']).map(str::as_bytes).collect();
    bencher.counter(BytesCount::of_slice(text.as_bytes())).bench(|| {
        let find = |value: &&[u8]| Detectors::all().find(value).len();
        black_box(&values).iter().map(find).sum::<usize>()
    });
}

#[divan::bench]
fn all_in_a_log_by_pieces_of_16_kib(bencher: Bencher<'_, '_>) {
    let text = repeated(LOG);
    let mut out = Vec::with_capacity(2 * SIZE);
    bencher.counter(BytesCount::of_slice(text.as_bytes())).bench_local(|| {
        let mut scanner = Scanner::new(Detectors::all(), Form::Null, None);
        out.clear();
        for piece in text.as_bytes().chunks(16 * 1024) {
            scanner.push(piece, &mut out);
        }
        scanner.finish(&mut out);
        out.len()
    });
}

fn value(bencher: Bencher<'_, '_>, form: &Form, oid: u32, format: Format, value: &[u8]) {
    let key = Key::new(&[7; 32]).expect("is long enough");
    let mut out = Vec::with_capacity(256);
    bencher.bench_local(|| {
        out.clear();
        form.apply(Some(&key), oid, format, black_box(value), &mut out)
    });
}

#[divan::bench]
fn partial_of_a_text(bencher: Bencher<'_, '_>) {
    value(bencher, &Form::Partial(Keep::Last(4)), 25, Format::Text, b"ada.lovelace@example.com");
}

#[divan::bench]
fn pseudonym_of_a_text(bencher: Bencher<'_, '_>) {
    value(bencher, &Form::Pseudonym("p_".into()), 25, Format::Text, b"ada.lovelace@example.com");
}

#[divan::bench]
fn pseudonym_of_an_int8(bencher: Bencher<'_, '_>) {
    value(bencher, &Form::Pseudonym("p_".into()), 20, Format::Binary, &[1, 2, 3, 4, 5, 6, 7, 8]);
}

#[divan::bench]
fn year_of_a_timestamp(bencher: Bencher<'_, '_>) {
    value(bencher, &Form::Year, 1184, Format::Binary, &700_000_000_000_000_i64.to_be_bytes());
}
