//! What goes on when, and who is told what.

use bytes::Bytes;

use super::{
    super::{
        codec::{Put, message},
        message::*,
    },
    *,
};

/// The agent's number of a channel, and the target's.
const A: u32 = 3;
const T: u32 = 9;
const WINDOW: u32 = 1000;

fn open(kind: &str, body: &[u8]) -> Bytes {
    let mut said = message(OPEN);
    said.put_string(kind.as_bytes());
    said.put_u32(A);
    said.put_u32(WINDOW);
    said.put_u32(500);
    said.put(body);
    said.into()
}

fn confirm() -> Bytes {
    let mut said = of_channel(OPEN_CONFIRMATION, A);
    said.put_u32(T);
    said.put_u32(WINDOW);
    said.put_u32(500);
    said.into()
}

fn request(kind: &str, wants_reply: bool, body: &[u8]) -> Bytes {
    let mut said = of_channel(REQUEST, T);
    said.put_string(kind.as_bytes());
    said.put_bool(wants_reply);
    said.put(body);
    said.into()
}

fn exec(line: &str) -> Bytes {
    let mut body = Vec::new();
    body.put_string(line.as_bytes());
    request("exec", true, &body)
}

fn started() -> Conversation {
    let mut conversation = Conversation::new();
    conversation.agent(open("session", b"")).expect("opened");
    conversation.target(confirm()).expect("confirmed");
    conversation.actions();
    conversation
}

/// The number of each message to an end.
fn to_agent(actions: &[Action]) -> Vec<u8> {
    let of = |action: &Action| match action {
        Action::ToAgent(payload) => payload.first().copied(),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn to_target(actions: &[Action]) -> Vec<u8> {
    let of = |action: &Action| match action {
        Action::ToTarget(payload) => payload.first().copied(),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn asked(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Ask(ask) => Some(ask.number),
        _ => None,
    })
}

#[test]
fn p1_nothing_of_a_command_goes_on_before_it_is_allowed() {
    let mut conversation = started();
    conversation.agent(exec("rm x")).expect("asked");
    // What it reads comes at once, and so does its end.
    conversation.agent(data(T, None, b"input").into()).expect("sent");
    conversation.agent(of_channel(EOF, T).into()).expect("sent");
    let actions = conversation.actions();
    assert!(to_target(&actions).is_empty());
    let ask = asked(&actions).expect("a command");
    conversation.allowed(ask, Inner::Plain).expect("goes on");
    let actions = conversation.actions();
    assert_eq!(to_target(&actions), [REQUEST, DATA, EOF]);
    // Allowed twice, it goes on once.
    conversation.allowed(ask, Inner::Plain).expect("known");
    assert_eq!(conversation.actions(), []);
}

#[test]
fn p1_what_is_refused_fails_with_its_reason_and_never_comes_to_the_target() {
    let mut conversation = started();
    conversation.agent(exec("rm x")).expect("asked");
    conversation.agent(data(T, None, b"input").into()).expect("sent");
    let ask = asked(&conversation.actions()).expect("a command");
    conversation.refused(ask, "no\n").expect("told");
    let actions = conversation.actions();
    assert_eq!(to_agent(&actions), [SUCCESS, EXTENDED_DATA, REQUEST, EOF, CLOSE]);
    assert!(to_target(&actions).is_empty());
    // What comes behind it belongs to nothing.
    conversation.agent(data(T, None, b"more").into()).expect("sent");
    conversation.agent(exec("rm y")).expect("sent");
    conversation.agent(of_channel(CLOSE, T).into()).expect("closed");
    let actions = conversation.actions();
    assert_eq!((to_target(&actions), asked(&actions)), (vec![CLOSE], None));
    conversation.target(of_channel(CLOSE, A).into()).expect("closed");
    assert!(conversation.is_quiet());
}

#[test]
fn a_command_whose_client_leaves_is_withdrawn() {
    let mut conversation = started();
    conversation.agent(exec("rm x")).expect("asked");
    let ask = asked(&conversation.actions()).expect("a command");
    conversation.agent(of_channel(CLOSE, T).into()).expect("closed");
    let actions = conversation.actions();
    assert!(actions.contains(&Action::Withdrawn { ask }));
    assert_eq!(to_target(&actions), [CLOSE]);
    conversation.allowed(ask, Inner::Plain).expect("too late");
    assert!(to_target(&conversation.actions()).is_empty());
}

#[test]
fn answers_come_in_the_order_of_their_questions() {
    let mut conversation = started();
    let mut variable = Vec::new();
    variable.put_string(b"TOLD");
    variable.put_string(b"x");
    conversation.agent(request("env", true, &variable)).expect("asked");
    conversation.agent(request("nonsense@example", true, b"")).expect("asked");
    let actions = conversation.actions();
    // Ours is known first, and waits for the target's.
    assert_eq!((to_target(&actions), to_agent(&actions)), (vec![REQUEST], vec![]));
    assert!(actions.iter().any(|action| matches!(action, Action::Unknown { .. })));
    conversation.target(of_channel(SUCCESS, A).into()).expect("answered");
    assert_eq!(to_agent(&conversation.actions()), [SUCCESS, FAILURE]);
    // An answer without a question breaks the protocol.
    assert!(conversation.target(of_channel(SUCCESS, A).into()).is_err());
}

#[test]
fn p8_more_than_was_granted_ends_it_from_either_end() {
    let mut conversation = started();
    conversation.agent(data(T, None, &[0; 500]).into()).expect("granted");
    conversation.agent(data(T, None, &[0; 500]).into()).expect("granted");
    let told = conversation.agent(data(T, None, b"x").into());
    assert_eq!(told, Err(Violation::Window(T)));
    let mut conversation = started();
    for _ in 0..2 {
        conversation.target(data(A, None, &[0; 500]).into()).expect("granted");
    }
    assert_eq!(conversation.target(data(A, None, b"x").into()), Err(Violation::Window(A)));
}

#[test]
fn p8_a_window_is_passed_on_from_end_to_end() {
    let mut conversation = started();
    conversation.agent(window_adjust(T, 700).into()).expect("granted");
    conversation.target(window_adjust(A, 800).into()).expect("granted");
    let actions = conversation.actions();
    let expected = [
        Action::ToTarget(window_adjust(T, 700).into()),
        Action::ToAgent(window_adjust(A, 800).into()),
    ];
    assert_eq!(actions, expected);
    // While a command waits, nothing more is granted for what waits behind it.
    conversation.agent(exec("sleep 1")).expect("asked");
    conversation.actions();
    conversation.agent(data(T, None, &[0; 500]).into()).expect("granted");
    assert!(to_agent(&conversation.actions()).is_empty());
}

#[test]
fn p2_a_target_opens_only_what_was_asked_for_and_allowed() {
    let from_target = |kind: &str, body: &[u8]| {
        let mut said = message(OPEN);
        said.put_string(kind.as_bytes());
        said.put_u32(T + 1);
        said.put_u32(WINDOW);
        said.put_u32(500);
        said.put(body);
        Bytes::from(said)
    };
    let mut place = Vec::new();
    place.put_string(b"localhost");
    place.put_u32(8080);
    let mut forwarded = place.clone();
    forwarded.put_string(b"127.0.0.1");
    forwarded.put_u32(50_000);
    for kind in ["session", "x11", "auth-agent@openssh.com", "forwarded-tcpip", "direct-tcpip"] {
        let mut conversation = started();
        conversation.target(from_target(kind, &forwarded)).expect("refused");
        let actions = conversation.actions();
        assert_eq!((to_agent(&actions), to_target(&actions)), (vec![], vec![OPEN_FAILURE]));
    }
    let mut conversation = started();
    let mut listen = message(GLOBAL_REQUEST);
    listen.put_string(b"tcpip-forward");
    listen.put_bool(true);
    listen.put(&place);
    conversation.agent(listen.into()).expect("asked");
    let ask = asked(&conversation.actions()).expect("a command");
    conversation.allowed(ask, Inner::Plain).expect("goes on");
    assert_eq!(to_target(&conversation.actions()), [GLOBAL_REQUEST]);
    conversation.target(from_target("forwarded-tcpip", &forwarded)).expect("opened");
    assert_eq!(to_agent(&conversation.actions()), [OPEN]);
    // That is not a leave for anything else.
    conversation.target(from_target("x11", &forwarded)).expect_err("the number is taken");
}

#[test]
fn p8_messages_about_nothing_end_it() {
    for said in [data(T + 1, None, b"x"), of_channel(CLOSE, 0), message(200), Vec::new()] {
        assert!(started().agent(said.clone().into()).is_err(), "{said:?}");
        assert!(started().target(said.into()).is_err());
    }
    // A length that lies.
    let mut said = data(T, None, b"x");
    said.truncate(said.len() - 1);
    assert!(started().agent(said.into()).is_err());
}

#[test]
fn p1_an_operation_of_sftp_stops_its_channel_until_it_is_decided() {
    let mut conversation = started();
    let mut body = Vec::new();
    body.put_string(b"sftp");
    conversation.agent(request("subsystem", true, &body)).expect("asked");
    let ask = asked(&conversation.actions()).expect("a command");
    conversation.allowed(ask, Inner::Sftp).expect("goes on");
    conversation.target(of_channel(SUCCESS, A).into()).expect("answered");
    let packet = |kind: u8, body: &[u8]| {
        let mut packet = Vec::new();
        packet.put_u32(u32::try_from(body.len() + 1).expect("short"));
        packet.push(kind);
        packet.put(body);
        packet
    };
    conversation.agent(data(T, None, &packet(1, &[0, 0, 0, 3])).into()).expect("sent");
    conversation.target(data(A, None, &packet(2, &[0, 0, 0, 3])).into()).expect("sent");
    conversation.actions();
    let mut remove = vec![0, 0, 0, 7];
    remove.put_string(b"/etc/passwd");
    conversation.agent(data(T, None, &packet(13, &remove)).into()).expect("sent");
    let actions = conversation.actions();
    assert!(to_target(&actions).is_empty());
    let ask = asked(&actions).expect("a command");
    conversation.refused(ask, "no").expect("told");
    let actions = conversation.actions();
    // The client is told inside the stream, and has its window back.
    assert_eq!((to_target(&actions), to_agent(&actions)), (vec![], vec![DATA, WINDOW_ADJUST]));
}

#[test]
fn how_a_program_ended_is_told_to_a_client_that_has_closed_its_side() {
    let mut conversation = started();
    conversation.agent(exec("true")).expect("asked");
    let ask = asked(&conversation.actions()).expect("an ask");
    conversation.allowed(ask, Inner::Plain).expect("allowed");
    conversation.target(of_channel(SUCCESS, A).into()).expect("it runs");
    conversation.agent(of_channel(CLOSE, T).into()).expect("closed");
    assert_eq!(to_agent(&conversation.actions()), [SUCCESS]);
    conversation.target(exit_status(A, 7).into()).expect("ended");
    conversation.target(of_channel(CLOSE, A).into()).expect("closed");
    let actions = conversation.actions();
    assert_eq!(to_agent(&actions), [REQUEST, CLOSE]);
    assert!(actions.contains(&Action::Exited { command: ask, exit: Exit::Status(7) }));
    assert!(conversation.is_quiet());
}

#[test]
fn a_forward_that_the_target_refuses_is_known_as_such() {
    let mut conversation = Conversation::new();
    let mut asks = message(GLOBAL_REQUEST);
    asks.put_string(b"tcpip-forward");
    asks.put_bool(true);
    asks.put_string(b"localhost");
    asks.put_u32(80);
    conversation.agent(asks.into()).expect("asked");
    let ask = asked(&conversation.actions()).expect("an ask");
    conversation.allowed(ask, Inner::Plain).expect("allowed");
    conversation.target(Bytes::from_static(&[REQUEST_FAILURE])).expect("refused");
    let rejected =
        |action: &Action| matches!(action, Action::Rejected { command, .. } if *command == ask);
    assert!(conversation.actions().iter().any(rejected));
    // Nothing can be opened for it any more.
    let mut opens = message(OPEN);
    opens.put_string(b"forwarded-tcpip");
    for number in [T, WINDOW, 500] {
        opens.put_u32(number);
    }
    opens.put_string(b"localhost");
    opens.put_u32(80);
    conversation.target(opens.into()).expect("answered");
    assert_eq!(to_target(&conversation.actions()), [OPEN_FAILURE]);
}

/// Holds so many of the last bytes back until it is told to let go, and says all in capitals.
#[derive(Debug)]
struct Slow {
    kept: Vec<u8>,
    most: usize,
}

impl Filter for Slow {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.kept.extend_from_slice(&bytes.to_ascii_uppercase());
        let more = self.kept.len().saturating_sub(self.most);
        out.extend(self.kept.drain(..more));
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.kept);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.flush(out);
    }

    fn waiting(&self) -> usize {
        self.kept.len()
    }
}

fn slow(most: usize) -> Filters {
    let one = || Box::new(Slow { kept: Vec::new(), most });
    Filters { out: one(), err: one() }
}

#[test]
fn p5_what_a_filter_holds_back_goes_on_when_nothing_more_comes() {
    let mut conversation = started();
    conversation.agent(exec("say")).expect("asked");
    let ask = asked(&conversation.actions()).expect("an ask");
    conversation.filter(ask, slow(usize::MAX));
    conversation.allowed(ask, Inner::Plain).expect("allowed");
    conversation.target(of_channel(SUCCESS, A).into()).expect("it runs");
    conversation.actions();
    let say = |text: &[u8]| Bytes::from(data(A, None, text));
    conversation.target(say(b"one ")).expect("said");
    assert!(conversation.actions().iter().all(|action| !matches!(action, Action::Passed { .. })));
    assert!(conversation.holds_back(false) && !conversation.holds_back(true));
    // Something came since it was last asked.
    conversation.idle(false);
    assert!(conversation.actions().is_empty());
    conversation.idle(true);
    conversation.idle(false);
    let passed = |actions: &[Action]| {
        let of = |action: &Action| match action {
            Action::Passed { bytes, .. } => Some(bytes.clone()),
            _ => None,
        };
        actions.iter().find_map(of)
    };
    assert_eq!(passed(&conversation.actions()).as_deref(), Some(&b"ONE "[..]));
    assert!(!conversation.holds_back(false));
    conversation.target(say(b"two")).expect("said");
    conversation.actions();
    conversation.target(of_channel(EOF, A).into()).expect("said");
    let actions = conversation.actions();
    assert_eq!(passed(&actions).as_deref(), Some(&b"TWO"[..]));
    assert_eq!(to_agent(&actions), [DATA, EOF]);
}

#[test]
fn a_number_is_another_channels_once_both_ends_have_closed_it() {
    let forwarded = |number: u32| {
        let mut opens = message(OPEN);
        opens.put_string(b"auth-agent@openssh.com");
        for number in [number, WINDOW, 500] {
            opens.put_u32(number);
        }
        Bytes::from(opens)
    };
    let mut conversation = started();
    conversation.agent(request("auth-agent-req@openssh.com", false, b"")).expect("asked");
    let ask = asked(&conversation.actions()).expect("an ask");
    conversation.allowed(ask, Inner::Plain).expect("allowed");
    conversation.target(forwarded(40)).expect("opened");
    let mut confirms = of_channel(OPEN_CONFIRMATION, 40);
    for number in [50, WINDOW, 500] {
        confirms.put_u32(number);
    }
    conversation.agent(confirms.into()).expect("confirmed");
    conversation.actions();
    conversation.target(of_channel(CLOSE, 50).into()).expect("closed");
    // The target is answered by the client alone: it may not use the number before.
    let actions = conversation.actions();
    assert_eq!((to_agent(&actions), to_target(&actions)), (vec![CLOSE], vec![]));
    conversation.agent(of_channel(CLOSE, 40).into()).expect("closed");
    assert_eq!(to_target(&conversation.actions()), [CLOSE]);
    conversation.target(forwarded(40)).expect("the number is free");
    assert_eq!(to_agent(&conversation.actions()), [OPEN]);
}

#[test]
fn a_client_may_use_the_number_of_what_was_refused_before_the_target_has_closed_it() {
    let mut conversation = started();
    conversation.agent(exec("rm -rf /")).expect("asked");
    let ask = asked(&conversation.actions()).expect("an ask");
    conversation.refused(ask, "no\n").expect("refused");
    let actions = conversation.actions();
    assert_eq!(to_agent(&actions), [SUCCESS, EXTENDED_DATA, REQUEST, EOF, CLOSE]);
    assert!(to_target(&actions).is_empty());
    conversation.agent(of_channel(CLOSE, T).into()).expect("closed");
    conversation.agent(open("session", b"")).expect("the same number again");
    assert_eq!(to_target(&conversation.actions()), [CLOSE, OPEN]);
    // The target need not say first that the old one is closed.
    let mut agrees = of_channel(OPEN_CONFIRMATION, A);
    for number in [T + 1, WINDOW, 500] {
        agrees.put_u32(number);
    }
    conversation.target(agrees.into()).expect("confirmed");
    conversation.target(of_channel(CLOSE, A).into()).expect("closed");
    let mut runs = of_channel(REQUEST, T + 1);
    runs.put_string(b"exec");
    runs.put_bool(true);
    runs.put_string(b"true");
    conversation.agent(runs.into()).expect("asked");
    let actions = conversation.actions();
    assert_eq!(to_agent(&actions), [OPEN_CONFIRMATION]);
    assert!(asked(&actions).is_some());
    // One that is open is not given away.
    assert!(conversation.agent(open("session", b"")).is_err());
}

fn terminal() -> Bytes {
    let mut body = Vec::new();
    body.put_string(b"xterm");
    for number in [80, 24, 0, 0] {
        body.put_u32(number);
    }
    body.put_string(b"");
    request("pty-req", true, &body)
}

fn subsystem(name: &str) -> Bytes {
    let mut body = Vec::new();
    body.put_string(name.as_bytes());
    request("subsystem", true, &body)
}

fn variable(name: &str, value: &str) -> Bytes {
    let mut body = Vec::new();
    body.put_string(name.as_bytes());
    body.put_string(value.as_bytes());
    request("env", true, &body)
}

#[test]
fn p1_sftp_is_not_spoken_through_a_terminal() {
    for (has_terminal, objects) in [(true, true), (false, false)] {
        let mut conversation = started();
        if has_terminal {
            conversation.agent(terminal()).expect("asked");
        }
        conversation.agent(subsystem("sftp")).expect("asked");
        let actions = conversation.actions();
        let objection = actions.iter().find_map(|action| match action {
            Action::Ask(ask) => Some(ask.objection.is_some()),
            _ => None,
        });
        assert_eq!(objection, Some(objects));
    }
}

#[test]
fn p1_a_variable_that_nobody_sees_does_not_reach_the_program() {
    let mut conversation = started();
    // A long one is known by its hash.
    conversation.agent(variable("LC_LONG", &"x".repeat(400))).expect("asked");
    let long = "x".repeat(100_000);
    conversation.agent(variable("LC_A", &long)).expect("asked");
    assert_eq!(to_target(&conversation.actions()), [REQUEST; 2]);
    let mut sent = 2;
    for _ in 0..100 {
        conversation.agent(variable("LC_B", &long)).expect("asked");
        let actions = conversation.actions();
        let refused = actions.iter().any(|action| matches!(action, Action::Unknown { .. }));
        assert_eq!(to_target(&actions).len(), usize::from(!refused));
        sent += usize::from(!refused);
    }
    assert!((10..20).contains(&sent), "{sent}");
    conversation.agent(exec("ls")).expect("asked");
    let seen = conversation.actions().into_iter().find_map(|action| match action {
        Action::Ask(ask) => Some(ask.environment),
        _ => None,
    });
    let seen = seen.unwrap_or_default();
    assert_eq!(seen.len(), sent);
    assert_eq!(seen[0].1.len(), 400);
    assert!(seen[1].1.contains("100000 bytes, SHA256:"), "{}", seen[1].1.len());
}

#[test]
fn p1_what_runs_gets_neither_a_terminal_nor_variables_behind_its_decision() {
    let mut conversation = started();
    conversation.agent(exec("ls")).expect("asked");
    conversation.agent(terminal()).expect("asked");
    conversation.agent(variable("BASH_ENV", "/tmp/x")).expect("asked");
    let ask = asked(&conversation.actions()).expect("an ask");
    conversation.allowed(ask, Inner::Plain).expect("allowed");
    assert_eq!(to_target(&conversation.actions()), [REQUEST]);
    conversation.target(of_channel(SUCCESS, A).into()).expect("it runs");
    assert_eq!(to_agent(&conversation.actions()), [SUCCESS, FAILURE, FAILURE]);
}

type Flood<'a> = &'a dyn Fn(&mut Conversation) -> Result<(), Violation>;

#[test]
fn p8_what_waits_behind_a_command_is_bounded_whatever_it_is() {
    // Data without bytes cost no window.
    let mut conversation = started();
    conversation.agent(exec("sleep 1")).expect("asked");
    for _ in 0..100_000 {
        conversation.agent(data(T, None, b"").into()).expect("nothing");
    }
    assert!(conversation.channels.values().all(|channel| channel.deferred.is_empty()));
    let floods: [(Flood<'_>, usize); 3] = [
        (&|one| one.agent(variable("LC_A", &"x".repeat(30_000))), 40),
        (&|one| one.agent(request("keepalive@openssh.com", true, b"")), 20_000),
        (&|one| one.agent(of_channel(EOF, T).into()), 20_000),
    ];
    for (flood, most) in floods {
        let mut conversation = started();
        conversation.agent(exec("sleep 1")).expect("asked");
        let count = (0..most).take_while(|_| flood(&mut conversation).is_ok()).count();
        assert!(count > 10 && count < most, "{count}");
    }
    // Of the whole connection.
    let global = |kind: &str, body: &[u8]| {
        let mut said = message(GLOBAL_REQUEST);
        said.put_string(kind.as_bytes());
        said.put_bool(true);
        said.put(body);
        Bytes::from(said)
    };
    let mut listen = Vec::new();
    listen.put_string(b"localhost");
    listen.put_u32(80);
    let mut conversation = started();
    conversation.agent(global("tcpip-forward", &listen)).expect("asked");
    let flood = |one: &mut Conversation| one.agent(global("x@example", &vec![0; 30_000]));
    let count = (0..40).take_while(|_| flood(&mut conversation).is_ok()).count();
    assert!(count > 10 && count < 40, "{count}");
    let mut conversation = started();
    let flood = |one: &mut Conversation| one.agent(global("keepalive@openssh.com", b""));
    let count = (0..5000).take_while(|_| flood(&mut conversation).is_ok()).count();
    assert!(count > 10 && count < 5000, "{count}");
}

#[test]
fn p8_a_client_that_reads_nothing_asks_for_no_more_than_is_bounded() {
    let mut conversation = started();
    conversation.agent(exec("yes")).expect("asked");
    let ask = asked(&conversation.actions()).expect("an ask");
    conversation.filter(ask, slow(usize::MAX));
    conversation.allowed(ask, Inner::Plain).expect("allowed");
    conversation.target(of_channel(SUCCESS, A).into()).expect("it runs");
    // More than its window takes waits here, and answers wait behind it.
    for _ in 0..2 {
        conversation.target(data(A, None, &[b'x'; 500]).into()).expect("said");
    }
    conversation.idle(false);
    conversation.idle(false);
    conversation.channels.values_mut().for_each(|channel| channel.say("told", &mut Vec::new()));
    conversation.actions();
    let mut count = 0;
    let ended = loop {
        let asks = conversation.agent(request("keepalive@openssh.com", true, b""));
        let answers = asks.and_then(|()| conversation.target(of_channel(FAILURE, A).into()));
        count += 1;
        conversation.actions();
        if answers.is_err() || count == 100_000 {
            break answers;
        }
    };
    assert!(matches!(ended, Err(Violation::TooMany(_))), "{ended:?}");
}

#[test]
fn p8_no_end_is_granted_more_than_may_wait_here() {
    let window_of = |payload: &Bytes, at: usize| {
        u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"))
    };
    let mut opens = message(OPEN);
    opens.put_string(b"session");
    opens.put_u32(A);
    opens.put_u32(u32::MAX);
    opens.put_u32(50_000);
    let mut conversation = Conversation::new();
    conversation.agent(opens.into()).expect("opened");
    let [Action::ToTarget(said)] = &conversation.actions()[..] else { panic!("an open") };
    assert_eq!(window_of(said, 16), super::WINDOW);
    let mut agrees = of_channel(OPEN_CONFIRMATION, A);
    agrees.put_u32(T);
    agrees.put_u32(u32::MAX);
    agrees.put_u32(50_000);
    conversation.target(agrees.into()).expect("confirmed");
    let [Action::ToAgent(said)] = &conversation.actions()[..] else { panic!("an agreement") };
    assert_eq!(window_of(said, 9), super::WINDOW);
    // What goes on is granted anew, now and then; what waits is not.
    let piece = Bytes::from(data(T, None, &vec![0; 40_000]));
    let mut granted = 0;
    for _ in 0..200 {
        conversation.agent(piece.clone()).expect("granted");
        let actions = conversation.actions();
        granted += to_agent(&actions).len();
    }
    assert!((1..10).contains(&granted), "{granted}");
    conversation.agent(exec("sleep 1")).expect("asked");
    let most = super::WINDOW as usize / 40_000 + 1;
    let count = (0..200).take_while(|_| conversation.agent(piece.clone()).is_ok()).count();
    assert!(count <= most, "{count}");
}

#[test]
fn p5_time_that_the_client_lets_pass_is_none() {
    let mut conversation = started();
    conversation.agent(exec("cat f")).expect("asked");
    let ask = asked(&conversation.actions()).expect("an ask");
    conversation.filter(ask, slow(3));
    conversation.allowed(ask, Inner::Plain).expect("allowed");
    conversation.target(of_channel(SUCCESS, A).into()).expect("it runs");
    // All that the client takes: what the target says next cannot come.
    for length in [500, 500, 3] {
        conversation.target(data(A, None, &vec![b'x'; length]).into()).expect("said");
    }
    conversation.actions();
    assert!(conversation.target(data(A, None, b"x").into()).is_err(), "it may say more");
    assert!(conversation.holds_back(false));
    for _ in 0..3 {
        conversation.idle(false);
    }
    assert!(conversation.actions().is_empty());
    conversation.agent(window_adjust(T, 100).into()).expect("granted");
    conversation.idle(false);
    conversation.idle(false);
    assert!(!conversation.holds_back(false));
}

#[test]
fn a_listener_goes_on_when_one_of_its_channels_is_closed() {
    let mut conversation = started();
    conversation.agent(request("x11-req", false, b"")).expect("asked");
    let ask = asked(&conversation.actions()).expect("an ask");
    conversation.allowed(ask, Inner::Plain).expect("allowed");
    let mut channels = Vec::new();
    for number in [40, 41] {
        let mut opens = message(OPEN);
        opens.put_string(b"x11");
        for number in [number, WINDOW, 500] {
            opens.put_u32(number);
        }
        conversation.target(opens.into()).expect("opened");
        let mut confirms = of_channel(OPEN_CONFIRMATION, number);
        for number in [number + 10, WINDOW, 500] {
            confirms.put_u32(number);
        }
        conversation.agent(confirms.into()).expect("confirmed");
        conversation.agent(data(number, None, b"x").into()).expect("said");
        let actions = conversation.actions();
        channels.extend(actions.into_iter().filter_map(|action| match action {
            Action::Passed { command, channel, .. } if command == ask => Some(channel),
            _ => None,
        }));
        conversation.agent(of_channel(CLOSE, number).into()).expect("closed");
        conversation.target(of_channel(CLOSE, number + 10).into()).expect("closed");
        let closed = |action: &Action| matches!(action, Action::Closed { .. });
        assert!(!conversation.actions().iter().any(closed));
    }
    assert!(matches!(channels[..], [one, other] if one != other), "{channels:?}");
}
