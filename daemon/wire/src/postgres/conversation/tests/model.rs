//! A server that is played by its rules (src/backend/tcop/postgres.c), against clients that send
//! anything in any order: what is recorded is what ran, and nobody waits for ever.

use std::collections::HashMap;

use super::{special::status, *};

/// What became of a command at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Ran(String),
    Failed,
    PassedOver,
}

#[derive(Default)]
struct Server {
    statements: HashMap<String, String>,
    portals: HashMap<String, String>,
    /// Up to the next `Sync`.
    skipping: bool,
    /// A COPY reads, of a simple query or not; its command, and after how many messages it fails.
    copying: Option<(bool, usize, usize)>,
    fails_after: Vec<usize>,
    /// `standard_conforming_strings` is off; it is still to be reported.
    off: bool,
    unreported: bool,
    /// A text with a backslash was read while it was off.
    misread: bool,
    /// Of each command in order.
    fates: Vec<Fate>,
    buffered: Vec<u8>,
    sent: Vec<u8>,
}

impl Server {
    fn answer(&mut self, bytes: &[u8]) {
        self.buffered.extend(bytes);
    }

    fn flush(&mut self) {
        self.sent.append(&mut self.buffered);
    }

    fn ready(&mut self) {
        if std::mem::take(&mut self.unreported) {
            self.answer(&status("standard_conforming_strings", "off"));
        }
        self.portals.clear();
        self.answer(&ready(b"I"));
        self.flush();
    }

    fn fail(&mut self, extended: bool) {
        self.answer(&error());
        self.flush();
        if extended {
            self.skipping = true;
        } else {
            self.ready();
        }
    }

    fn reads(&mut self, text: &str) {
        self.misread |= self.off && text.contains('\\');
    }

    /// Runs a text; answers whether it succeeded at once.
    fn run(&mut self, text: &str, extended: bool, command: usize) -> bool {
        let tag = match text.split(' ').next() {
            Some("DEALLOCATE") => self.statements.remove("s").map(|_| "DEALLOCATE"),
            Some("PREPARE") => {
                let free = !self.statements.contains_key("s");
                free.then(|| self.statements.insert("s".into(), "of SQL".into()));
                free.then_some("PREPARE")
            }
            Some("COPY") => {
                self.answer(&message(b'G', &[0, 0, 0]));
                self.flush();
                let after = self.fails_after.pop().unwrap_or(usize::MAX);
                self.copying = Some((extended, command, after));
                return false;
            }
            Some("SET") => {
                (self.off, self.unreported) = (true, self.unreported || !self.off);
                Some("SET")
            }
            _ if text.contains("f()") => {
                (self.off, self.unreported) = (true, self.unreported || !self.off);
                Some("SELECT 1")
            }
            Some("FAIL" | "chaperone") => None,
            _ => Some("SELECT 1"),
        };
        if let Some(tag) = tag {
            self.answer(&complete(tag));
            self.fates[command] = Fate::Ran(text.into());
        } else {
            self.fates[command] = Fate::Failed;
            self.fail(extended);
        }
        tag.is_some()
    }

    /// One message that reached the server.
    fn take(&mut self, message_bytes: &[u8]) {
        let tag = message_bytes[0];
        let texts: Vec<_> = message_bytes[5..].split(|byte| *byte == 0).collect();
        let text =
            |at: usize| String::from_utf8_lossy(texts.get(at).unwrap_or(&&b""[..])).into_owned();
        let command = self.fates.len();
        if b"QPE".contains(&tag) {
            self.fates.push(Fate::PassedOver);
        }
        if let Some((extended, copy, after)) = self.copying {
            if after == 0 {
                self.copying = None;
                self.fates[copy] = Fate::Failed;
                self.fail(extended);
            } else {
                self.copying = Some((extended, copy, after - 1));
                match tag {
                    b'd' | b'S' | b'H' => {}
                    b'c' => {
                        self.copying = None;
                        self.fates[copy] = Fate::Ran("COPY".into());
                        self.answer(&complete("COPY 1"));
                        if !extended {
                            self.ready();
                        }
                    }
                    _ => {
                        self.copying = None;
                        self.fates[copy] = Fate::Failed;
                        self.fail(extended);
                    }
                }
                return;
            }
        }
        match tag {
            b'S' => {
                self.skipping = false;
                self.ready();
            }
            b'd' | b'c' => {}
            _ if self.skipping => {}
            b'H' => self.flush(),
            b'Q' => {
                self.statements.remove("");
                self.portals.remove("");
                self.reads(&text(0));
                if self.run(&text(0), false, command) {
                    self.ready();
                }
            }
            b'P' => {
                self.reads(&text(1));
                let taken = !text(0).is_empty() && self.statements.contains_key(&text(0));
                if taken || text(1).starts_with("chaperone") {
                    self.fates[command] = Fate::Failed;
                    return self.fail(true);
                }
                self.statements.insert(text(0), text(1));
                self.fates[command] = Fate::Ran(text(1));
                self.answer(&message(b'1', b""));
            }
            b'B' => {
                let taken = !text(0).is_empty() && self.portals.contains_key(&text(0));
                match self.statements.get(&text(1)).cloned() {
                    Some(statement) if !taken => {
                        self.portals.insert(text(0), statement);
                        self.answer(&message(b'2', b""));
                    }
                    _ => self.fail(true),
                }
            }
            b'E' => {
                if let Some(statement) = self.portals.get(&text(0)).cloned() {
                    self.run(&statement, true, command);
                } else {
                    self.fates[command] = Fate::Failed;
                    self.fail(true);
                }
            }
            b'D' if self.statements.contains_key(&text(0)[1..]) => {
                self.answer(&[message(b't', b"\0\0"), message(b'n', b"")].concat());
            }
            b'D' => self.fail(true),
            b'C' => {
                self.statements.remove(&text(0)[1..]);
                self.answer(&message(b'3', b""));
            }
            _ => unreachable!("{tag}"),
        }
    }
}

const TEXTS: [&str; 9] = [
    "SELECT 1",
    "INSERT INTO t VALUES (2)",
    "FAIL",
    "DEALLOCATE s",
    "PREPARE s AS SELECT 3",
    "COPY t FROM STDIN",
    "SET standard_conforming_strings = off",
    "SELECT f()",
    r"SELECT '\'",
];

fn sent() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(TEXTS.to_vec());
    let name = prop::sample::select(vec!["", "s", "s"]);
    let portal = prop::sample::select(vec!["", "", "p"]);
    prop_oneof![
        2 => text.clone().prop_map(query),
        3 => (name.clone(), text).prop_map(|(name, text)| parse(name, text)),
        4 => (portal.clone(), name.clone()).prop_map(|(portal, name)| {
            message(b'B', format!("{portal}\0{name}\0\0\0\0\0\0\0").as_bytes())
        }),
        4 => portal.prop_map(|portal| message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())),
        1 => name.clone().prop_map(|name| message(b'D', format!("S{name}\0").as_bytes())),
        1 => name.prop_map(|name| message(b'C', format!("S{name}\0").as_bytes())),
        5 => Just(sync()),
        // What seldom comes together by chance.
        2 => Just([bind("s"), execute(), sync()].concat()),
        1 => Just([parse("s", "SELECT 1"), sync()].concat()),
        1 => Just([query("DEALLOCATE s"), query("PREPARE s AS SELECT 3")].concat()),
        1 => Just([parse("", "COPY t FROM STDIN"), bind(""), execute(), sync()].concat()),
        1 => Just(message(b'H', b"")),
        1 => Just(message(b'd', b"1\n")),
        2 => Just(message(b'c', b"")),
    ]
}

/// The server takes up to so many of the messages that were forwarded, and what it sends is seen.
fn play(talk: &mut Talk, server: &mut Server, taken: &mut usize, mut count: usize) -> bool {
    while count > 0 {
        let rest = &talk.to_server[*taken..];
        let Some(length) = rest.get(1..5) else { break };
        let length = u32::from_be_bytes(length.try_into().expect("4")) as usize + 1;
        let bytes = rest[..length].to_vec();
        server.take(&bytes);
        *taken += length;
        count -= 1;
        let sent = std::mem::take(&mut server.sent);
        if talk.server(&sent).is_err() {
            return false;
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn p1_what_is_recorded_is_what_ran_and_nobody_waits_for_ever(
        sent in prop::collection::vec((sent(), 0..4_usize), 1..40),
        fails_after in prop::collection::vec(0..4_usize, 0..3),
    ) {
        let mut talk = Talk::ready();
        let mut server = Server { fails_after, ..Server::default() };
        let mut taken = 0;
        let mut goes_on = true;
        for (bytes, count) in &sent {
            goes_on = goes_on
                && talk.client(bytes).is_ok()
                && play(&mut talk, &mut server, &mut taken, *count);
        }
        goes_on = goes_on && play(&mut talk, &mut server, &mut taken, usize::MAX);
        // What the server was sent it takes, though the session has ended.
        let mut unheard = Talk::ready();
        unheard.to_server = talk.to_server.clone();
        let _ = play(&mut unheard, &mut server, &mut taken, usize::MAX);

        if goes_on {
            prop_assert!(talk.up.is_empty(), "the client waits, and so does the server");
            prop_assert!(!server.misread || server.unreported, "a text was read otherwise");
        }
        let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); talk.commands.len()];
        let open = talk.conversation.finish(now());
        let told = talk.events.iter().filter_map(|event| match event {
            Event::Outcome(outcome) => Some(outcome),
            _ => None,
        });
        for outcome in told.chain(&open) {
            let at = usize::try_from(outcome.intent.0).expect("few") - 1;
            outcomes[at].push(outcome.clone());
        }
        let text_of = |number: u64| {
            let prepared = |c: &&Command| c.kind == CommandKind::Prepare && c.statement == Some(number);
            talk.commands.iter().find(prepared).and_then(|c| c.text.clone())
        };
        for (at, command) in talk.commands.iter().enumerate() {
            let fate = server.fates.get(at).unwrap_or(&Fate::PassedOver);
            prop_assert_eq!(outcomes[at].len(), 1, "{:?}: {:?}", command, &outcomes[at]);
            let status = outcomes[at][0].status.as_str();
            let as_it_was = match fate {
                Fate::Ran(_) => ["ok", "unknown"].contains(&status),
                // A stand-in fails as well.
                Fate::Failed => ["error", "refused", "unknown"].contains(&status),
                Fate::PassedOver => ["skipped", "error", "refused", "unknown"].contains(&status),
            };
            prop_assert!(as_it_was, "{command:?}: {fate:?}, and it is told: {status}");
            if let (CommandKind::Execute | CommandKind::Fetch, Some(number), Fate::Ran(ran)) =
                (command.kind, command.statement, fate)
            {
                let text = text_of(number).expect("a text");
                prop_assert!(text.starts_with(ran), "{text} is recorded, and {ran} ran");
            }
        }
    }
}
