//! Texts that take a parser deep, long or far.

use std::{
    env,
    time::{Duration, Instant},
};

use chaperone_model::Rung;

use crate::{READS, meanwhile, readers};

/// Each ends as a reading or costs the process, and others are read. `SHOW=1` prints how.
pub(crate) async fn survived() {
    let readers = readers(READS, Duration::from_secs(2));
    let most = 256 << 10;
    let repeated = |begin: &str, part: &str, end: &str| {
        let count = (most - begin.len() - end.len()) / part.len();
        format!("{begin}{}{end}", part.repeat(count))
    };
    let nested = |begin: &str, open: &str, middle: &str, close: &str, count: usize| {
        format!("{begin}{}{middle}{}", open.repeat(count), close.repeat(count))
    };
    let texts = [
        repeated("select ", "1+", "1"),
        repeated("select ", "(", "1"),
        repeated("select ", "-", "1"),
        repeated("select ", "not ", "true"),
        repeated("select ", "[", "1"),
        repeated("", "/*", ""),
        repeated("", "/* ", ""),
        repeated("", "/*a", ""),
        repeated("", "'", ""),
        repeated("", "\"", ""),
        repeated("", "$$", ""),
        repeated("", "$a$", ""),
        repeated("", ";", ""),
        repeated("", "select 1;", ""),
        repeated("select ", "a,", "a"),
        repeated("select * from ", "a,", "a"),
        repeated("select 1", " union select 1", ""),
        repeated("values (1)", ",(1)", ""),
        repeated("select ", "case when ", "1"),
        repeated("select a", "::b", ""),
        repeated("select a", ".b", ""),
        repeated("select * from a", " join a on true", ""),
        repeated("with ", "a as (select 1),", "b as (select 1) select 1"),
        nested("select ", "(", "1", ")", most / 2 - 10),
        nested("select ", "f(", "1", ")", most / 3 - 10),
        nested("", "(select ", "1", ")", most / 9 - 10),
        nested("select * from ", "(", "a", ")", most / 2 - 10),
        nested("select ", "case when ", "true", " then 1 end", most / 21 - 10),
        nested("select ", "(", "1", ")", 40),
        nested("select ", "(", "1", ")", 200),
        nested("select ", "array[", "1", "]", 40),
        nested("select * from ", "(", "a", ")", 40),
        repeated("select ", "é", ""),
        repeated("select '", "x", "'"),
        repeated("select U&'", "\\0061", "'"),
        repeated("select ", "@", "1"),
        repeated("select ", "+-", "1"),
        repeated("select ", "9", ""),
        repeated("select ", " ", "1"),
        repeated("select 'a'", "\n'a'", ""),
        repeated("do $$", "begin ", "$$"),
        "x".repeat(most + 1),
    ];
    for (i, text) in texts.iter().enumerate() {
        let before = Instant::now();
        let (deaths, late) = (readers.stats().deaths.get(), readers.stats().deadlines.get());
        let reading = readers.read(text, "hostile").await;
        let after = before.elapsed();
        let lost = (readers.stats().deaths.get() - deaths, readers.stats().deadlines.get() - late);
        if env::var_os("SHOW").is_some() {
            let reason = reading.statements.first().map_or("", |statement| &statement.reason);
            println!("{:.24} {after:.2?} {:?} {lost:?} {reason:.60}", text, reading.rung());
        }
        readers.lay_out(text).await;
        assert_eq!(readers.read(&format!("select c{i}"), "other").await.rung(), Rung::Read);
    }
    meanwhile(&readers).await;
}
