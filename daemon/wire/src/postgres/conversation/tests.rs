use proptest::prelude::*;

use super::*;

mod copy;
mod held;
mod masked;
mod model;
mod names;
mod screened;
mod special;
mod texts;

fn limits() -> Limits {
    Limits { message: 64 << 10, response: 4096, parameters: 1024 }
}

fn now() -> Now {
    Now { wall: Timestamp(7), monotonic: Duration::from_micros(9) }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
    message.extend(body);
    message
}

const RULES: Rules = Rules { sign_on: SigningOn::Relayed, replication: false };

/// A conversation with both lanes, which allows everything and numbers its records from 1.
struct Talk {
    conversation: Conversation,
    up: Vec<u8>,
    down: Vec<u8>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    commands: Vec<Command>,
    events: Vec<Event>,
    deny: bool,
    /// Prepared statements are asked about with each `Bind`, which is approved as hold 99.
    asks: bool,
    /// What masks the results of what is allowed.
    masks: Option<Rc<dyn Masks>>,
    refused: Option<Refusal>,
}

impl Talk {
    fn new() -> Self {
        Self::with(RULES)
    }

    fn with(rules: Rules) -> Self {
        Self {
            conversation: Conversation::new(limits(), rules),
            up: Vec::new(),
            down: Vec::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            commands: Vec::new(),
            events: Vec::new(),
            deny: false,
            asks: false,
            masks: None,
            refused: None,
        }
    }

    fn ready() -> Self {
        let mut talk = Self::new();
        talk.server(&[message(b'R', &[0; 4]), message(b'Z', b"I")].concat()).expect("signed on");
        talk.to_client.clear();
        talk.events.clear();
        talk
    }

    fn client(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.up.extend(bytes);
        self.look()
    }

    fn look(&mut self) -> Result<(), Violation> {
        loop {
            match self.conversation.client(&self.up)? {
                ClientStep::Need(_) | ClientStep::Wait => return Ok(()),
                ClientStep::Pass(count) | ClientStep::Terminate(count) if count == 0 => {
                    return Ok(());
                }
                ClientStep::Pass(count) | ClientStep::Terminate(count) => {
                    self.to_server.extend(self.up.drain(..count));
                }
                ClientStep::Discard(count) => drop(self.up.drain(..count)),
                ClientStep::Refuse(refusal) => {
                    self.refused = Some(refusal);
                    return Ok(());
                }
                ClientStep::Command { length, command, objection } => {
                    let bytes: Vec<u8> = self.up.drain(..length).collect();
                    let text = command.text.clone().filter(|_| self.asks);
                    let asks = text.map(|text| Asks { text: text.into(), digest: [7; 32] });
                    let approval = (command.kind == CommandKind::Bind).then_some(Seq(99));
                    self.commands.push(command);
                    let refusal = objection.or(self.deny.then(|| Refusal::new("42501", "no")));
                    match refusal {
                        None => {
                            self.conversation.allowed(Allowed {
                                asks,
                                approval,
                                masks: self.masks.clone(),
                                ..Allowed::default()
                            });
                            self.to_server.extend(bytes);
                        }
                        Some(refusal) => self.to_server.extend(self.conversation.refused(refusal)),
                    }
                    let seq = Seq(self.commands.len() as u64);
                    self.conversation.recorded([seq], now(), &mut self.events);
                }
            }
        }
    }

    fn server(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.down.extend(bytes);
        loop {
            let step = self.conversation.server(&self.down, now(), &mut self.events)?;
            self.to_client.extend(self.down.drain(..step.pass));
            match step.replace {
                Some((length, with)) => {
                    self.down.drain(..length);
                    self.to_client.extend(with);
                }
                None => break,
            }
        }
        self.look()
    }

    fn outcomes(&mut self) -> Vec<(u64, u32, &'static str)> {
        self.events
            .drain(..)
            .filter_map(|event| match event {
                Event::Outcome(outcome) => {
                    Some((outcome.intent.0, outcome.part, outcome.status.as_str()))
                }
                _ => None,
            })
            .collect()
    }
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), b"\0"].concat())
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

fn bind(name: &str) -> Vec<u8> {
    message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

fn error() -> Vec<u8> {
    message(b'E', b"SERROR\0VERROR\0C42601\0Mwrong\0\0")
}

fn ready(state: &[u8]) -> Vec<u8> {
    message(b'Z', state)
}

#[test]
fn what_is_sent_ahead_of_the_sign_on_waits_for_it() {
    let mut talk = Talk::new();
    talk.client(&query("SELECT 1")).expect("fine");
    assert!(talk.to_server.is_empty());
    talk.server(&[message(b'R', &[0; 4]), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.to_server, query("SELECT 1"));
}

#[test]
fn p8_a_batch_that_fails_takes_its_names_back() {
    let mut talk = Talk::ready();
    talk.client(&[parse("a", "SELECT 1"), sync()].concat()).expect("fine");
    talk.server(&[message(b'1', b""), ready(b"I")].concat()).expect("fine");
    // The first fails, so that the second Parse of "a" never happens.
    talk.client(
        &[
            parse("", "SELEC"),
            message(b'C', b"Sa\0"),
            parse("a", "SELECT 2"),
            bind("a"),
            execute(),
            sync(),
        ]
        .concat(),
    )
    .expect("fine");
    talk.server(&[error(), ready(b"I")].concat()).expect("fine");
    talk.client(&[bind("a"), execute(), sync()].concat()).expect("fine");
    assert_eq!(talk.commands.last().expect("a command").statement, Some(1), "the first \"a\"");
    talk.server(&[message(b'2', b""), complete("SELECT 1"), ready(b"I")].concat()).expect("fine");
    assert_eq!(
        talk.outcomes(),
        [(1, 0, "ok"), (2, 0, "error"), (3, 0, "skipped"), (4, 0, "skipped"), (5, 0, "ok")]
    );
    assert!(talk.conversation.is_at_rest());
}

#[test]
fn p1_what_was_not_answered_is_unknown() {
    let mut talk = Talk::ready();
    talk.client(&[query("SELECT 1"), query("SELECT 2")].concat()).expect("fine");
    talk.server(&[complete("SELECT 1"), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.outcomes(), [(1, 0, "ok")]);
    let open = talk.conversation.finish(now());
    assert_eq!(
        open.iter().map(|o| (o.intent.0, o.status.as_str())).collect::<Vec<_>>(),
        [(2, "unknown")]
    );
}

#[test]
fn p2_a_refused_message_is_replaced_and_its_error_is_ours() {
    for (bytes, state) in
        [(query("DROP TABLE t"), &b"E"[..]), ([parse("", "DROP TABLE t"), sync()].concat(), b"I")]
    {
        let mut talk = Talk::ready();
        talk.deny = true;
        talk.client(&bytes).expect("fine");
        assert!(!talk.to_server.windows(4).any(|w| w == b"DROP"));
        talk.server(&[error(), ready(state)].concat()).expect("fine");
        assert!(talk.to_client.windows(6).any(|w| w == b"C42501"));
        assert!(!talk.to_client.windows(5).any(|w| w == b"wrong"));
        assert_eq!(talk.outcomes(), [(1, 0, "refused")]);
    }
}

#[test]
fn p8_a_message_that_is_too_long_is_refused_without_being_held() {
    let mut talk = Talk::ready();
    let long = query(&"x".repeat(200_000));
    for piece in long.chunks(1000) {
        talk.client(piece).expect("fine");
        assert!(talk.up.len() <= HEADER + GLIMPSE);
    }
    let text = talk.commands[0].text.as_deref().expect("a text");
    assert_eq!(text.len(), GLIMPSE, "as much is recorded however it is cut");
    talk.client(&query("SELECT 1")).expect("fine");
    talk.server(&[error(), ready(b"I"), complete("SELECT 1"), ready(b"I")].concat()).expect("fine");
    assert_eq!(talk.outcomes(), [(1, 0, "refused"), (2, 0, "ok")]);
}

#[test]
fn p8_a_server_that_answers_what_was_not_asked_is_found_out() {
    for bytes in [
        ready(b"I"),
        complete("SELECT 1"),
        message(b'T', &[0, 0]),
        message(b'1', b""),
        message(b'D', &[0, 0]),
    ] {
        assert!(Talk::ready().server(&bytes).is_err(), "{bytes:?}");
    }
    let mut talk = Talk::ready();
    talk.client(&[bind(""), sync()].concat()).expect("fine");
    assert!(talk.server(&message(b'1', b"")).is_err(), "a ParseComplete for a Bind");
}

#[test]
fn p1_what_a_server_passed_over_has_an_outcome_all_the_same() {
    for deny in [false, true] {
        for bytes in [query("SELECT 1"), [execute(), sync()].concat()] {
            let mut talk = Talk::ready();
            talk.deny = deny;
            talk.client(&bytes).expect("fine");
            let passed_over = talk.server(&ready(b"I")).is_err();
            assert!(passed_over || !deny, "a stand-in fails");
            let open = talk.conversation.finish(now());
            assert_eq!(talk.outcomes().len() + open.len(), 1);
        }
    }
}

#[test]
fn a_refusal_is_told_once() {
    let mut talk = Talk::ready();
    talk.deny = true;
    talk.client(&query("DROP TABLE t")).expect("fine");
    let gone = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgone\0\0");
    talk.server(&[error(), gone.clone()].concat()).expect("fine");
    assert!(talk.to_client.ends_with(&gone), "what the server says besides is its own");
    assert_eq!(talk.conversation.finish(now()).len() + talk.outcomes().len(), 1);
}

#[test]
fn p8_a_good_bye_is_nothing_but_that() {
    let long = message(b'X', b"SELECT 1");
    assert!(Talk::ready().client(&long[..7]).is_err());
    assert!(Talk::new().client(&long[..7]).is_err());
}

#[test]
fn p8_commands_behind_a_copy_that_was_not_awaited_end_the_session() {
    let mut talk = Talk::ready();
    talk.client(&[query("COPY t FROM STDIN"), query("SELECT 1")].concat()).expect("fine");
    assert!(talk.server(&message(b'G', &[0, 0, 0])).is_err());
    let mut talk = Talk::ready();
    talk.client(&query("COPY t FROM STDIN")).expect("fine");
    talk.server(&message(b'G', &[0, 0, 0])).expect("fine");
    assert!(talk.client(&query("SELECT 1")).is_err());
}

#[test]
fn p8_too_many_messages_ahead_wait() {
    let mut talk = Talk::ready();
    for _ in 0..AHEAD + 10 {
        talk.client(&sync()).expect("fine");
    }
    assert!(!talk.up.is_empty(), "some wait");
    for _ in 0..AHEAD + 10 {
        talk.server(&ready(b"I")).expect("fine");
    }
    assert!(talk.up.is_empty() && talk.conversation.is_at_rest());
}

#[test]
fn p8_what_is_sent_ahead_holds_little_memory() {
    let mut talk = Talk::ready();
    let parameters =
        message(b'B', &[b"\0\0\0\0\0\x01\0\0\x03\0".as_slice(), &[b'x'; 768], b"\0\0"].concat());
    for _ in 0..AHEAD - 1 {
        talk.client(&parameters).expect("fine");
    }
    let kept = HELD - talk.conversation.parameters.left();
    assert!(kept < 1000, "only the portal that stands holds any");
}

/// What a client may do, with what a server would answer to it.
#[derive(Clone, Debug)]
enum Turn {
    Query(u8),
    Run { fails: bool, rows: u8 },
    Sleepless,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    prop::collection::vec(
        prop_oneof![
            (0..4_u8).prop_map(Turn::Query),
            (any::<bool>(), 0..5_u8).prop_map(|(fails, rows)| Turn::Run { fails, rows }),
            Just(Turn::Sleepless),
        ],
        1..12,
    )
}

fn play(turn: &Turn) -> (Vec<u8>, Vec<u8>, usize) {
    let row = message(b'D', &[0, 1, 0, 0, 0, 1, b'x']);
    match turn {
        Turn::Query(parts) => {
            let mut answer: Vec<u8> = (0..*parts).flat_map(|_| complete("SELECT 0")).collect();
            answer.extend(if *parts == 0 { message(b'I', b"") } else { Vec::new() });
            answer.extend(ready(b"I"));
            (query("SELECT"), answer, usize::from(*parts).max(1))
        }
        Turn::Run { fails: false, rows } => {
            let rows: Vec<u8> = (0..*rows).flat_map(|_| row.clone()).collect();
            let answer =
                [message(b'1', b""), message(b'2', b""), rows, complete("SELECT"), ready(b"I")];
            ([parse("", "x"), bind(""), execute(), sync()].concat(), answer.concat(), 2)
        }
        Turn::Run { fails: true, .. } => (
            [parse("", "x"), bind(""), execute(), sync()].concat(),
            [error(), ready(b"E")].concat(),
            2,
        ),
        Turn::Sleepless => (sync(), ready(b"I"), 0),
    }
}

proptest! {
    /// Whatever way the bytes are cut, the same bytes pass and the same is recorded.
    #[test]
    fn p1_p4_bytes_pass_as_they_are_however_they_are_cut(turns in turns(), cuts in prop::collection::vec(1..40_usize, 1..30)) {
        let (mut asked, mut answered, mut parts) = (Vec::new(), Vec::new(), 0);
        for turn in &turns {
            let (ask, answer, count) = play(turn);
            asked.extend(ask);
            answered.extend(answer);
            parts += count;
        }
        let mut talk = Talk::ready();
        let mut rest = asked.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            talk.client(piece).expect("fine");
            rest = later;
            if rest.is_empty() { break }
        }
        let mut rest = answered.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            talk.server(piece).expect("fine");
            rest = later;
            if rest.is_empty() { break }
        }
        prop_assert_eq!(&talk.to_server, &asked);
        prop_assert_eq!(&talk.to_client, &answered);
        prop_assert_eq!(talk.outcomes().len(), parts);
        prop_assert!(talk.conversation.is_idle());
    }

    #[test]
    fn p8_no_bytes_of_either_side_panic(client: Vec<u8>, server: Vec<u8>, tags in prop::collection::vec((prop::sample::select(b"QPBEDCFSHXdcfpRKZTDtn123sIGHVWAN".to_vec()), prop::collection::vec(any::<u8>(), 0..20)), 0..20)) {
        let mut talk = Talk::ready();
        let _ = talk.client(&client);
        let _ = talk.server(&server);
        let mut talk = Talk::ready();
        for (tag, body) in tags {
            let bytes = message(tag, &body);
            if talk.client(&bytes).is_err() { break }
            if talk.server(&bytes).is_err() { break }
        }
        let _ = talk.conversation.finish(now());
    }
}
