//! SFTP of both sides, in one piece and in many: the same bytes pass, the same is decided and
//! recorded; and what passes is what came, packet by packet, but for what was refused.
//!
//! The packets are read here once more, in the plainest way, so that two readers must agree.

use chaperone_wire::ssh::sftp::{ClientStep, Event, Sftp};

/// Types of a client's packets that a script can name.
const CLIENT: &[u8] = &[1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 200];
/// Types of a server's.
const SERVER: &[u8] = &[2, 101, 102, 103, 104, 105, 201];
/// Types that are always commands.
const COMMANDS: &[u8] = &[3, 9, 10, 11, 13, 14, 15, 18, 19, 20];

/// The input is a script: two bytes of settings, then items. An item's first byte: bit 0 whose it
/// is, bit 1 whether its body is put together to be right, the rest which packet it is, or raw bytes;
/// the second its length.
pub(crate) fn play(input: &[u8]) {
    let Some((&[refuses, cuts], items)) = input.split_first_chunk::<2>() else { return };
    let turns = turns(items);
    let whole = Run::of(&turns, refuses, None);
    let cut = Run::of(&turns, refuses, Some(Cuts(cuts.into())));
    assert_eq!(whole.end, cut.end);
    assert_eq!(whole.commands, cut.commands);
    assert_eq!(whole.up, cut.up);
    // A server that breaks the protocol ends the channel; what came just before may be lost.
    if whole.end.as_ref().is_some_and(|(side, _)| *side == Side::Server) {
        assert!(cut.down.starts_with(&whole.down));
    } else {
        assert_eq!(whole.down, cut.down);
        assert_eq!(whole.events, cut.events);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

fn turns(mut rest: &[u8]) -> Vec<(Side, Vec<u8>)> {
    let mut turns = vec![
        (Side::Client, packet(1, &3_u32.to_be_bytes())),
        (Side::Server, packet(2, &3_u32.to_be_bytes())),
    ];
    let mut number = 0;
    while let Some((&[head, length], behind)) = rest.split_first_chunk::<2>() {
        let (body, later) = behind.split_at(usize::from(length).min(behind.len()));
        rest = later;
        let (side, kinds) =
            if head & 1 == 0 { (Side::Client, CLIENT) } else { (Side::Server, SERVER) };
        let bytes = match kinds.get(usize::from(head >> 2)) {
            Some(kind) if head & 2 == 0 => packet(*kind, body),
            Some(kind) => {
                if side == Side::Client {
                    number += 1;
                }
                right(*kind, number, body)
            }
            None => body.to_vec(),
        };
        turns.push((side, bytes));
    }
    turns
}

/// A packet that is as it should be, with what can be chosen taken from the body.
fn right(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let first = u32::from(body.first().copied().unwrap_or(0));
    let text = body.get(1..).unwrap_or_default();
    let word = |value: u32| value.to_be_bytes().to_vec();
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let string = |bytes: &[u8]| [&word(size(bytes))[..], bytes].concat();
    let handle = string(&[b'h', (first & 1) as u8]);
    let long = |value: u32| u64::from(value).to_be_bytes().to_vec();
    let none = word(0);
    let rest: Vec<Vec<u8>> = match kind {
        3 => vec![string(b"f"), word(first & 0x3f), none],
        4 | 8 | 12 | 102 => vec![handle],
        5 => vec![handle, long(first >> 1), word(size(text))],
        6 => vec![handle, long(first >> 1), string(text)],
        9 | 14 => vec![string(b"p"), none],
        10 => vec![handle, none],
        18 | 20 => vec![string(b"a"), string(b"b")],
        200 => vec![string(b"posix-rename@openssh.com"), string(b"a"), string(b"b")],
        101 => vec![word(first & 0xf), string(text), string(b"")],
        103 => vec![string(text)],
        104 => vec![word(first), text.to_vec()],
        105 | 201 => vec![text.to_vec()],
        _ => vec![string(b"x")],
    };
    // The server's answers are to one of the latest requests.
    let id = if kind > 100 && kind != 200 { id.wrapping_sub(first >> 4) } else { id };
    packet(kind, &[word(id), rest.concat()].concat())
}

/// Sizes of pieces, made up from one byte.
#[derive(Clone, Copy, Debug)]
struct Cuts(u32);

impl Cuts {
    fn next(&mut self) -> usize {
        // Numerical Recipes' generator: any will do that is always the same.
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 28) as usize + 1
    }
}

/// What a run of the script came to.
#[derive(Debug)]
struct Run {
    sftp: Sftp,
    /// Bits that say which commands policy refuses, in turn.
    refuses: u8,
    up: Vec<u8>,
    down: Vec<u8>,
    /// Bytes of the server's that passed, and packets of our own that went between.
    passed: Vec<u8>,
    inserted: Vec<u8>,
    /// Each with whether it was refused, and its bytes.
    commands: Vec<(String, bool, Vec<u8>)>,
    discarded: usize,
    events: Vec<Event>,
    end: Option<(Side, String)>,
}

impl Run {
    fn of(turns: &[(Side, Vec<u8>)], refuses: u8, mut cuts: Option<Cuts>) -> Self {
        let mut run = Self {
            sftp: Sftp::new(),
            refuses,
            up: Vec::new(),
            down: Vec::new(),
            passed: Vec::new(),
            inserted: Vec::new(),
            commands: Vec::new(),
            discarded: 0,
            events: Vec::new(),
            end: None,
        };
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for (side, bytes) in turns {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() && run.end.is_none() {
                let size = cuts.as_mut().map_or(usize::MAX, Cuts::next);
                let (piece, later) = rest.split_at(size.min(rest.len()));
                rest = later;
                match side {
                    Side::Client => up.extend(piece),
                    Side::Server => down.extend(piece),
                }
                run.client(&mut up);
                // Where our own answers go depends on how the server's are cut, as it should; so
                // they are asked for when a turn is over.
                if *side == Side::Server || rest.is_empty() {
                    run.server(&mut down);
                }
            }
        }
        let open = run.sftp.finish();
        run.events.extend(open);
        run.check();
        run
    }

    fn client(&mut self, bytes: &mut Vec<u8>) {
        while self.end.is_none() {
            match self.sftp.client(bytes) {
                Ok(ClientStep::Need(count)) => {
                    assert!(count > bytes.len());
                    break;
                }
                Ok(ClientStep::Wait) => break,
                Ok(ClientStep::Pass(count)) => {
                    assert!((1..=bytes.len()).contains(&count));
                    self.up.extend(bytes.drain(..count));
                }
                Ok(ClientStep::Discard(count)) => {
                    assert!((1..=bytes.len()).contains(&count));
                    self.discarded += bytes.drain(..count).len();
                }
                Ok(ClientStep::Instead(..)) => panic!("nothing is masked"),
                Ok(ClientStep::Command { number, length, operation, objection }) => {
                    assert_eq!(number, self.commands.len() as u64);
                    assert_eq!(Some(length), frame(bytes), "a command is decided as a whole");
                    assert_eq!(self.sftp.client(bytes), Ok(ClientStep::Wait), "and decided first");
                    let refused = self.refuses >> (number % 8) & 1 == 1 || objection.is_some();
                    let packet: Vec<u8> = bytes.drain(..length).collect();
                    if refused {
                        self.sftp.refused("no");
                    } else {
                        self.sftp.allowed();
                        self.up.extend(&packet);
                    }
                    self.commands.push((format!("{operation:?}"), refused, packet));
                }
                Err(violation) => self.end = Some((Side::Client, violation.to_string())),
            }
        }
        assert!(bytes.len() <= 4096, "a packet is held that need not be");
    }

    fn server(&mut self, bytes: &mut Vec<u8>) {
        while self.end.is_none() {
            match self.sftp.server(bytes, &mut self.events) {
                Err(violation) => self.end = Some((Side::Server, violation.to_string())),
                Ok(step) => {
                    self.passed.extend(&bytes[..step.pass]);
                    self.down.extend(bytes.drain(..step.pass));
                    self.down.extend(&step.insert);
                    self.inserted.extend(&step.insert);
                    if step.need > 0 {
                        assert!(step.need > bytes.len());
                        break;
                    }
                }
            }
        }
    }

    /// The server gets what was allowed, and nothing else that is a command; the client gets whole
    /// packets.
    fn check(&self) {
        let sent: Vec<&[u8]> =
            packets(&self.up).filter(|packet| COMMANDS.contains(&packet[4])).collect();
        let allowed: Vec<&[u8]> = self
            .commands
            .iter()
            .filter(|(_, refused, packet)| !refused && packet[4] != 200)
            .map(|(_, _, packet)| packet.as_slice())
            .collect();
        assert_eq!(sent, allowed);
        let ours = packets(&self.inserted).count();
        assert_eq!(
            packets(&self.down).count(),
            packets(&self.passed).count() + ours,
            "a packet was put into another"
        );
        // One outcome a command, for those that went on.
        let mut done: Vec<u64> =
            self.events.iter().map(|Event::Done { command, .. }| *command).collect();
        done.sort_unstable();
        let went: Vec<u64> = (0..)
            .zip(&self.commands)
            .filter(|(_, (_, refused, _))| !refused)
            .map(|(number, _)| number)
            .collect();
        if !matches!(self.end, Some((Side::Server, _))) {
            assert_eq!(done, went);
        }
    }
}

/// The packets, the last of which need not be whole.
fn packets(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = frame(bytes)?;
        let (packet, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        Some(packet)
    })
}

/// The length of the packet at the front.
fn frame(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    bytes.get(4)?;
    Some(u32::from_be_bytes(length) as usize + 4)
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &[kind], body].concat()
}
