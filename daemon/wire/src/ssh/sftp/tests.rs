//! One channel, from both sides.

use chaperone_model::Rung;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{
    Attributes, ClientStep, Closed, Event, FileOutcome, OpenFlags, Operation, Outcome, ServerStep,
    Sftp, Status, Violation,
};
use crate::ssh::{Content, Unhashed};

fn word(value: u32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

fn long(value: u64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [word(u32::try_from(bytes.len()).expect("short")), bytes.to_vec()].concat()
}

fn packet(kind: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    [word(u32::try_from(body.len() + 1).expect("short")), vec![kind], body].concat()
}

fn open(id: u32, path: &[u8], flags: u32) -> Vec<u8> {
    packet(3, &[word(id), string(path), word(flags), word(0)])
}

fn read(id: u32, handle: &[u8], offset: u64, length: u32) -> Vec<u8> {
    packet(5, &[word(id), string(handle), long(offset), word(length)])
}

fn write(id: u32, handle: &[u8], offset: u64, data: &[u8]) -> Vec<u8> {
    packet(6, &[word(id), string(handle), long(offset), string(data)])
}

fn close(id: u32, handle: &[u8]) -> Vec<u8> {
    packet(4, &[word(id), string(handle)])
}

fn extended(id: u32, name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    packet(200, &[word(id), string(name.as_bytes()), parts.concat()])
}

fn handle(id: u32, handle: &[u8]) -> Vec<u8> {
    packet(102, &[word(id), string(handle)])
}

fn data(id: u32, data: &[u8]) -> Vec<u8> {
    packet(103, &[word(id), string(data)])
}

fn status(id: u32, code: u32, message: &[u8]) -> Vec<u8> {
    packet(101, &[word(id), word(code), string(message), string(b"")])
}

fn ok() -> Status {
    Status { code: 0, message: Vec::new() }
}

/// A channel, and what passed.
#[derive(Default)]
struct Channel {
    sftp: Sftp,
    up: Vec<u8>,
    down: Vec<u8>,
    events: Vec<Event>,
    operations: Vec<Operation>,
    refuse: bool,
}

impl Channel {
    fn ready() -> Self {
        let mut channel = Self::default();
        channel.client(&packet(1, &[word(3)])).expect("INIT");
        let extension = [string(b"posix-rename@openssh.com"), string(b"1")].concat();
        channel.server(&packet(2, &[word(3), extension])).expect("VERSION");
        channel.up.clear();
        channel.down.clear();
        channel
    }

    fn refusing() -> Self {
        Self { refuse: true, ..Self::ready() }
    }

    /// All of it must be dealt with.
    fn client(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut rest = bytes;
        loop {
            match self.sftp.client(rest)? {
                ClientStep::Need(_) => {
                    assert!(rest.is_empty(), "{rest:?} is left over");
                    return Ok(());
                }
                ClientStep::Wait => {
                    assert!(rest.is_empty(), "it waits");
                    return Ok(());
                }
                ClientStep::Pass(count) => {
                    self.up.extend(&rest[..count]);
                    rest = &rest[count..];
                }
                ClientStep::Discard(count) => rest = &rest[count..],
                ClientStep::Instead(..) => unreachable!("nothing is masked"),
                ClientStep::Command { length, operation, objection, .. } => {
                    self.operations.push(operation);
                    if let Some(why) = objection {
                        self.sftp.refused(why);
                    } else if self.refuse {
                        self.sftp.refused("not allowed here");
                    } else {
                        self.sftp.allowed();
                        self.up.extend(&rest[..length]);
                    }
                    rest = &rest[length..];
                }
            }
        }
    }

    fn server(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut rest = bytes;
        loop {
            let step = self.sftp.server(rest, &mut self.events)?;
            self.down.extend(&rest[..step.pass]);
            self.down.extend(&step.insert);
            rest = &rest[step.pass..];
            if step.need > 0 {
                assert!(rest.is_empty(), "{rest:?} is left over");
                return Ok(());
            }
        }
    }

    fn one(&self) -> &Outcome {
        let [Event::Done { outcome, .. }] = self.events.as_slice() else {
            panic!("{:?}", self.events);
        };
        outcome
    }

    fn file(&self) -> &FileOutcome {
        let Outcome::File(file) = self.one() else { panic!("{:?}", self.one()) };
        file
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[test]
fn p1_a_file_that_is_written_is_a_command_with_the_hash_of_what_was_written() {
    let mut channel = Channel::ready();
    channel.client(&open(1, b"/srv/a", 0x1a)).expect("open");
    channel.server(&handle(1, b"h")).expect("handle");
    let writes = [write(2, b"h", 0, b"hello "), write(3, b"h", 6, b"world")].concat();
    channel.client(&writes).expect("writes");
    channel.client(&close(4, b"h")).expect("close");
    // Answers come in any order.
    let answers = [status(3, 0, b""), status(4, 0, b""), status(2, 0, b"")].concat();
    channel.server(&answers[..answers.len() - 21]).expect("answers");
    assert_eq!(channel.events, [], "one write has no answer yet");
    channel.server(&answers[answers.len() - 21..]).expect("answers");
    let flags = OpenFlags { write: true, create: true, truncate: true, ..OpenFlags::default() };
    let attributes = Attributes::default();
    assert_eq!(
        channel.operations,
        [Operation::Open { path: b"/srv/a".to_vec(), flags, attributes }]
    );
    let written = Some(Content { bytes: 11, sha256: Ok(hash(b"hello world")) });
    let closed = Closed::Status(ok());
    assert_eq!(
        channel.file(),
        &FileOutcome { read: None, written, failure: None, masked: Vec::new(), closed }
    );
    assert_eq!(channel.down, [handle(1, b"h"), answers].concat());
    assert_eq!(channel.sftp.counts().writes, 2);
}

#[test]
fn p1_a_file_that_is_read_is_a_command_with_the_hash_of_what_was_read() {
    let mut channel = Channel::ready();
    channel.client(&open(1, b"a", 0x1)).expect("open");
    channel.server(&handle(1, b"\0\0\0\0")).expect("handle");
    for (id, offset) in [(2, 0), (3, 3), (4, 6)] {
        channel.client(&read(id, b"\0\0\0\0", offset, 3)).expect("read");
    }
    let answers = [data(2, b"abc"), data(3, b"de"), status(4, 1, b"end of file")].concat();
    channel.server(&answers).expect("answers");
    channel.client(&close(5, b"\0\0\0\0")).expect("close");
    channel.server(&status(5, 0, b"")).expect("close");
    assert_eq!(channel.file().read, Some(Content { bytes: 5, sha256: Ok(hash(b"abcde")) }));
    assert_eq!(channel.file().written, None);
}

#[test]
fn what_passed_out_of_order_has_no_hash_and_says_so() {
    let mut channel = Channel::ready();
    channel.client(&open(1, b"a", 0x3)).expect("open");
    channel.server(&handle(1, b"h")).expect("handle");
    channel.client(&read(2, b"h", 0, 9)).expect("read");
    channel.client(&read(3, b"h", 9, 9)).expect("read");
    channel.server(&data(2, b"short")).expect("data");
    channel.server(&data(3, b"rest")).expect("data");
    channel.client(&write(4, b"h", 0, b"ab")).expect("write");
    channel.server(&status(4, 4, b"disk full")).expect("status");
    channel.client(&close(5, b"h")).expect("close");
    channel.server(&status(5, 0, b"")).expect("status");
    let file = channel.file();
    assert_eq!(file.read, Some(Content { bytes: 9, sha256: Err(Unhashed::OutOfOrder) }));
    assert_eq!(file.written, Some(Content { bytes: 0, sha256: Err(Unhashed::Failed) }));
    assert_eq!(file.failure, Some(Status { code: 4, message: b"disk full".to_vec() }));
}

#[test]
fn what_is_appended_is_hashed_in_the_order_of_its_sending() {
    let mut channel = Channel::ready();
    channel.client(&open(1, b"a", 0x6)).expect("open");
    channel.server(&handle(1, b"h")).expect("handle");
    let writes = [write(2, b"h", 100, b"ab"), write(3, b"h", 100, b"cd"), close(4, b"h")];
    channel.client(&writes.concat()).expect("writes");
    let answers = [status(2, 0, b""), status(3, 0, b""), status(4, 0, b"")];
    channel.server(&answers.concat()).expect("answers");
    assert_eq!(channel.file().written, Some(Content { bytes: 4, sha256: Ok(hash(b"abcd")) }));
}

#[test]
fn a_length_that_is_set_to_what_was_written_changes_nothing() {
    for (size, expected) in
        [(4, Ok(hash(b"abcd"))), (3, Err(Unhashed::Resized)), (5, Err(Unhashed::Resized))]
    {
        let mut channel = Channel::ready();
        channel.client(&open(1, b"a", 0x1a)).expect("open");
        channel.server(&handle(1, b"h")).expect("handle");
        channel.client(&write(2, b"h", 0, b"abcd")).expect("write");
        channel.server(&status(2, 0, b"")).expect("status");
        let set = packet(10, &[word(3), string(b"h"), word(1), long(size)]);
        channel.client(&set).expect("allowed");
        channel.server(&status(3, 0, b"")).expect("status");
        channel.client(&close(4, b"h")).expect("close");
        channel.events.clear();
        channel.server(&status(4, 0, b"")).expect("status");
        assert_eq!(channel.file().written, Some(Content { bytes: 4, sha256: expected }), "{size}");
    }
}

#[test]
fn what_changes_a_file_beside_its_bytes_takes_the_hash_away() {
    let copy = extended(2, "copy-data", &[string(b"h"), long(0), long(0), string(b"h"), long(9)]);
    let cut = packet(10, &[word(2), string(b"h"), word(1), long(3)]);
    let unknown = extended(2, "check-file@example.org", &[]);
    for (request, why) in
        [(copy, Unhashed::Copied), (cut, Unhashed::Resized), (unknown, Unhashed::Extension)]
    {
        let mut channel = Channel::ready();
        channel.client(&open(1, b"a", 0x3)).expect("open");
        channel.server(&handle(1, b"h")).expect("handle");
        channel.client(&request).expect("allowed");
        channel.server(&status(2, 0, b"")).expect("status");
        channel.client(&close(3, b"h")).expect("close");
        channel.server(&status(3, 0, b"")).expect("status");
        assert_eq!(channel.operations.len(), 2);
        let Event::Done { outcome: Outcome::File(file), command: 0 } = &channel.events[1] else {
            panic!("{:?}", channel.events);
        };
        assert_eq!(file.written.expect("opened for it").sha256, Err(why));
    }
}

#[test]
fn p1_each_operation_is_a_command_with_its_paths() {
    let (a, b) = (b"/a".to_vec(), b"/\xff b".to_vec());
    let none = word(0);
    let default = Attributes::default();
    let mode = [word(0x4), word(0o644)].concat();
    let permissions = Attributes { permissions: Some(0o644), ..default };
    let setuid = [word(0x4), word(0o4755)].concat();
    let owner = [word(0x2), word(0), word(7)].concat();
    let times = [word(0x8), word(1), word(2)].concat();
    let set =
        |attributes, follows| Operation::SetAttributes { path: a.clone(), attributes, follows };
    let cases: Vec<(Vec<u8>, Operation, Rung)> = vec![
        (
            packet(11, &[word(1), string(&b)]),
            Operation::OpenDirectory { path: b.clone() },
            Rung::Read,
        ),
        (
            packet(13, &[word(1), string(&a)]),
            Operation::Remove { path: a.clone() },
            Rung::Destructive,
        ),
        (
            packet(14, &[word(1), string(&a), none]),
            Operation::MakeDirectory { path: a.clone(), attributes: default },
            Rung::Write,
        ),
        (
            packet(15, &[word(1), string(&a)]),
            Operation::RemoveDirectory { path: a.clone() },
            Rung::Destructive,
        ),
        (
            packet(18, &[word(1), string(&a), string(&b)]),
            Operation::Rename { from: a.clone(), to: b.clone(), replaces: false },
            Rung::Write,
        ),
        (
            extended(1, "posix-rename@openssh.com", &[string(&a), string(&b)]),
            Operation::Rename { from: a.clone(), to: b.clone(), replaces: true },
            Rung::Write,
        ),
        (
            extended(1, "hardlink@openssh.com", &[string(&a), string(&b)]),
            Operation::Hardlink { from: a.clone(), to: b.clone() },
            Rung::Write,
        ),
        (
            packet(20, &[word(1), string(&a), string(&b)]),
            Operation::Symlink { target: a.clone(), link: b.clone() },
            Rung::Write,
        ),
        (packet(19, &[word(1), string(&a)]), Operation::ReadLink { path: a.clone() }, Rung::Read),
        (packet(9, &[word(1), string(&a), mode.clone()]), set(permissions, true), Rung::Write),
        (
            extended(1, "lsetstat@openssh.com", &[string(&a), mode]),
            set(permissions, false),
            Rung::Write,
        ),
        (
            packet(9, &[word(1), string(&a), setuid]),
            set(Attributes { permissions: Some(0o4755), ..default }, true),
            Rung::Destructive,
        ),
        (
            packet(9, &[word(1), string(&a), owner]),
            set(Attributes { owner: Some((0, 7)), ..default }, true),
            Rung::Destructive,
        ),
        (
            packet(9, &[word(1), string(&a), times]),
            set(Attributes { times: Some((1, 2)), ..default }, true),
            Rung::Write,
        ),
        (
            packet(9, &[word(1), string(&a), word(1), long(0)]),
            set(Attributes { size: Some(0), ..default }, true),
            Rung::Destructive,
        ),
        (
            extended(1, "md5-hash", &[string(b"/x")]),
            Operation::Extension { name: b"md5-hash".to_vec(), data: string(b"/x") },
            Rung::Destructive,
        ),
    ];
    for (bytes, operation, rung) in cases {
        let mut channel = Channel::ready();
        channel.client(&bytes).expect("allowed");
        assert_eq!(channel.operations, std::slice::from_ref(&operation));
        assert_eq!(operation.rung().0, rung, "{operation}");
        assert_eq!(channel.up, bytes);
        assert!(operation.to_string().starts_with(operation.name()));
        let mut refusing = Channel::refusing();
        refusing.client(&bytes).expect("refused");
        assert_eq!(refusing.up, b"");
        channel.server(&status(1, 4, b"Failure")).expect("answered");
        let failed = Status { code: 4, message: b"Failure".to_vec() };
        assert_eq!(channel.one(), &Outcome::Status(failed));
    }
}

#[test]
fn what_only_looks_passes_and_is_counted() {
    let mut channel = Channel::refusing();
    let requests = [
        packet(17, &[word(1), string(b"/a")]),
        packet(7, &[word(2), string(b"/a")]),
        packet(16, &[word(3), string(b".")]),
        extended(4, "statvfs@openssh.com", &[string(b"/")]),
        extended(5, "limits@openssh.com", &[]),
        extended(6, "expand-path@openssh.com", &[string(b"~")]),
        extended(7, "home-directory", &[string(b"x")]),
        extended(8, "users-groups-by-id@openssh.com", &[string(b""), string(b"")]),
    ]
    .concat();
    channel.client(&requests).expect("pass");
    assert_eq!(channel.up, requests);
    assert_eq!(channel.operations, []);
    assert_eq!(channel.sftp.counts().looks, 8);
    let answers = [
        packet(105, &[word(1), word(0)]),
        status(2, 2, b"no"),
        packet(104, &[word(3), word(1), string(b"/r"), string(b"/r"), word(0)]),
        packet(201, &[word(4), long(1)]),
        packet(201, &[word(5), long(1)]),
    ]
    .concat();
    channel.server(&answers).expect("answers");
    assert_eq!(channel.down, answers);
}

#[test]
fn p1_a_refusal_does_not_go_on_and_is_told_between_two_packets() {
    let mut channel = Channel::ready();
    channel.client(&open(1, b"/a", 0x1)).expect("open");
    channel.server(&handle(1, b"h")).expect("handle");
    channel.client(&read(2, b"h", 0, 10)).expect("read");
    let answer = data(2, b"0123456789");
    channel.server(&answer[..16]).expect("a part");
    channel.up.clear();
    channel.refuse = true;
    channel.client(&packet(13, &[word(7), string(b"/etc/passwd")])).expect("remove");
    assert_eq!(channel.up, b"");
    // In the middle of a packet nothing is put.
    let step = channel.sftp.server(&[], &mut channel.events).expect("nothing");
    assert_eq!(step, ServerStep { need: 1, ..ServerStep::default() });
    channel.down.clear();
    channel.server(&[&answer[16..], &status(99, 0, b"")].concat()).expect_err("unasked");
    assert_eq!(
        channel.down,
        [&answer[16..], &status(7, Status::PERMISSION_DENIED, b"not allowed here")].concat()
    );
}

#[test]
fn p1_a_refusal_is_told_though_the_server_says_nothing() {
    let mut channel = Channel::refusing();
    channel.client(&open(7, b"/etc/shadow", 0x1)).expect("open");
    channel.server(&[]).expect("nothing");
    assert_eq!(channel.down, status(7, 3, b"not allowed here"));
    assert_eq!(channel.events, []);
    // The number is free again.
    channel.client(&open(7, b"/etc/shadow", 0x1)).expect("open");
}

#[test]
fn p1_what_is_asked_of_a_guessed_handle_does_not_go_on() {
    let mut channel = Channel::ready();
    channel.client(&open(1, b"/a", 0x3)).expect("open");
    let guesses = [
        write(2, b"\0\0\0\0", 0, b"data"),
        read(3, b"\0\0\0\0", 0, 9),
        close(4, b"\0\0\0\0"),
        packet(10, &[word(5), string(b"\0\0\0\0"), word(1), long(0)]),
        packet(12, &[word(6), string(b"\0\0\0\0")]),
        packet(8, &[word(7), string(b"\0\0\0\0")]),
        write(8, b"\0\0\0\0", 0, b""),
    ];
    channel.up.clear();
    channel.client(&guesses.concat()).expect("answered here");
    assert_eq!(channel.up, b"");
    channel.server(&handle(1, b"\0\0\0\0")).expect("handle");
    let answers: Vec<u8> =
        (2..=8).flat_map(|id| status(id, Status::FAILURE, b"no such handle is open")).collect();
    assert_eq!(channel.down, [answers, handle(1, b"\0\0\0\0")].concat());
    // Closed is closed, though the server has not said so.
    channel.client(&close(9, b"\0\0\0\0")).expect("close");
    channel.up.clear();
    channel.client(&write(10, b"\0\0\0\0", 0, b"data")).expect("answered here");
    assert_eq!(channel.up, b"");
}

#[test]
fn a_folder_tells_how_many_names_were_listed() {
    let mut channel = Channel::ready();
    channel.client(&packet(11, &[word(1), string(b"/")])).expect("opendir");
    channel.server(&handle(1, b"d")).expect("handle");
    channel.client(&packet(12, &[word(2), string(b"d")])).expect("readdir");
    let name = [string(b"x"), string(b"-rw x"), word(0)].concat();
    channel.server(&packet(104, &[word(2), word(2), name.clone(), name])).expect("names");
    channel.client(&packet(12, &[word(3), string(b"d")])).expect("readdir");
    channel.server(&status(3, 1, b"")).expect("end");
    channel.client(&close(4, b"d")).expect("close");
    channel.server(&packet(101, &[word(4), word(0)])).expect("a status without words");
    assert_eq!(channel.one(), &Outcome::Listed { entries: 2, closed: Closed::Status(ok()) });
}

#[test]
fn an_open_that_fails_is_told_at_once() {
    let mut channel = Channel::ready();
    channel.client(&open(1, b"/x", 0x1)).expect("open");
    channel.server(&status(1, 2, b"No such file")).expect("status");
    let status = Status { code: 2, message: b"No such file".to_vec() };
    assert_eq!(channel.one(), &Outcome::Status(status));
}

#[test]
fn the_end_of_the_channel_tells_what_is_open() {
    let mut channel = Channel::ready();
    channel.client(&open(1, b"/x", 0x2)).expect("open");
    channel.server(&handle(1, b"h")).expect("handle");
    channel.client(&open(2, b"/y", 0x1)).expect("open");
    channel.client(&packet(13, &[word(3), string(b"/z")])).expect("remove");
    channel.client(&write(4, b"h", 0, b"abc")).expect("write");
    let events = channel.sftp.finish();
    let written = Some(Content { bytes: 0, sha256: Err(Unhashed::Unfinished) });
    let file = FileOutcome {
        read: None,
        written,
        failure: None,
        masked: Vec::new(),
        closed: Closed::Unfinished,
    };
    let done = |command, outcome| Event::Done { command, outcome };
    assert_eq!(
        events,
        [done(0, Outcome::File(file)), done(1, Outcome::Unanswered), done(2, Outcome::Unanswered)]
    );
}

#[test]
fn p8_a_hostile_client_ends_its_channel() {
    let lies = |length: u32, bytes: &[u8]| [word(length), bytes.to_vec()].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("INIT twice", packet(1, &[word(3)])),
        ("an unknown type", packet(99, &[word(1)])),
        ("a type of version 6", packet(21, &[word(1), string(b"a"), string(b"b")])),
        ("a server's type", handle(1, b"h")),
        ("no number", lies(1, &[3])),
        ("a path that is longer than its packet", lies(13, b"\x0d\0\0\0\x01\0\0\0\xff/abc")),
        ("bytes behind the end", packet(13, &[word(1), string(b"/a"), word(0)])),
        ("a long request", lies(1 << 20, &[13])),
        ("a NUL in a path", packet(13, &[word(1), string(b"/a\0/b")])),
        ("a path of more than 64 KiB", packet(13, &[word(1), string(&vec![b'a'; 65_537])])),
        ("attributes of version 4", packet(14, &[word(1), string(b"/a"), word(0x10)])),
        ("flags of version 5", open(1, b"/a", 0x41)),
        ("a long handle", write(1, &[b'h'; 257], 0, b"")),
        (
            "data of another length",
            lies(23, b"\x06\0\0\0\x01\0\0\0\x01h\0\0\0\0\0\0\0\0\0\0\0\x02x"),
        ),
        ("data of 4 GiB", lies(u32::MAX, b"\x06\0\0\0\x01\0\0\0\x01h\0\0\0\0\0\0\0\0\0\0\0\x02x")),
        ("many attributes", packet(14, &[word(1), string(b"/a"), word(1 << 31), word(u32::MAX)])),
    ];
    for (what, bytes) in cases {
        let mut channel = Channel::ready();
        let violation = channel.client(&bytes).expect_err(what).to_string();
        assert!(violation.contains("SFTP"), "{what}: {violation}");
        assert_eq!(channel.up, b"", "{what}");
    }
    let mut reused = Channel::ready();
    reused.client(&open(1, b"/a", 1)).expect("open");
    assert_eq!(reused.client(&open(1, b"/b", 1)), Err(Violation::Reused(1)));
    let mut early = Sftp::new();
    assert!(early.client(&open(1, b"/a", 1)).is_err(), "before INIT");
}

#[test]
fn p8_a_hostile_server_ends_its_channel() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nobody asked", status(9, 0, b"")),
        ("VERSION twice", packet(2, &[word(3)])),
        ("a client's type", packet(13, &[word(1), string(b"/a")])),
        ("a handle for what opens nothing", handle(2, b"h")),
        ("a handle that is open", handle(3, b"h")),
        ("a handle that is long", handle(3, &[b'x'; 257])),
        ("more than was asked for", data(4, b"01234")),
        ("data for what reads nothing", data(2, b"0")),
        ("data of another length", packet(103, &[word(4), word(1), b"01".to_vec()])),
        ("attributes for what asks for none", packet(105, &[word(2), word(0)])),
        ("names for what lists nothing", packet(104, &[word(2), word(0)])),
        ("a long answer", [word(2 << 20), vec![104], word(2), word(0)].concat()),
        ("a long status", [word(1 << 20), vec![101], word(2), word(0)].concat()),
        ("a status that ends early", packet(101, &[word(2), word(0), word(9)])),
    ];
    for (what, bytes) in cases {
        let mut channel = Channel::ready();
        channel.client(&open(1, b"/a", 1)).expect("open");
        channel.server(&handle(1, b"h")).expect("handle");
        channel.client(&packet(13, &[word(2), string(b"/z")])).expect("remove");
        channel.client(&open(3, b"/b", 1)).expect("open");
        channel.client(&read(4, b"h", 0, 4)).expect("read");
        channel.down.clear();
        channel.server(&bytes).expect_err(what);
        assert_eq!(channel.down, b"", "{what}");
        assert_eq!(channel.sftp.finish().len(), 3, "{what}: nothing is lost");
    }
}

#[test]
fn only_version_3_is_spoken_and_nothing_goes_on_before_that_is_sure() {
    for version in [0, 2, 4, 6] {
        let mut channel = Channel::default();
        channel.client(&packet(1, &[word(6)])).expect("INIT");
        assert_eq!(channel.sftp.client(&open(1, b"/a", 1)), Ok(ClientStep::Wait));
        assert_eq!(channel.server(&packet(2, &[word(version)])), Err(Violation::Version(version)));
    }
    let mut early = Channel::default();
    early.server(&packet(2, &[word(3)])).expect_err("before INIT");
}

#[test]
fn p8_what_is_owed_and_open_is_bounded() {
    let mut channel = Channel::ready();
    let mut id = 0;
    while channel.sftp.client(&packet(17, &[word(id), string(b"/")])) != Ok(ClientStep::Wait) {
        id += 1;
        assert!(id < 100_000);
    }
    channel.server(&packet(105, &[word(0), word(0)])).expect("an answer");
    channel.client(&packet(17, &[word(id), string(b"/")])).expect("it goes on");

    // What we owe the client, too.
    let mut deaf = Channel::refusing();
    let mut count = 0;
    while deaf.sftp.client(&close(count, b"x")) != Ok(ClientStep::Wait) {
        count += 1;
        assert!(count < 100_000);
    }

    let mut full = Channel::ready();
    for number in 0..4096_u32 {
        full.client(&open(1, b"/a", 1)).expect("open");
        full.server(&handle(1, &word(number))).expect("handle");
    }
    full.up.clear();
    full.client(&open(1, b"/a", 1)).expect("refused");
    assert_eq!(full.up, b"", "one too many");
    full.client(&close(2, &word(7))).expect("close");
    full.server(&status(2, 0, b"")).expect("closed");
    full.client(&open(3, b"/a", 1)).expect("open");
    assert!(full.up.ends_with(&open(3, b"/a", 1)));
}

#[test]
fn data_passes_before_its_packet_is_whole() {
    let mut channel = Channel::ready();
    channel.client(&open(1, b"/a", 3)).expect("open");
    channel.server(&handle(1, b"h")).expect("handle");
    let large = vec![7; 8 << 20];
    let bytes = write(2, b"h", 0, &large);
    channel.up.clear();
    for piece in bytes.chunks(1000) {
        channel.up.extend(piece);
        let mut rest = piece;
        while !rest.is_empty() {
            let ClientStep::Pass(count) = channel.sftp.client(rest).expect("right") else {
                panic!("it is held");
            };
            rest = &rest[count..];
        }
    }
    channel.server(&status(2, 0, b"")).expect("written");
    channel.client(&read(3, b"h", 0, 8 << 20)).expect("read");
    for piece in data(3, &large).chunks(1000) {
        channel.server(piece).expect("passes");
    }
    channel.client(&close(4, b"h")).expect("close");
    channel.server(&status(4, 0, b"")).expect("closed");
    let content = Some(Content { bytes: 8 << 20, sha256: Ok(hash(&large)) });
    assert_eq!((channel.file().read, channel.file().written), (content, content));
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let owner = any::<Option<(u32, u32)>>();
    (any::<Option<u64>>(), owner, any::<Option<u32>>(), any::<Option<(u32, u32)>>()).prop_map(
        |(size, owner, permissions, times)| Attributes {
            size,
            owner,
            permissions,
            times,
            extended: 0,
        },
    )
}

/// The plainest way to write attributes.
fn encoded(attributes: Attributes) -> Vec<u8> {
    let (mut flags, mut body) = (0, Vec::new());
    if let Some(size) = attributes.size {
        flags |= 1;
        body.extend(long(size));
    }
    if let Some((user, group)) = attributes.owner {
        flags |= 2;
        body.extend([word(user), word(group)].concat());
    }
    if let Some(mode) = attributes.permissions {
        flags |= 4;
        body.extend(word(mode));
    }
    if let Some((accessed, modified)) = attributes.times {
        flags |= 8;
        body.extend([word(accessed), word(modified)].concat());
    }
    [word(flags), body].concat()
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1_u8.., 0..40)
}

proptest! {
    /// What was written is what is read.
    #[test]
    fn requests_are_read_as_they_were_written(
        id: u32, path in path(), other in path(), attributes in attributes(), flags in 0_u32..64,
    ) {
        let set = [word(id), string(&path), encoded(attributes)];
        let is = |bit| flags & bit != 0;
        let how = OpenFlags {
            read: is(1), write: is(2), append: is(4), create: is(8), truncate: is(16), exclusive: is(32),
        };
        let cases = [
            (packet(9, &set), Operation::SetAttributes { path: path.clone(), attributes, follows: true }),
            (packet(14, &set), Operation::MakeDirectory { path: path.clone(), attributes }),
            (
                packet(3, &[word(id), string(&path), word(flags), encoded(attributes)]),
                Operation::Open { path: path.clone(), flags: how, attributes },
            ),
            (
                packet(18, &[word(id), string(&path), string(&other)]),
                Operation::Rename { from: path.clone(), to: other, replaces: false },
            ),
        ];
        for (bytes, operation) in cases {
            let mut channel = Channel::ready();
            prop_assert_eq!(channel.client(&bytes), Ok(()));
            prop_assert_eq!(channel.operations, [operation]);
        }
    }
}
