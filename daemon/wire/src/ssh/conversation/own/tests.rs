//! Windows, ends and numbers of channels that end here.

use super::*;

/// The agent's number, and the target's.
const A: u32 = 3;
const T: u32 = 9;

fn open() -> Bytes {
    let mut said = message(OPEN);
    said.put_string(b"direct-tcpip");
    said.put_u32(A);
    said.put_u32(1000);
    said.put_u32(500);
    said.put_string(b"db");
    said.put_u32(5432);
    said.put_string(b"127.0.0.1");
    said.put_u32(1);
    said.into()
}

/// A tunnel of the agent's that ends here.
fn begun() -> (Conversation, u32) {
    let mut conversation = Conversation::new();
    conversation.agent(open()).expect("asked");
    let asked = conversation.actions();
    assert!(matches!(asked.as_slice(), [Action::Ask(_)]), "nothing goes to the target: {asked:?}");
    let number = conversation.ends_here(1).expect("it waits");
    let actions = conversation.actions();
    let [Action::ToAgent(said)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(said[0], OPEN_CONFIRMATION);
    (conversation, number)
}

fn of(number: u8, channel: u32) -> Bytes {
    message::of_channel(number, channel).into()
}

fn confirmed(number: u32) -> Bytes {
    let mut said = message::of_channel(OPEN_CONFIRMATION, number);
    said.put_u32(T);
    said.put_u32(100);
    said.put_u32(40);
    said.into()
}

#[test]
fn p1_what_is_said_in_a_tunnel_that_ends_here_reaches_nobody_but_its_reader() {
    let (mut conversation, number) = begun();
    // Without bytes there is nothing to wait for its reader.
    conversation.agent(message::data(number, None, b"").into()).expect("said");
    conversation.agent(message::data(number, None, b"abc").into()).expect("said");
    conversation.agent(of(EOF, number)).expect("said");
    let actions = conversation.actions();
    let said = |said| Action::Own { number, said };
    assert_eq!(actions, [said(Said::Data(Bytes::from_static(b"abc"))), said(Said::Eof)]);
    // It takes what the agent's client takes.
    assert_eq!(conversation.own_room(number), (1000, true));
    conversation.own_say(number, vec![7; 1200].into());
    let lengths: Vec<usize> = conversation
        .actions()
        .iter()
        .map(|action| match action {
            Action::ToAgent(payload) => read_data(payload).expect("data").1.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((lengths, conversation.own_room(number).0), (vec![500, 500], 0));
    conversation.agent(message::window_adjust(number, 10).into()).expect("more");
    assert_eq!(conversation.own_room(number).0, 10);
    conversation.own_eof(number);
    conversation.own_close(number);
    assert_eq!(
        conversation.actions(),
        [Action::ToAgent(of(EOF, A)), Action::ToAgent(of(CLOSE, A))]
    );
    assert!(!conversation.is_quiet());
    conversation.agent(of(CLOSE, number)).expect("closed");
    assert_eq!(conversation.actions(), [said(Said::Closed), Action::Closed { command: 1 }]);
    assert!(conversation.is_quiet());
    assert!(conversation.agent(of(EOF, number)).is_err(), "it is gone");
}

#[test]
fn p8_a_sender_is_granted_no_more_than_its_reader_takes() {
    let (mut conversation, number) = begun();
    let piece: Bytes = message::data(number, None, &vec![0; 32 * 1024]).into();
    for _ in 0..8 {
        conversation.agent(piece.clone()).expect("granted");
    }
    assert!(conversation.agent(piece.clone()).is_err(), "more than the window");
    let (mut conversation, number) = begun();
    for _ in 0..4 {
        conversation.agent(piece.clone()).expect("granted");
    }
    conversation.actions();
    conversation.own_took(number, 100 * 1024);
    assert!(conversation.actions().is_empty());
    conversation.own_took(number, 28 * 1024);
    let more = Action::ToAgent(message::window_adjust(A, 128 * 1024).into());
    assert_eq!(conversation.actions(), [more]);
    for _ in 0..8 {
        conversation.agent(piece.clone()).expect("granted");
    }
    assert!(conversation.agent(piece).is_err());
}

#[test]
fn channels_are_opened_to_the_target_and_closed_whenever_that_is_said() {
    let mut conversation = Conversation::new();
    let number = conversation.open_own("db", 5432).expect("room");
    assert!(
        matches!(conversation.actions().as_slice(), [Action::ToTarget(said)] if said[0] == OPEN)
    );
    assert_eq!(conversation.own_room(number), (0, false), "not yet");
    conversation.target(confirmed(number)).expect("opened");
    assert_eq!(conversation.actions(), [Action::Own { number, said: Said::Opened }]);
    conversation.own_say(number, vec![1; 50].into());
    assert_eq!((conversation.actions().len(), conversation.own_room(number).0), (2, 50));
    conversation.target(of(CLOSE, number)).expect("closed");
    let closed = Action::Own { number, said: Said::Closed };
    assert_eq!(conversation.actions(), [closed, Action::ToTarget(of(CLOSE, T))]);
    assert!(conversation.is_quiet());
    // Given up before it is open.
    let number = conversation.open_own("db", 5432).expect("room");
    conversation.own_close(number);
    conversation.actions();
    conversation.target(confirmed(number)).expect("opened");
    assert_eq!(conversation.actions(), [Action::ToTarget(of(CLOSE, T))]);
    conversation.target(of(CLOSE, number)).expect("closed");
    assert!(conversation.is_quiet());
    // Not opened at all.
    let number = conversation.open_own("db", 5432).expect("room");
    conversation.actions();
    let mut no = message::of_channel(OPEN_FAILURE, number);
    no.put_u32(2);
    no.put_string(b"refused");
    no.put_string(b"");
    conversation.target(no.into()).expect("said");
    let refused = Action::Own { number, said: Said::Refused("refused".into()) };
    assert_eq!(conversation.actions(), [refused]);
    assert!(conversation.is_quiet());
}

#[test]
fn p8_numbers_of_this_side_are_nobody_elses() {
    let (mut conversation, number) = begun();
    // The target cannot open a channel under it, nor speak on it.
    assert!(conversation.target(message::data(number, None, b"x").into()).is_err());
    let own = conversation.open_own("db", 5432).expect("room");
    assert_ne!(own, number);
    assert!(conversation.agent(message::data(own, None, b"x").into()).is_err());
    let mut again = message(OPEN);
    again.put_string(b"session");
    again.put_u32(own);
    again.put_u32(1000);
    again.put_u32(500);
    assert!(conversation.agent(again.into()).is_err(), "the target knows another by it");
    for _ in 0..MOST {
        conversation.open_own("db", 5432);
    }
    assert!(conversation.open_own("db", 5432).is_none() && !conversation.has_room_for_own());
}

#[test]
fn a_question_on_a_channel_that_ends_here_has_an_answer() {
    let (mut conversation, number) = begun();
    let mut asks = message::of_channel(REQUEST, number);
    asks.put_string(b"keepalive@openssh.com");
    asks.put_bool(true);
    conversation.agent(asks.into()).expect("asked");
    assert_eq!(conversation.actions(), [Action::ToAgent(of(FAILURE, A))]);
}
