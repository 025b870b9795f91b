//! What passes through SSH channels, played from both sides.

#[path = "harness/sftp.rs"]
mod harness;

use proptest::prelude::*;

/// Items of a script that name packets which are right, now and then others.
fn item() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![8 => any::<u8>().prop_map(|head| head | 2), 1 => any::<u8>()];
    (head, proptest::collection::vec(any::<u8>(), 0..24)).prop_map(|(head, body)| {
        let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
        [&[head, length][..], &body].concat()
    })
}

/// An open, its handle, and reads, writes and others of it with their answers.
fn exchange() -> impl Strategy<Value = Vec<u8>> {
    // Requests: 1 is OPEN, 2 CLOSE, 3 READ, 4 WRITE, 8 FSETSTAT, 11 REMOVE; the answers are 1
    // STATUS, 2 HANDLE, 3 DATA.
    let right = |kind: u8, side: u8, body: &[u8]| {
        let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
        [&[kind << 2 | 2 | side, length][..], body].concat()
    };
    let turn = prop_oneof![
        any::<u8>()
            .prop_map(move |flags| [right(1, 0, &[flags]), right(2, 1, &[flags & 1])].concat()),
        any::<u8>().prop_map(move |at| [
            right(3, 0, &[at & 7, 1, 2, 3]),
            right(3, 1, &[at & 7, 5])
        ]
        .concat()),
        any::<u8>()
            .prop_map(move |at| [right(4, 0, &[at & 7, 1, 2, 3]), right(1, 1, &[at & 1])].concat()),
        any::<u8>().prop_map(move |at| [right(2, 0, &[at & 1]), right(1, 1, &[0])].concat()),
        Just([right(11, 0, &[0]), right(1, 1, &[0])].concat()),
        item(),
    ];
    proptest::collection::vec(turn, 0..24).prop_map(|turns| turns.concat())
}

proptest! {
    #[test]
    fn p1_p4_sftp_passes_as_it_came_wherever_it_is_cut(
        refuses: u8, cuts: u8, items in prop_oneof![
            exchange(),
            proptest::collection::vec(item(), 0..24).prop_map(|items| items.concat()),
            any::<Vec<u8>>(),
        ],
    ) {
        harness::play(&[&[refuses, cuts][..], &items].concat());
    }
}
