//! One channel, from both sides.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{
    Direction, Event, Found, Operation, Outcome, Refused, Scp, Step, Times, Violation, Word,
    line::{LINE, Line, line},
};
use crate::ssh::{Content, Unhashed};

/// A channel, and what passed.
struct Channel {
    scp: Scp,
    /// To the target, and to the agent.
    up: Vec<u8>,
    down: Vec<u8>,
    events: Vec<Event>,
    operations: Vec<Operation>,
    refuse: bool,
}

impl Channel {
    fn new(direction: Direction) -> Self {
        Self {
            scp: Scp::new(direction, None),
            up: Vec::new(),
            down: Vec::new(),
            events: Vec::new(),
            operations: Vec::new(),
            refuse: false,
        }
    }

    /// Answers what waits.
    fn client(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Violation> {
        let mut rest = bytes;
        loop {
            let step = self.scp.client(rest, &mut self.events)?;
            let (gone, later) = self.act(step, rest);
            let Some(passed) = gone else { return Ok(rest.to_vec()) };
            self.up.extend(passed);
            rest = later;
        }
    }

    fn server(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Violation> {
        let mut rest = bytes;
        loop {
            let step = self.scp.server(rest, &mut self.events)?;
            let (gone, later) = self.act(step, rest);
            let Some(passed) = gone else { return Ok(rest.to_vec()) };
            self.down.extend(passed);
            rest = later;
        }
    }

    fn act<'a>(&mut self, step: Step, bytes: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        let (length, goes_on) = match step {
            Step::Need(count) => {
                assert!(count > bytes.len());
                return (None, bytes);
            }
            Step::Wait => return (None, bytes),
            Step::Instead(..) => unreachable!("nothing is masked"),
            Step::Pass(count) => (count, true),
            Step::Command { length, operation, .. } => {
                self.operations.push(operation);
                if self.refuse {
                    let Refused { to_client, to_server } = self.scp.refused("not\nhere");
                    self.down.extend(to_client);
                    self.up.extend(to_server);
                } else {
                    self.scp.allowed();
                }
                (length, !self.refuse)
            }
        };
        let (passed, later) = bytes.split_at(length);
        (Some(if goes_on { passed } else { &[] }), later)
    }

    /// Nothing may wait.
    fn both(&mut self, turns: &[(char, &[u8])]) {
        for (side, bytes) in turns {
            let rest = if *side == 'c' { self.client(bytes) } else { self.server(bytes) };
            assert_eq!(rest, Ok(Vec::new()), "{side} {bytes:?}");
        }
    }
}

fn content(bytes: &[u8]) -> Content {
    Content { bytes: bytes.len() as u64, sha256: Ok(Sha256::digest(bytes).into()) }
}

fn done(command: u64, outcome: Outcome) -> Event {
    Event::Done { command, outcome }
}

/// What a recursive `scp -r -p` of one folder with one file says.
const TREE: &[(char, &[u8])] = &[
    ('s', b"\0"),
    ('c', b"T1700000000 0 1700000001 0\n"),
    ('s', b"\0"),
    ('c', b"D0755 0 dir\n"),
    ('s', b"\0"),
    ('c', b"T1600000000 0 1600000001 0\n"),
    ('s', b"\0"),
    ('c', b"C0644 6 a file\n"),
    ('s', b"\0"),
    ('c', b"C0644\n"),
    ('c', b"\0"),
    ('s', b"\0"),
    ('c', b"E\n"),
    ('s', b"\0"),
    ('c', b"C0600 0 empty\n"),
    ('s', b"\0"),
    ('c', b"\0"),
    ('s', b"\0"),
];

fn tree(direction: Direction) -> Vec<Operation> {
    let file = |path: &[u8], size, mode, times| Operation {
        direction,
        path: path.to_vec(),
        found: Found::File(size),
        mode,
        times,
    };
    let times = |modified, accessed| Some(Times { modified, accessed });
    let folder = Operation {
        direction,
        path: b"dir".to_vec(),
        found: Found::Folder,
        mode: 0o755,
        times: times(1_700_000_000, 1_700_000_001),
    };
    vec![
        folder,
        file(b"dir/a file", 6, 0o644, times(1_600_000_000, 1_600_000_001)),
        file(b"empty", 0, 0o600, None),
    ]
}

fn tree_events() -> Vec<Event> {
    let sent = |bytes: &[u8]| Outcome::Sent {
        content: content(bytes),
        masked: Vec::new(),
        source: Some(Word::Fine),
        sink: Some(Word::Fine),
    };
    vec![done(0, Outcome::Entered), done(1, sent(b"C0644\n")), done(2, sent(b""))]
}

/// With the sides changed: the target is the source.
fn turned(turns: &[(char, &'static [u8])]) -> Vec<(char, &'static [u8])> {
    turns.iter().map(|(side, bytes)| (if *side == 'c' { 's' } else { 'c' }, *bytes)).collect()
}

#[test]
fn p1_p4_a_tree_that_is_put_passes_byte_for_byte_and_each_file_is_a_command() {
    let mut channel = Channel::new(Direction::ToTarget);
    channel.both(TREE);
    let all = |of| TREE.iter().filter(move |(side, _)| *side == of).flat_map(|(_, b)| *b).copied();
    assert_eq!(channel.up, all('c').collect::<Vec<u8>>());
    assert_eq!(channel.down, all('s').collect::<Vec<u8>>());
    assert_eq!(channel.operations, tree(Direction::ToTarget));
    assert_eq!(channel.events, tree_events());
    assert_eq!(channel.scp.finish(), None);
    assert_eq!(channel.operations[1].to_string(), r#"put "dir/a file" (6 bytes, mode 0644)"#);
}

#[test]
fn p1_p4_a_tree_that_is_got_passes_byte_for_byte_and_each_file_is_a_command() {
    let turns = turned(TREE);
    let mut channel = Channel::new(Direction::FromTarget);
    channel.both(&turns);
    let all = |of| turns.iter().filter(move |(side, _)| *side == of).flat_map(|(_, b)| *b).copied();
    assert_eq!(channel.up, all('c').collect::<Vec<u8>>());
    assert_eq!(channel.down, all('s').collect::<Vec<u8>>());
    assert_eq!(channel.operations, tree(Direction::FromTarget));
    assert_eq!(channel.events, tree_events());
}

#[test]
fn it_does_not_matter_where_it_is_cut() {
    for (direction, turns) in
        [(Direction::ToTarget, TREE.to_vec()), (Direction::FromTarget, turned(TREE))]
    {
        let mut channel = Channel::new(direction);
        for (side, bytes) in turns {
            let mut held = Vec::new();
            for byte in bytes {
                held.push(*byte);
                held = if side == 'c' { channel.client(&held) } else { channel.server(&held) }
                    .expect("right");
            }
            assert_eq!(held, b"");
        }
        assert_eq!(channel.operations, tree(direction));
        assert_eq!(channel.events, tree_events());
    }
}

#[test]
fn p1_a_file_that_is_refused_does_not_reach_the_target_and_the_next_may() {
    let mut channel = Channel::new(Direction::ToTarget);
    channel.refuse = true;
    channel.both(&[('s', b"\0"), ('c', b"C0644 5 evil\n")]);
    assert_eq!(channel.up, b"");
    assert_eq!(channel.down, b"\0\x01not here\n");
    channel.refuse = false;
    channel.both(&[('c', b"C0644 1 good\n"), ('s', b"\0"), ('c', b"x\0"), ('s', b"\0")]);
    assert_eq!(channel.up, b"C0644 1 good\nx\0");
    assert_eq!(channel.events.len(), 1);
}

#[test]
fn p1_a_file_that_is_refused_does_not_reach_the_agent_and_both_are_told() {
    let mut channel = Channel::new(Direction::FromTarget);
    channel.refuse = true;
    channel.both(&[('c', b"\0"), ('s', b"C0644 5 secret\n")]);
    assert_eq!(channel.up, b"\0\x01not here\n", "the source takes it for the answer");
    assert_eq!(channel.down, b"\x01not here\n", "the sink shows it");
    channel.refuse = false;
    channel.both(&[('s', b"C0644 1 good\n"), ('c', b"\0"), ('s', b"x\0"), ('c', b"\0")]);
    assert_eq!(channel.down, b"\x01not here\nC0644 1 good\nx\0");
}

#[test]
fn p1_a_source_that_is_ahead_waits() {
    // What the target takes for content must not be read as lines, nor the other way round.
    let mut channel = Channel::new(Direction::ToTarget);
    let ahead = b"C0644 14 a\nC0644 3 b\nabc\0\0";
    assert_eq!(channel.client(ahead), Ok(ahead.to_vec()), "the target is not ready");
    channel.both(&[('s', b"\0")]);
    let rest = channel.client(ahead).expect("right");
    assert_eq!(channel.up, b"C0644 14 a\n");
    channel.both(&[('s', b"\0"), ('c', &rest)]);
    assert_eq!(channel.operations.len(), 1, "the second is content of the first");
    // Where the target rejects the first, the second is a line.
    let mut channel = Channel::new(Direction::ToTarget);
    channel.both(&[('s', b"\0")]);
    let rest = channel.client(ahead).expect("right");
    channel.both(&[('s', b"\x01no space\n")]);
    let rest = channel.client(&rest).expect("right");
    assert_eq!(channel.operations.len(), 2);
    assert_eq!(rest, b"abc\0\0");
    assert_eq!(channel.events, [done(0, Outcome::Rejected(Word::Failed(b"no space".to_vec())))]);
}

#[test]
fn p1_errors_that_may_belong_elsewhere_end_the_channel() {
    // The target could not set the times of the folder: it says so behind its answer, and the agent
    // takes it for the answer to the next line, which the target accepts.
    let end: &[(char, &[u8])] = &[
        ('s', b"\0"),
        ('c', b"T1 0 1 0\n"),
        ('s', b"\0"),
        ('c', b"D0755 0 dir\n"),
        ('s', b"\0"),
        ('c', b"E\n"),
        ('s', b"\0"),
    ];
    let mut channel = Channel::new(Direction::ToTarget);
    channel.both(end);
    assert_eq!(channel.server(b"\x01scp: dir: set times\n"), Err(Violation::Ambiguous));
    let mut channel = Channel::new(Direction::ToTarget);
    channel.both(end);
    channel.both(&[('c', b"C0644 9 x\n")]);
    assert_eq!(channel.server(b"\x01scp: dir: set times\n"), Err(Violation::Ambiguous));
    assert_eq!(channel.scp.finish(), Some(done(1, Outcome::Unanswered)));
    // One that comes where nothing is due.
    let mut channel = Channel::new(Direction::ToTarget);
    channel.both(&[('s', b"\0")]);
    assert_eq!(channel.server(b"\0"), Err(Violation::Ambiguous));
    // A file that failed may have failed twice.
    let mut channel = Channel::new(Direction::ToTarget);
    channel.both(&[('s', b"\0"), ('c', b"C0644 1 x\n"), ('s', b"\0"), ('c', b"x\0")]);
    channel.both(&[('s', b"\x01first\n"), ('c', b"C0644 1 y\n")]);
    assert_eq!(channel.server(b"\x01second\n"), Err(Violation::Ambiguous));
    // Without doubt a rejection is one.
    let mut channel = Channel::new(Direction::ToTarget);
    channel.both(&[('s', b"\0"), ('c', b"C0644 1 x\n"), ('s', b"\x01no\n")]);
    channel.both(&[('c', b"C0644 1 y\n"), ('s', b"\x01no\n")]);
}

#[test]
fn p1_answers_of_the_agent_in_advance_count_when_they_are_due() {
    let mut channel = Channel::new(Direction::FromTarget);
    let acks = channel.client(b"\0\0\x01disk full\n").expect("right");
    assert_eq!(channel.up, b"\0");
    channel.both(&[('s', b"C0644 1 a\n")]);
    let acks = channel.client(&acks).expect("right");
    assert_eq!(channel.up, b"\0\0");
    channel.both(&[('s', b"x\0"), ('c', &acks)]);
    let outcome = Outcome::Sent {
        content: content(b"x"),
        masked: Vec::new(),
        source: Some(Word::Fine),
        sink: Some(Word::Failed(b"disk full".to_vec())),
    };
    assert_eq!(channel.events, [done(0, outcome)]);
}

#[test]
fn the_end_tells_what_was_under_way() {
    let mut channel = Channel::new(Direction::ToTarget);
    channel.both(&[('s', b"\0"), ('c', b"C0644 9 x\n"), ('s', b"\0"), ('c', b"abc")]);
    let content = Content { bytes: 3, sha256: Err(Unhashed::Unfinished) };
    let outcome = Outcome::Sent { content, masked: Vec::new(), source: None, sink: None };
    assert_eq!(channel.scp.finish(), Some(done(0, outcome)));
}

#[test]
fn a_source_that_cannot_read_says_so() {
    let mut channel = Channel::new(Direction::FromTarget);
    channel.both(&[('c', b"\0"), ('s', b"\x01scp: /x: No such file or directory\n")]);
    let words = b"scp: /x: No such file or directory".to_vec();
    assert_eq!(channel.events, [Event::Said(Word::Failed(words))]);
    channel.both(&[('s', b"\x02bye\n")]);
    assert!(channel.server(b"C0644 1 x\n").is_err(), "it has given up");
}

#[test]
fn p8_lines_that_cannot_be_end_the_channel() {
    let long = [b"C0644 1 ".to_vec(), vec![b'a'; LINE], b"\n".to_vec()].concat();
    let cases: Vec<&[u8]> = vec![
        b"\n",
        b"X\n",
        b"E1\n",
        b"E\n",
        b"C0644 1 ../x\n",
        b"C0644 1 /etc/passwd\n",
        b"C0644 1 .\n",
        b"D0755 0 ..\n",
        b"C0644 1 \n",
        b"C0644 1\n",
        b"C644 1 x\n",
        b"C00644 1 x\n",
        b"C0649 1 x\n",
        b"C0644 -1 x\n",
        b"C0644 0x10 x\n",
        b"C0644 9223372036854775808 x\n",
        b"C0644 1 a\0b\n",
        b"T1 0 1\n",
        b"T1 0 1 1000000\n",
        b"T-1 0 1 0\n",
        &long,
        &long[..LINE],
    ];
    for bytes in cases {
        for direction in [Direction::ToTarget, Direction::FromTarget] {
            let mut channel = Channel::new(direction);
            let found = if direction == Direction::ToTarget {
                channel.both(&[('s', b"\0")]);
                channel.client(bytes)
            } else {
                channel.both(&[('c', b"\0")]);
                channel.server(bytes)
            };
            assert!(matches!(found, Err(Violation::Line(_))), "{bytes:?} {found:?}");
            assert_eq!(channel.operations, []);
        }
    }
    for bytes in [&b"\x03"[..], b"No match.\n", &[vec![1; LINE], vec![b'\n']].concat()] {
        let found = Channel::new(Direction::ToTarget).server(bytes);
        assert!(matches!(found, Err(Violation::Answer(_))), "{bytes:?} {found:?}");
    }
    let mut channel = Channel::new(Direction::ToTarget);
    channel.both(&[('s', b"\0")]);
    let deep = std::iter::repeat_with(|| {
        channel.client(b"D0755 0 d\n").and_then(|_| channel.server(b"\0"))
    });
    assert_eq!(deep.take(257).filter(Result::is_err).count(), 1);
}

proptest! {
    /// What was written is what is read.
    #[test]
    fn lines_are_read_as_they_were_written(
        mode in 0_u32..0o10000, size in 0..i64::MAX, name in "[^/\n\0]{1,60}", behind: Vec<u8>,
    ) {
        prop_assume!(name != "." && name != "..");
        let size = size.unsigned_abs();
        let text = format!("C{mode:04o} {size} {name}\n");
        let bytes = [text.as_bytes(), &behind].concat();
        let file = Line::File { mode, size, name: name.as_bytes() };
        prop_assert_eq!(line(&bytes), Ok(Some((file, text.len()))));
    }

    /// However hostile both sides are, nothing goes on to the target that is no answer, content or
    /// decided line; and nothing panics.
    #[test]
    fn p8_no_bytes_do_harm(turns: Vec<(bool, Vec<u8>)>, to: bool, refuse: bool) {
        let direction = if to { Direction::ToTarget } else { Direction::FromTarget };
        let mut channel = Channel::new(direction);
        channel.refuse = refuse;
        for (client, bytes) in turns {
            if (if client { channel.client(&bytes) } else { channel.server(&bytes) }).is_err() {
                break;
            }
        }
        channel.scp.finish();
    }
}

#[test]
fn p5_the_contents_of_files_from_the_target_are_masked_in_place() {
    use crate::ssh::cover::tests::Hashes;
    let text = b"before #secret# and behind, #a# and so on until it ends";
    let hidden = b"before ******** and behind, *** and so on until it ends";
    for size in [1, 3, 9, 100] {
        let mut scp = Scp::new(Direction::FromTarget, Some(std::sync::Arc::new(Hashes)));
        let mut events = Vec::new();
        scp.client(b"\0", &mut events).expect("ready");
        let line = format!("C0644 {} a\n", text.len());
        let step = scp.server(line.as_bytes(), &mut events).expect("a line");
        assert!(matches!(step, Step::Command { .. }));
        scp.allowed();
        scp.client(b"\0", &mut events).expect("ready");
        let mut out = Vec::new();
        for piece in text.chunks(size) {
            match scp.server(piece, &mut events).expect("content") {
                Step::Instead(count, goes) if count == piece.len() => out.extend(goes),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(out, hidden, "{size}");
        scp.server(b"\0", &mut events).expect("its end");
        scp.client(b"\0", &mut events).expect("taken");
        let [Event::Done { outcome: Outcome::Sent { content, masked, .. }, .. }] =
            events.as_slice()
        else {
            panic!("{events:?}")
        };
        // The record is of what the agent got.
        let hash: [u8; 32] = Sha256::digest(hidden).into();
        assert_eq!((content.sha256, masked.as_slice()), (Ok(hash), &[(1, 2)][..]));
    }
    assert!(Scp::new(Direction::ToTarget, Some(std::sync::Arc::new(Hashes))).by.is_none());
}
