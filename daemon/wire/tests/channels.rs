//! Whatever the two ends say and whatever is decided, in whatever order: nothing panics, nothing of a
//! command reaches the target before it is allowed, and neither end gets more than its windows take.

use std::collections::BTreeSet;

use bytes::Bytes;
use chaperone_wire::ssh::{Action, Conversation, Inner, Said, Violation, Wanted, scp};
use proptest::prelude::*;

const OPEN: u8 = 90;
const OPEN_CONFIRMATION: u8 = 91;
const OPEN_FAILURE: u8 = 92;
const WINDOW_ADJUST: u8 = 93;
const DATA: u8 = 94;
const EXTENDED_DATA: u8 = 95;
const EOF: u8 = 96;
const CLOSE: u8 = 97;
const REQUEST: u8 = 98;
const SUCCESS: u8 = 99;
const FAILURE: u8 = 100;

#[derive(Clone, Debug)]
enum Step {
    Agent(Message),
    Target(Message),
    Allow(usize, u8),
    Refuse(usize),
    EndsHere(usize),
    OpenOwn,
    Own(usize, u8),
    Idle(bool),
}

#[derive(Clone, Debug)]
enum Message {
    Open { kind: usize, sender: u32, window: u32 },
    Confirm { to: usize, sender: u32, window: u32 },
    About { number: u8, to: usize },
    Adjust { to: usize, more: u32 },
    Data { to: usize, length: usize, extended: bool },
    Request { to: usize, kind: usize, wants_reply: bool },
    Global { kind: usize, wants_reply: bool },
    Answer(bool),
}

const CHANNELS: [&str; 6] = [
    "session",
    "direct-tcpip",
    "direct-streamlocal@openssh.com",
    "forwarded-tcpip",
    "x11",
    "auth-agent@openssh.com",
];
const REQUESTS: [&str; 10] = [
    "exec",
    "shell",
    "subsystem",
    "x11-req",
    "auth-agent-req@openssh.com",
    "pty-req",
    "env",
    "window-change",
    "exit-status",
    "other@example",
];
const GLOBALS: [&str; 5] = [
    "tcpip-forward",
    "cancel-tcpip-forward",
    "streamlocal-forward@openssh.com",
    "keepalive@openssh.com",
    "other@example",
];

fn messages() -> impl Strategy<Value = Message> {
    let (number, to) = (0..6_u32, 0..8_usize);
    let window = prop_oneof![Just(0), 1..50_u32, 1000..200_000_u32, Just(u32::MAX)];
    prop_oneof![
        3 => (0..CHANNELS.len(), number.clone(), window.clone())
            .prop_map(|(kind, sender, window)| Message::Open { kind, sender, window }),
        4 => (to.clone(), number, window.clone())
            .prop_map(|(to, sender, window)| Message::Confirm { to, sender, window }),
        2 => (prop_oneof![Just(OPEN_FAILURE), Just(EOF), Just(CLOSE), Just(SUCCESS), Just(FAILURE)],
              to.clone()).prop_map(|(number, to)| Message::About { number, to }),
        2 => (to.clone(), window).prop_map(|(to, more)| Message::Adjust { to, more }),
        6 => (to.clone(), prop_oneof![0..40_usize, 500..40_000_usize], any::<bool>())
            .prop_map(|(to, length, extended)| Message::Data { to, length, extended }),
        6 => (to, 0..REQUESTS.len(), any::<bool>())
            .prop_map(|(to, kind, wants_reply)| Message::Request { to, kind, wants_reply }),
        2 => (0..GLOBALS.len(), any::<bool>())
            .prop_map(|(kind, wants_reply)| Message::Global { kind, wants_reply }),
        1 => any::<bool>().prop_map(Message::Answer),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => messages().prop_map(Step::Agent),
        8 => messages().prop_map(Step::Target),
        5 => (0..4_usize, 0..4_u8).prop_map(|(ask, inner)| Step::Allow(ask, inner)),
        1 => (0..4_usize).prop_map(Step::Refuse),
        1 => (0..4_usize).prop_map(Step::EndsHere),
        1 => Just(Step::OpenOwn),
        2 => (0..4_usize, 0..5_u8).prop_map(|(one, what)| Step::Own(one, what)),
        1 => any::<bool>().prop_map(Step::Idle),
    ];
    prop::collection::vec(step, 1..120)
}

/// Some channels are open from the beginning.
fn begun() -> Vec<Step> {
    let open = |sender| {
        let window = 100_000;
        let opens = Step::Agent(Message::Open { kind: 0, sender, window });
        [opens, Step::Target(Message::Confirm { to: 0, sender, window })]
    };
    (0..3).flat_map(open).collect()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes()[..], bytes].concat()
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// One end, which keeps to the protocol.
#[derive(Default)]
struct End {
    channels: Vec<Channel>,
    /// Opens that it has not answered: the other side's number, and what it takes.
    opens: Vec<(u32, u32)>,
    /// Questions of the whole connection that it has not answered.
    owed: usize,
}

struct Channel {
    own: u32,
    theirs: Option<u32>,
    /// What it may send, and what it takes.
    granted: u64,
    room: u64,
    owed: usize,
    said_eof: bool,
    said_close: bool,
    heard_close: bool,
}

impl Channel {
    fn new(own: u32, room: u32) -> Self {
        let (theirs, granted, room, owed) = (None, 0, room.into(), 0);
        let (said_eof, said_close, heard_close) = (false, false, false);
        Self { own, theirs, granted, room, owed, said_eof, said_close, heard_close }
    }
}

impl End {
    fn of(&mut self, own: u32) -> &mut Channel {
        self.channels.iter_mut().find(|one| one.own == own).expect("a channel of its own")
    }

    fn is_free(&self, own: u32) -> bool {
        self.channels.iter().all(|one| one.own != own)
    }

    fn forget_closed(&mut self) {
        self.channels.retain(|one| !one.said_close || !one.heard_close);
    }

    /// It hears this.
    fn hears(&mut self, payload: &[u8]) {
        let at = |index: usize| {
            let four = payload.get(index..index + 4).expect("a number");
            u32::from_be_bytes(four.try_into().expect("four bytes"))
        };
        match payload[0] {
            OPEN => {
                let kind = at(1) as usize;
                self.opens.push((at(5 + kind), at(9 + kind)));
            }
            OPEN_CONFIRMATION => {
                let channel = self.of(at(1));
                assert_eq!(channel.theirs, None, "it is open already");
                (channel.theirs, channel.granted) = (Some(at(5)), at(9).into());
            }
            OPEN_FAILURE => {
                assert_eq!(self.of(at(1)).theirs, None, "it is open already");
                self.channels.retain(|one| one.own != at(1));
            }
            WINDOW_ADJUST => self.of(at(1)).granted += u64::from(at(5)),
            DATA | EXTENDED_DATA => {
                let front = if payload[0] == DATA { 9 } else { 13 };
                let channel = self.of(at(1));
                let left = channel.room.checked_sub((payload.len() - front) as u64);
                channel.room = left.expect("no more than it takes");
                assert!(!channel.heard_close, "data behind the close");
            }
            EOF => drop(self.of(at(1))),
            CLOSE => {
                let channel = self.of(at(1));
                assert!(!channel.heard_close, "closed twice");
                channel.heard_close = true;
                self.forget_closed();
            }
            REQUEST => {
                let kind = at(5) as usize;
                self.of(at(1)).owed += usize::from(payload[9 + kind] != 0);
            }
            80 => self.owed += usize::from(payload[5 + at(1) as usize] != 0),
            _ => {}
        }
    }

    /// What it says, with a mark that tells the message; nothing where it may not say that.
    fn says(&mut self, message: &Message, mark: &str) -> Option<Bytes> {
        let mut open: Vec<&mut Channel> = self
            .channels
            .iter_mut()
            .filter(|one| one.theirs.is_some() && !one.said_close)
            .collect();
        let mut of = |to: usize| {
            let count = open.len();
            (count > 0).then(|| open.swap_remove(to % count))
        };
        let said = match *message {
            Message::Open { kind, sender, window } => {
                if !self.is_free(sender) {
                    return None;
                }
                self.channels.push(Channel::new(sender, window));
                let mut said = vec![OPEN];
                said.extend(string(CHANNELS[kind].as_bytes()));
                said.extend(words(&[sender, window, 32_768]));
                said.extend(string(mark.as_bytes()));
                said.extend(words(&[80]));
                said.extend(string(b"127.0.0.1"));
                said.extend(words(&[1]));
                said
            }
            Message::Confirm { to, sender, window } => {
                if self.opens.is_empty() || !self.is_free(sender) {
                    return None;
                }
                let (theirs, granted) = self.opens.remove(to % self.opens.len());
                let mut channel = Channel::new(sender, window);
                (channel.theirs, channel.granted) = (Some(theirs), granted.into());
                self.channels.push(channel);
                [&[OPEN_CONFIRMATION][..], &words(&[theirs, sender, window, 32_768])].concat()
            }
            Message::About { number: OPEN_FAILURE, to } => {
                if self.opens.is_empty() {
                    return None;
                }
                let (theirs, _) = self.opens.remove(to % self.opens.len());
                let mut said = [&[OPEN_FAILURE][..], &words(&[theirs])].concat();
                said.extend([words(&[1]), string(b"no"), string(b"")].concat());
                said
            }
            Message::About { number, to } => {
                let channel = of(to)?;
                match number {
                    EOF => channel.said_eof = true,
                    CLOSE => channel.said_close = true,
                    _ => channel.owed = channel.owed.checked_sub(1)?,
                }
                let said = [&[number][..], &words(&[channel.theirs?])].concat();
                self.forget_closed();
                said
            }
            Message::Adjust { to, more } => {
                let channel = of(to)?;
                let room = channel.room + u64::from(more);
                channel.room = if room > u64::from(u32::MAX) { return None } else { room };
                [&[WINDOW_ADJUST][..], &words(&[channel.theirs?, more])].concat()
            }
            Message::Data { to, length, extended } => {
                let channel = of(to)?;
                if channel.said_eof {
                    return None;
                }
                let length = length.min(usize::try_from(channel.granted).unwrap_or(usize::MAX));
                channel.granted -= length as u64;
                let mut said = vec![if extended { EXTENDED_DATA } else { DATA }];
                said.extend(words(&[channel.theirs?]));
                if extended {
                    said.extend(words(&[1]));
                }
                said.extend(string(&vec![b'd'; length]));
                said
            }
            Message::Request { to, kind, wants_reply } => {
                let mut said = [&[REQUEST][..], &words(&[of(to)?.theirs?])].concat();
                said.extend(string(REQUESTS[kind].as_bytes()));
                said.push(wants_reply.into());
                said.extend(match REQUESTS[kind] {
                    "pty-req" => [string(b"xterm"), words(&[80, 24, 0, 0]), string(b"")].concat(),
                    "env" => [string(b"LC_A"), string(mark.as_bytes())].concat(),
                    "window-change" | "exit-status" => words(&[1, 2, 3, 4]),
                    "subsystem" => string(b"sftp"),
                    _ => string(mark.as_bytes()),
                });
                said
            }
            Message::Global { kind, wants_reply } => {
                let mut said = vec![80];
                said.extend(string(GLOBALS[kind].as_bytes()));
                said.push(wants_reply.into());
                said.extend(string(mark.as_bytes()));
                said.extend(words(&[80]));
                said
            }
            Message::Answer(success) => {
                self.owed = self.owed.checked_sub(1)?;
                vec![if success { 81 } else { 82 }]
            }
        };
        Some(said.into())
    }
}

/// The mark of what is asked for.
fn mark_of(wanted: &Wanted) -> Option<String> {
    match wanted {
        Wanted::Exec { line } => Some(String::from_utf8_lossy(line).into_owned()),
        Wanted::Forward { host, .. } => Some(host.clone()),
        Wanted::ForwardSocket { path } | Wanted::ListenSocket { path } => {
            Some(String::from_utf8_lossy(path).into_owned())
        }
        Wanted::Listen { address, .. } => Some(address.clone()),
        _ => None,
    }
}

#[derive(Default)]
struct Scene {
    conversation: Conversation,
    agent: End,
    target: End,
    asks: Vec<(u64, Option<String>)>,
    /// Marks of commands that were not allowed.
    not_allowed: BTreeSet<String>,
    owns: Vec<u32>,
}

impl Scene {
    /// Does what is to be done, and checks it.
    fn act(&mut self) {
        for action in self.conversation.actions() {
            match action {
                Action::ToAgent(payload) => self.agent.hears(&payload),
                Action::ToTarget(payload) => {
                    let text = String::from_utf8_lossy(&payload).into_owned();
                    for mark in &self.not_allowed {
                        assert!(!text.contains(mark), "{mark} reached the target: {payload:?}");
                    }
                    self.target.hears(&payload);
                }
                Action::Ask(ask) => {
                    let mark = mark_of(&ask.wanted);
                    self.not_allowed.extend(mark.clone());
                    self.asks.push((ask.number, mark));
                }
                Action::Own { number, said: Said::Data(bytes) } => {
                    self.conversation.own_took(number, bytes.len());
                }
                _ => {}
            }
        }
    }

    /// Answers whether the session goes on: what is no SFTP or scp ends it.
    fn step(&mut self, index: usize, step: &Step) -> bool {
        let mark = format!("<{index}>");
        let conversation = &mut self.conversation;
        let nth = |all: &[(u64, Option<String>)], at: usize| {
            all.len().checked_sub(at + 1).map(|at| all[at].clone())
        };
        let went_well = match step {
            Step::Agent(message) => {
                self.agent.says(message, &mark).map_or(Ok(()), |said| conversation.agent(said))
            }
            Step::Target(message) => {
                self.target.says(message, &mark).map_or(Ok(()), |said| conversation.target(said))
            }
            Step::Allow(at, inner) => match nth(&self.asks, *at) {
                None => Ok(()),
                Some((ask, mark)) => {
                    if let Some(mark) = mark {
                        self.not_allowed.remove(&mark);
                    }
                    let inner = match inner {
                        0 => Inner::Sftp,
                        1 => Inner::Scp(scp::Direction::ToTarget),
                        _ => Inner::Plain,
                    };
                    conversation.allowed(ask, inner)
                }
            },
            Step::Refuse(at) => {
                let of = nth(&self.asks, *at);
                of.map_or(Ok(()), |(ask, _)| conversation.refused(ask, "no\n"))
            }
            Step::EndsHere(at) => {
                let of = nth(&self.asks, *at);
                self.owns.extend(of.and_then(|(ask, _)| conversation.ends_here(ask)));
                Ok(())
            }
            Step::OpenOwn => {
                self.owns.extend(conversation.open_own("127.0.0.1", 5432));
                Ok(())
            }
            Step::Own(at, what) => {
                let of = self.owns.len().checked_sub(at + 1).map(|at| self.owns[at]);
                if let Some(number) = of {
                    match what {
                        0 => conversation.own_eof(number),
                        1 => conversation.own_close(number),
                        _ => {
                            let (room, _) = conversation.own_room(number);
                            let bytes = vec![b'o'; room.min(50_000)];
                            conversation.own_say(number, bytes.into());
                        }
                    }
                }
                Ok(())
            }
            Step::Idle(of_terminals) => {
                conversation.idle(*of_terminals);
                Ok(())
            }
        };
        self.act();
        match went_well {
            Ok(()) => true,
            Err(Violation::Inside(_)) => false,
            Err(broken) => panic!("both ends keep to the protocol: {broken}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn p1_p8_nothing_that_two_ends_do_breaks_what_holds(steps in steps()) {
        let mut scene = Scene::default();
        for (index, step) in begun().iter().chain(&steps).enumerate() {
            if !scene.step(index, step) {
                break;
            }
        }
        scene.conversation.finish();
        prop_assert!(scene.conversation.is_quiet());
    }
}
