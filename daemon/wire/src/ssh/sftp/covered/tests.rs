//! Reads that are masked, with servers of every kind.

use std::sync::Arc;

use crate::ssh::{
    cover::{Cover as _, tests::Hashes},
    sftp::{ClientStep, Event, Outcome, Sftp},
};

fn word(value: usize) -> [u8; 4] {
    u32::try_from(value).expect("short").to_be_bytes()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&word(bytes.len())[..], bytes].concat()
}

fn packet(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&word(body.len() + 1)[..], &[kind], &body].concat()
}

/// A client, the reader, and a server with one file, which gives at most so many bytes at a time.
struct Scene {
    sftp: Sftp,
    content: Vec<u8>,
    most: usize,
    /// What the reader asked of the server.
    asked: Vec<(u64, u32)>,
    events: Vec<Event>,
    /// What the client was told.
    down: Vec<u8>,
}

impl Scene {
    fn new(content: &[u8], most: usize) -> Self {
        let mut sftp = Sftp::new();
        sftp.cover(Arc::new(Hashes));
        let content = content.to_vec();
        let mut scene =
            Self { sftp, content, most, asked: Vec::new(), events: Vec::new(), down: Vec::new() };
        scene.client(&packet(1, &[&word(3)]));
        scene.server(&packet(2, &[&word(3)]));
        scene.client(&packet(3, &[&word(0), &string(b"/f"), &word(1), &word(0)]));
        scene.server(&packet(102, &[&word(0), &string(b"h")]));
        scene.down.clear();
        scene
    }

    fn client(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.sftp.client(rest).expect("right") {
                ClientStep::Pass(count) => rest = &rest[count..],
                ClientStep::Command { length, .. } => {
                    self.sftp.allowed();
                    rest = &rest[length..];
                }
                ClientStep::Instead(length, instead) => {
                    assert_eq!(instead.len(), length, "windows stay as they are");
                    rest = &rest[length..];
                    self.answer(&instead);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn server(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let step = self.sftp.server(rest, &mut self.events).expect("right");
            self.down.extend(&rest[..step.pass]);
            self.down.extend(&step.insert);
            rest = &rest[step.pass + step.discard..];
            if !step.ask.is_empty() {
                self.answer(&step.ask);
            }
            if step.need > 0 {
                assert!(rest.is_empty());
                return;
            }
        }
    }

    /// The server reads.
    fn answer(&mut self, ask: &[u8]) {
        let id: [u8; 4] = ask[5..9].try_into().expect("a number");
        let offset = u64::from_be_bytes(ask[14..22].try_into().expect("an offset"));
        let length = u32::from_be_bytes(ask[22..26].try_into().expect("a length"));
        self.asked.push((offset, length));
        let from = usize::try_from(offset).expect("near").min(self.content.len());
        let count = (length as usize).min(self.most).min(self.content.len() - from);
        let answer = if count == 0 {
            packet(101, &[&id, &word(1), &string(b"EOF"), &string(b"")])
        } else {
            packet(103, &[&id, &string(&self.content[from..from + count])])
        };
        // In pieces.
        let (first, second) = answer.split_at(answer.len() / 2);
        let mut bytes = first.to_vec();
        let step = self.sftp.server(&bytes, &mut self.events).expect("right");
        assert_eq!((step.pass, step.discard), (0, 0));
        bytes.extend(second);
        self.server(&bytes);
    }

    /// Reads as a client does; `None` at the end of the file.
    fn read(&mut self, offset: usize, length: usize) -> Option<Vec<u8>> {
        let offset = (offset as u64).to_be_bytes();
        self.client(&packet(5, &[&word(7), &string(b"h"), &offset, &word(length)]));
        let answer = std::mem::take(&mut self.down);
        match answer[4] {
            103 => {
                assert_eq!(
                    answer.len(),
                    13 + usize::from_be_bytes([
                        0, 0, 0, 0, answer[9], answer[10], answer[11], answer[12]
                    ])
                );
                Some(answer[13..].to_vec())
            }
            101 => {
                assert_eq!(answer[9..13], word(1));
                None
            }
            other => panic!("{other}"),
        }
    }
}

const TEXT: &[u8] = b"a#secret#bcdefghijkl#a#mnopqrstuvwxyz and more of it #end# #not ended";

#[test]
fn p5_a_read_is_masked_as_in_the_whole_file_wherever_it_begins_and_ends() {
    let mut whole = TEXT.to_vec();
    Hashes.cover(&mut whole, 0..0);
    for most in [1, 3, 7, 1000] {
        let mut scene = Scene::new(TEXT, most);
        for offset in 0..TEXT.len() {
            for length in [1, 2, 5, 9, 200] {
                let until = (offset + length).min(TEXT.len());
                let read = scene.read(offset, length);
                assert_eq!(
                    read.as_deref(),
                    Some(&whole[offset..until]),
                    "{most} {offset} {length}"
                );
            }
        }
        for offset in [TEXT.len(), TEXT.len() + 5, TEXT.len() + 500] {
            assert_eq!(scene.read(offset, 10), None);
        }
    }
}

#[test]
fn p4_a_file_that_is_read_in_order_is_read_whole_and_counted_once() {
    let mut scene = Scene::new(TEXT, 1000);
    let mut whole = TEXT.to_vec();
    let found = Hashes.cover(&mut whole, 0..TEXT.len());
    let mut got = Vec::new();
    while let Some(part) = scene.read(got.len(), 10) {
        got.extend(part);
    }
    assert_eq!(got, whole);
    scene.client(&packet(4, &[&word(8), &string(b"h")]));
    scene.server(&packet(101, &[&word(8), &word(0), &string(b""), &string(b"")]));
    let [Event::Done { outcome: Outcome::File(file), .. }] = scene.events.as_slice() else {
        panic!("{:?}", scene.events)
    };
    let read = file.read.expect("it was read");
    let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&whole).into();
    assert_eq!((read.bytes, read.sha256), (TEXT.len() as u64, Ok(hash)));
    assert_eq!(file.masked, found);
}

#[test]
fn p8_what_is_read_at_a_time_is_bounded() {
    let mut scene = Scene::new(&vec![b'x'; 600_000], 1 << 20);
    let got = scene.read(100_000, 400_000).expect("data");
    assert_eq!(got.len(), 256 * 1024);
    assert_eq!(scene.asked, [(100_000 - 8, 256 * 1024 + 16)]);
    // At the end of all numbers.
    assert_eq!(scene.read(usize::MAX, 10), None);
}

#[test]
fn an_error_of_the_servers_is_told_as_it_is() {
    let mut scene = Scene::new(TEXT, 10);
    let offset = 0_u64.to_be_bytes();
    let asks = packet(5, &[&word(7), &string(b"h"), &offset, &word(20)]);
    let ClientStep::Instead(..) = scene.sftp.client(&asks).expect("right") else { panic!() };
    let failure = packet(101, &[&word(7), &word(4), &string(b"broken"), &string(b"")]);
    scene.server(&failure);
    assert_eq!(scene.down, failure);
    // More than was asked for.
    let ClientStep::Instead(..) = scene.sftp.client(&asks).expect("right") else { panic!() };
    let more = packet(103, &[&word(7), &string(&[0; 100])]);
    assert!(scene.sftp.server(&more, &mut scene.events).is_err());
}

#[test]
fn p5_a_file_is_not_closed_while_the_server_may_be_asked_for_more_of_it() {
    let mut sftp = Sftp::new();
    sftp.cover(Arc::new(Hashes));
    let mut events = Vec::new();
    sftp.client(&packet(1, &[&word(3)])).expect("right");
    sftp.server(&packet(2, &[&word(3)]), &mut events).expect("right");
    sftp.client(&packet(3, &[&word(0), &string(b"/f"), &word(1), &word(0)])).expect("right");
    sftp.allowed();
    sftp.server(&packet(102, &[&word(0), &string(b"h")]), &mut events).expect("right");
    let read = packet(5, &[&word(7), &string(b"h"), &[0; 8], &word(4)]);
    assert!(matches!(sftp.client(&read), Ok(ClientStep::Instead(..))));
    let close = packet(4, &[&word(8), &string(b"h")]);
    assert_eq!(sftp.client(&close), Ok(ClientStep::Wait));
    // Less than was asked for: more is.
    let step = sftp.server(&packet(103, &[&word(7), &string(b"ab")]), &mut events).expect("right");
    assert!(!step.ask.is_empty());
    assert_eq!(sftp.client(&close), Ok(ClientStep::Wait));
    let end = packet(101, &[&word(7), &word(1), &string(b""), &string(b"")]);
    sftp.server(&end, &mut events).expect("right");
    assert_eq!(sftp.client(&close), Ok(ClientStep::Pass(close.len())));
}

#[test]
fn p5_no_parts_of_a_file_are_made_at_the_target() {
    let mut scene = Scene::new(b"0123456789", 100);
    let objects = |scene: &mut Scene, bytes: &[u8]| {
        let step = scene.sftp.client(bytes).expect("right");
        let ClientStep::Command { objection, .. } = step else { panic!("{step:?}") };
        scene.sftp.refused("no");
        scene.server(b"");
        objection.is_some()
    };
    let copy = |length: u64| {
        let eight = |value: u64| value.to_be_bytes();
        let handle = string(b"h");
        let parts: [&[u8]; 7] = [
            &word(9),
            &string(b"copy-data"),
            &handle,
            &eight(0),
            &eight(length),
            &handle,
            &eight(0),
        ];
        packet(200, &parts)
    };
    assert!(objects(&mut scene, &copy(8)));
    let cut = |size: u64| packet(10, &[&word(9), &string(b"h"), &word(1), &size.to_be_bytes()]);
    assert!(objects(&mut scene, &cut(8)));
    assert!(!objects(&mut scene, &cut(0)));
}
