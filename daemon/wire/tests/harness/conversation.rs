//! Both sides of a conversation, from hostile peers: hostile bytes cost their session and no more.

use std::time::Duration;

use chaperone_model::{Seq, Timestamp};
use chaperone_wire::postgres::{
    Allowed, Asks, ClientStep, Conversation, Limits, Now, Rules, SigningOn, first_packet,
};

/// The input is pieces: a byte says whose turn it is and how long the piece is. Beyond the absence
/// of panics: counts never exceed what is there, and a message that is too long is not held.
pub(crate) fn play(input: &[u8]) {
    let _ = first_packet(input);
    let limits = Limits { message: 4096, response: 512, parameters: 64 };
    let now = Now { wall: Timestamp(0), monotonic: Duration::ZERO };
    // The first byte says which rules hold, and whether the sign-on is played as well.
    let Some((&choice, input)) = input.split_first() else { return };
    let sign_on = if choice & 1 == 0 { SigningOn::Relayed } else { SigningOn::Held };
    let rules = Rules { sign_on, replication: choice & 2 != 0 };
    let mut conversation = Conversation::new(limits, rules);
    let signed_on = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    let (mut up, mut down) = (Vec::new(), Vec::new());
    if choice & 4 == 0 {
        down.extend(signed_on);
    }
    let (mut seq, mut rest) = (0, input);
    while let Some((&head, bytes)) = rest.split_first() {
        let (piece, later) = bytes.split_at(usize::from(head >> 1).min(bytes.len()));
        rest = later;
        if head & 1 == 0 {
            up.extend(piece);
        } else {
            down.extend(piece);
        }
        let mut events = Vec::new();
        loop {
            let Ok(step) = conversation.server(&down, now, &mut events) else { return };
            assert!(step.pass <= down.len());
            down.drain(..step.pass);
            let Some((length, _)) = step.replace else { break };
            assert!(length <= down.len());
            down.drain(..length);
        }
        loop {
            match conversation.client(&up) {
                Err(_) | Ok(ClientStep::Terminate(_) | ClientStep::Refuse(_)) => return,
                Ok(ClientStep::Need(_) | ClientStep::Wait) => break,
                Ok(ClientStep::Pass(count) | ClientStep::Discard(count)) => {
                    assert!((1..=up.len()).contains(&count));
                    up.drain(..count);
                }
                Ok(ClientStep::Command { length, command, objection }) => {
                    up.drain(..length);
                    // Some prepared statements are asked for again with each Bind.
                    let asks = command.text.filter(|text| text.len() % 2 == 1);
                    let asks = asks.map(|text| Asks { text: text.into(), digest: [0; 32] });
                    match objection {
                        None => conversation.allowed(Allowed { asks, ..Allowed::default() }),
                        Some(refusal) => drop(conversation.refused(refusal)),
                    }
                    seq += 1;
                    conversation.recorded([Seq(seq)], now, &mut events);
                }
            }
        }
        // The head of a message that is too long is waited for, to be recorded.
        assert!(up.len() <= 5 + (8 << 10), "a message that is too long is held");
    }
    let _ = conversation.finish(now);
}
