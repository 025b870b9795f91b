//! What it costs to follow a conversation: messages and bytes a second, and allocations.
//!
//! `cargo bench -p chaperone-wire`. Figures of one run are for comparing with each other: `copy` is
//! what moving the same bytes costs without looking at them.

use std::{hint::black_box, time::Duration};

use chaperone_model::{Seq, Timestamp};
use chaperone_wire::postgres::{ClientStep, Conversation, Limits, Now, Rules, SigningOn};
use divan::{
    AllocProfiler, Bencher,
    counter::{BytesCount, ItemsCount},
};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const NOW: Now = Now { wall: Timestamp(0), monotonic: Duration::ZERO };

fn main() {
    divan::main();
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn row(columns: usize, value: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(columns).expect("few").to_be_bytes().to_vec();
    for _ in 0..columns {
        body.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
        body.extend(value);
    }
    message(b'D', &body)
}

/// A session whose client is signed on, and that keeps so many bytes of each response.
struct Session {
    conversation: Conversation,
    events: Vec<chaperone_wire::postgres::Event>,
    seq: u64,
}

impl Session {
    fn new(response: usize) -> Self {
        let limits = Limits { message: 8 << 20, response, parameters: 16 << 10 };
        let rules = Rules { sign_on: SigningOn::Relayed, replication: false };
        let conversation = Conversation::new(limits, rules);
        let mut session = Self { conversation, events: Vec::new(), seq: 0 };
        session.server(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
        session
    }

    fn client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = match self.conversation.client(bytes).expect("no violation") {
                ClientStep::Pass(count) => count,
                ClientStep::Command { length, command, .. } => {
                    black_box(command);
                    self.conversation.allowed(<_>::default());
                    self.seq += 1;
                    self.conversation.recorded([Seq(self.seq)], NOW, &mut self.events);
                    length
                }
                other => panic!("{other:?}"),
            };
            bytes = &bytes[count..];
        }
    }

    fn server(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let step = self.conversation.server(bytes, NOW, &mut self.events).expect("in step");
            assert!(step.replace.is_none() && step.pass > 0);
            bytes = &bytes[step.pass..];
        }
        for event in self.events.drain(..) {
            black_box(event);
        }
    }
}

/// A prepared statement is run and answers one row of one number: what `pgbench -S -M prepared`
/// does.
#[divan::bench]
fn prepared(bencher: Bencher<'_, '_>) {
    let mut session = Session::new(64 << 10);
    session.client(
        &[message(b'P', b"s\0SELECT abalance FROM a WHERE aid = $1\0\0\0"), message(b'S', b"")]
            .concat(),
    );
    session.server(&[message(b'1', b""), message(b'Z', b"I")].concat());
    let asked = [
        message(b'B', b"\0s\0\0\0\0\x01\0\0\0\x0512345\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
    .concat();
    let answered =
        [message(b'2', b""), row(1, b"0"), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")]
            .concat();
    bencher
        .counter(ItemsCount::new(7_u32))
        .counter(BytesCount::new(asked.len() + answered.len()))
        .bench_local(|| {
            session.client(&asked);
            session.server(&answered);
        });
}

/// A simple query that answers one row.
#[divan::bench]
fn simple(bencher: Bencher<'_, '_>) {
    let mut session = Session::new(64 << 10);
    let asked = message(b'Q', b"SELECT abalance FROM a WHERE aid = 12345\0");
    let columns =
        message(b'T', b"\0\x01abalance\0\0\0\0\x01\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
    let answered =
        [columns, row(1, b"0"), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    bencher
        .counter(ItemsCount::new(5_u32))
        .counter(BytesCount::new(asked.len() + answered.len()))
        .bench_local(|| {
            session.client(&asked);
            session.server(&answered);
        });
}

/// Rows beyond what is kept, 64 KiB at a time: nothing is decoded.
#[divan::bench]
fn rows(bencher: Bencher<'_, '_>) {
    let mut session = Session::new(0);
    session.client(&message(b'Q', b"SELECT * FROM t\0"));
    session.server(&message(b'T', b"\0\0"));
    let one = row(8, b"sixteen letters!");
    let count = (64 << 10) / one.len();
    let rows = one.repeat(count);
    bencher
        .counter(ItemsCount::new(count))
        .counter(BytesCount::new(rows.len()))
        .bench_local(|| session.server(&rows));
}

/// Rows that are kept as JSON.
#[divan::bench]
fn rows_kept(bencher: Bencher<'_, '_>) {
    let one = row(8, b"sixteen letters!");
    let count = (64 << 10) / one.len();
    let rows = one.repeat(count);
    bencher
        .counter(ItemsCount::new(count))
        .counter(BytesCount::new(rows.len()))
        .with_inputs(|| {
            let mut session = Session::new(1 << 20);
            session.client(&message(b'Q', b"SELECT * FROM t\0"));
            session.server(&message(b'T', b"\0\0"));
            session
        })
        .bench_local_values(|mut session| {
            session.server(&rows);
            session
        });
}

/// The same bytes, moved once and not looked at.
#[divan::bench]
fn copy(bencher: Bencher<'_, '_>) {
    let from = vec![1_u8; 64 << 10];
    let mut to = vec![0_u8; 64 << 10];
    bencher.counter(BytesCount::new(from.len())).bench_local(|| {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    });
}
