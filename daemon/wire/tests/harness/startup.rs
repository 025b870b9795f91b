//! First packets: parse → encode → parse agrees, and it does not matter how much has come when one
//! is looked at.

use chaperone_wire::postgres::{First, first_packet};

/// Beginnings that are looked at one by one: later ones bring nothing new.
const BEGINNINGS: usize = 300;

/// The input is a connection's first bytes.
pub(crate) fn play(input: &[u8]) {
    let whole = first_packet(input);
    // Where a packet needs more bytes, fewer need more as well; what is refused stays refused.
    let mut refused = false;
    for end in 0..input.len().min(BEGINNINGS) {
        match (first_packet(&input[..end]), &whole) {
            (Ok(None), _) => assert!(!refused, "refused, and then not"),
            (Err(_), Err(_)) => refused = true,
            (Err(_), Ok(_)) => panic!("refused, and then not"),
            (Ok(Some((length, first))), Ok(Some(found))) => {
                assert!(length <= end);
                assert_eq!((length, &first), (found.0, &found.1), "read otherwise with more");
            }
            (Ok(Some(_)), _) => panic!("read, and then not"),
        }
    }
    let Ok(Some((length, first))) = whole else { return };
    let (packet, rest) = input.split_at(length);
    match first {
        First::Ssl | First::GssEnc => assert_eq!(length, 8),
        First::Cancel(key) => {
            let again = [&packet[..8], &key.process.to_be_bytes(), &key.secret].concat();
            assert_eq!(again, packet);
        }
        First::Startup(mut startup) => {
            assert_eq!(startup.encode(), packet, "encoded otherwise than it came");
            let _ = startup.objection(false);
            let json: serde_json::Value =
                serde_json::from_str(&startup.to_json()).expect("valid JSON");
            for (name, _) in &startup.parameters {
                let last = json[name].as_array().and_then(|all| all.last()).unwrap_or(&json[name]);
                assert_eq!(last.as_str(), startup.get(name), "shown otherwise than it counts");
            }
            let _ = startup.undecided(&[]);
            let mut lowered = startup.clone();
            if lowered.negotiate().is_none() {
                assert_eq!(lowered, startup);
            }
            assert_eq!(lowered.negotiate(), None, "lowered twice");
            // What is behind the packet serves as a name and a value to be set.
            let Ok(rest) = std::str::from_utf8(rest) else { return };
            let Some((name, value)) = rest.split_once('\0') else { return };
            if name.is_empty() || value.contains('\0') {
                return;
            }
            let before = startup.clone();
            startup.set(name, value);
            let set = startup.encode();
            match first_packet(&set) {
                Ok(Some((length, First::Startup(read)))) => {
                    assert_eq!((length, &read), (set.len(), &startup));
                    assert_eq!(read.get(name), Some(value));
                    for (other, _) in before.parameters.iter().filter(|(n, _)| n != name) {
                        assert_eq!(read.get(other), before.get(other));
                    }
                }
                // It may have become too long, and is then objected to.
                _ => assert!(startup.objection(true).is_some()),
            }
        }
    }
}
