//! Frames of both sides, in one piece and in many: the same bytes pass, the same is decided and
//! recorded; and what passes is what came, frame by frame, but for what was replaced as a whole.
//!
//! The frames are read here once more, in the plainest way, so that two readers must agree.

use std::time::Duration;

use chaperone_model::{CommandKind, Outcome, Seq, Timestamp};
use chaperone_wire::postgres::{
    Allowed, Asks, ClientStep, Conversation, Event, Limits, Now, Refusal, Rules, SigningOn,
};

const LIMITS: Limits = Limits { message: 128, response: 96, parameters: 32 };
const NOW: Now = Now { wall: Timestamp(0), monotonic: Duration::ZERO };
const CLIENT: &[u8] = b"QPBEDCFSHXdcfp";
const SERVER: &[u8] = b"RSKZTDtn123sIGHVWcdCEANv";

/// The input is a script; see [`Script::read`].
pub(crate) fn play(input: &[u8]) {
    let Some(script) = Script::read(input) else { return };
    let whole = Run::of(&script, None);
    let cut = Run::of(&script, Some(script.cuts));
    assert_eq!(whole.end, cut.end);
    assert_eq!(whole.commands, cut.commands);
    assert_eq!(whole.outcomes, cut.outcomes);
    assert_eq!(whole.others, cut.others);
    assert_eq!(whole.up.bytes, cut.up.bytes);
    // A server that breaks the protocol ends the session; what came just before may be lost.
    if whole.end.as_ref().is_some_and(|end| end.side == Side::Server) {
        assert!(cut.down.bytes.starts_with(&whole.down.bytes));
    } else {
        assert_eq!(whole.down.bytes, cut.down.bytes);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

#[derive(Debug)]
struct Script {
    rules: Rules,
    /// Bits that say which commands policy refuses, in turn.
    refuses: u8,
    cuts: Cuts,
    turns: Vec<(Side, Vec<u8>)>,
}

impl Script {
    /// Three bytes of settings, then items. An item's first byte: bit 0 whose it is, bit 1 whether
    /// it begins a turn though the one before it is of the same side, the rest which message it is,
    /// or raw bytes; the second its length.
    fn read(input: &[u8]) -> Option<Self> {
        let (&[settings, refuses, cuts], mut rest) = input.split_first_chunk::<3>()?;
        let sign_on = if settings & 1 == 0 { SigningOn::Relayed } else { SigningOn::Held };
        let mut turns: Vec<(Side, Vec<u8>)> = Vec::new();
        if settings & 4 == 0 {
            turns.push((Side::Server, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".to_vec()));
        }
        while let Some((&[head, length], behind)) = rest.split_first_chunk::<2>() {
            let (body, later) = behind.split_at(usize::from(length).min(behind.len()));
            rest = later;
            let (side, tags) =
                if head & 1 == 0 { (Side::Client, CLIENT) } else { (Side::Server, SERVER) };
            let item = match tags.get(usize::from(head >> 2)) {
                Some(tag) => message(*tag, body),
                None => body.to_vec(),
            };
            match turns.last_mut() {
                Some((last, bytes)) if *last == side && head & 2 == 0 => bytes.extend(item),
                _ => turns.push((side, item)),
            }
        }
        Some(Self {
            rules: Rules { sign_on, replication: settings & 2 != 0 },
            refuses,
            cuts: Cuts(u32::from(cuts)),
            turns,
        })
    }
}

/// Sizes of pieces, made up from one byte.
#[derive(Clone, Copy, Debug)]
struct Cuts(u32);

impl Cuts {
    fn next(&mut self) -> usize {
        // Numerical Recipes' generator: any will do that is always the same.
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Mostly short ones: headers are where it matters.
        let size = if self.0 >> 30 == 0 { self.0 >> 23 & 0x3f } else { self.0 >> 27 & 0x7 };
        size as usize + 1
    }
}

/// How a session ended before its script did.
#[derive(Debug, PartialEq, Eq)]
struct End {
    side: Side,
    why: String,
}

/// What a run of the script came to.
#[derive(Debug)]
struct Run {
    conversation: Conversation,
    refuses: u8,
    up: Passed,
    down: Passed,
    /// Each with whether it was refused.
    commands: Vec<(String, bool)>,
    outcomes: Vec<Outcome>,
    others: Vec<String>,
    end: Option<End>,
}

impl Run {
    fn of(script: &Script, mut cuts: Option<Cuts>) -> Self {
        let mut run = Self {
            conversation: Conversation::new(LIMITS, script.rules),
            refuses: script.refuses,
            up: Passed::default(),
            down: Passed::default(),
            commands: Vec::new(),
            outcomes: Vec::new(),
            others: Vec::new(),
            end: None,
        };
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for (side, bytes) in &script.turns {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() && run.end.is_none() {
                let size = cuts.as_mut().map_or(usize::MAX, Cuts::next);
                let (piece, later) = rest.split_at(size.min(rest.len()));
                rest = later;
                match side {
                    Side::Client => {
                        up.extend(piece);
                        run.client(&mut up);
                    }
                    Side::Server => {
                        down.extend(piece);
                        run.server(&mut down);
                    }
                }
            }
            // What waited for the server is looked at when its turn is over: in between, it would
            // matter how the turn was cut, as it should.
            if run.end.is_none() {
                run.client(&mut up);
            }
        }
        let open = run.conversation.finish(NOW);
        run.outcomes.extend(open);
        run.check();
        run
    }

    fn client(&mut self, bytes: &mut Vec<u8>) {
        while self.end.is_none() {
            let end = |why: String| Some(End { side: Side::Client, why });
            match self.conversation.client(bytes) {
                Ok(ClientStep::Need(_) | ClientStep::Wait) => break,
                Ok(ClientStep::Pass(count)) => {
                    assert!((1..=bytes.len()).contains(&count));
                    self.up.pass(bytes, count);
                }
                Ok(ClientStep::Discard(count)) => self.up.discard(bytes, count),
                Ok(ClientStep::Terminate(count)) => {
                    assert_eq!(bytes.first(), Some(&b'X'));
                    self.up.pass(bytes, count);
                    self.end = end("good-bye".into());
                }
                Ok(ClientStep::Command { length, command, objection }) => {
                    self.up.at_boundary();
                    let frame = frame(bytes).expect("a header");
                    let number = self.commands.len();
                    let refused = self.refuses >> (number % 8) & 1 == 1;
                    let said = format!("{command:?} {objection:?}");
                    let refusal =
                        objection.or_else(|| refused.then(|| Refusal::new("42501", "no")));
                    self.commands.push((said, refusal.is_some()));
                    match refusal {
                        None => {
                            assert_eq!(length, frame, "a command is allowed as a whole");
                            hides_nothing(&bytes[..length], command.kind, command.text.as_deref());
                            let asks = self.refuses >> ((number + 3) % 8) & 1 == 1;
                            let asks = command.text.filter(|_| asks);
                            let asks = asks.map(|text| Asks { text: text.into(), digest: [0; 32] });
                            self.conversation.allowed(Allowed { asks, ..Allowed::default() });
                            self.up.pass(bytes, length);
                        }
                        Some(refusal) => {
                            let stand_in = self.conversation.refused(refusal);
                            self.up.replace(bytes, length, frame, &stand_in);
                        }
                    }
                    let mut events = Vec::new();
                    self.conversation.recorded([Seq(number as u64 + 1)], NOW, &mut events);
                    self.learn(events);
                }
                Ok(ClientStep::Refuse(refusal)) => self.end = end(refusal.message),
                Err(violation) => self.end = end(violation.to_string()),
            }
        }
        assert!(bytes.len() <= 5 + (8 << 10), "a message that is too long is held");
    }

    fn server(&mut self, bytes: &mut Vec<u8>) {
        let mut events = Vec::new();
        loop {
            match self.conversation.server(bytes, NOW, &mut events) {
                Err(violation) => {
                    self.end = Some(End { side: Side::Server, why: violation.to_string() });
                    break;
                }
                Ok(step) => {
                    self.down.pass(bytes, step.pass);
                    let Some((length, with)) = step.replace else { break };
                    self.down.at_boundary();
                    assert_eq!(Some(length), frame(bytes), "a message is replaced as a whole");
                    assert_eq!(bytes.first(), with.first(), "by another of its kind");
                    self.down.replace(bytes, length, length, &with);
                }
            }
        }
        self.learn(events);
    }

    fn learn(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Outcome(outcome) => self.outcomes.push(outcome),
                other => self.others.push(format!("{other:?}")),
            }
        }
    }

    /// The server runs what was recorded, and nothing else.
    fn check(&self) {
        let commands = tags(&self.up.bytes).filter(|tag| b"QPEF".contains(tag)).count();
        assert_eq!(commands, self.commands.len());
        tags(&self.down.bytes).for_each(drop);
        for (number, _) in self.commands.iter().enumerate() {
            let number = Seq(number as u64 + 1);
            let parts: Vec<u32> =
                self.outcomes.iter().filter(|o| o.intent == number).map(|o| o.part).collect();
            assert!(!parts.is_empty(), "a command without an outcome");
            assert!(parts.iter().copied().eq((0..).take(parts.len())), "{number:?}: {parts:?}");
        }
    }
}

/// What passed to one side, with a look at whether frames stay whole.
#[derive(Debug, Default)]
struct Passed {
    bytes: Vec<u8>,
    /// Of the frame that is under way.
    rest: usize,
    /// It is thrown away.
    discarding: bool,
}

impl Passed {
    fn pass(&mut self, from: &mut Vec<u8>, count: usize) {
        let mut count = count;
        while count > 0 {
            if self.rest == 0 {
                self.rest = frame(from).expect("nothing passes before its header is there");
                self.discarding = false;
            }
            assert!(!self.discarding, "a refused message passes");
            let now = count.min(self.rest);
            self.bytes.extend(from.drain(..now));
            (self.rest, count) = (self.rest - now, count - now);
        }
    }

    fn replace(&mut self, from: &mut Vec<u8>, length: usize, frame: usize, with: &[u8]) {
        from.drain(..length);
        self.bytes.extend(with);
        (self.rest, self.discarding) = (frame - length, true);
    }

    fn discard(&mut self, from: &mut Vec<u8>, count: usize) {
        assert!(self.discarding && (1..=self.rest).contains(&count), "it was not refused");
        from.drain(..count);
        self.rest -= count;
    }

    fn at_boundary(&self) {
        assert_eq!(self.rest, 0, "in the middle of a message");
    }
}

/// What the server reads in an allowed message is what was decided.
fn hides_nothing(message: &[u8], kind: CommandKind, text: Option<&str>) {
    let body = &message[5..];
    let text = text.map(|text| [text.as_bytes(), b"\0"].concat());
    match (message[0], kind, text) {
        (b'Q', CommandKind::Query, Some(text)) => assert_eq!(body, text),
        (b'P', CommandKind::Prepare, Some(text)) => {
            let name = body.iter().position(|b| *b == 0).expect("a name") + 1;
            assert!(body[name..].starts_with(&text));
        }
        (b'E', CommandKind::Execute | CommandKind::Fetch, None)
        | (b'B', CommandKind::Bind, _)
        | (b'F', CommandKind::Call, Some(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// The length of the frame at the front.
fn frame(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(1..5)?.try_into().ok()?;
    Some(u32::from_be_bytes(length) as usize + 1)
}

/// The types of the frames, the last of which need not be whole.
fn tags(mut bytes: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let tag = *bytes.first()?;
        let length = frame(bytes).expect("a header that is whole");
        assert!(length >= 5);
        bytes = bytes.get(length..).unwrap_or_default();
        Some(tag)
    })
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag][..], &length.to_be_bytes(), body].concat()
}
