//! The process that reads SQL and command lines: PostgreSQL's grammar is C, both grammars are others'
//! work, and whatever a text does to them ends here.
//!
//! The daemon starts its own program again with a Unix stream socket as standard input. That process
//! first locks itself in (`lock`) and says that it has; then it answers one task after the other
//! until the socket ends. It is given texts alone, and its answers are checked for size and form and
//! believed for their content: one that a text took over can say what it likes of other texts until
//! it ends, and no more than that.
//!
//! Here is what runs in that process. Does not belong here: the daemon's side (`readers`), how a text
//! is read (`read`), and how a command line is: whoever starts the process has a reader for these
//! ([`run`]).

mod bounds;
pub(crate) mod frame;
mod lock;
pub(crate) mod process;

use std::process::ExitCode;

use chaperone_model::{Reading, Schema, ShellReading};
use frame::{Answer, Frame, Task};
use nix::errno::Errno;

use crate::{lineage, read, template};

/// What such a process is to do, and with which text; and what comes of it.
pub type Work = fn(Asked, &[u8]) -> Vec<u8>;

/// What is asked of such a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To read a text.
    Reading,
    /// To lay it out for a person.
    Layout,
    /// To leave its values out.
    WithoutValues,
    /// To follow its columns: the text is JSON, of the text and of what is known of relations.
    Lineage,
    /// To read a command line, which need not be UTF-8: see [`lines`].
    Line,
}

/// The `main` of the process that reads SQL. Standard input is the daemon's socket.
pub fn worker() -> ExitCode {
    run(answer)
}

/// The same with another way of working: one that reads command lines as well, or, in tests,
/// misbehaves.
pub fn run(work: Work) -> ExitCode {
    match lock::locked_in(move || serve(work)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started this may be gone; then nobody needs to know.
            let _ = send(&frame::encode(error.to_string().as_bytes()));
            ExitCode::FAILURE
        }
    }
}

/// What is answered to [`Asked::Line`].
pub fn lines(reading: &ShellReading) -> Vec<u8> {
    let answer = encode(reading);
    if answer.len() <= frame::ANSWER_MOST {
        return answer;
    }
    encode(&ShellReading::unreadable("it names more than a reading can hold"))
}

/// What is answered to all that is of SQL: see `frame` and `readers`. To anything else nothing is,
/// which the daemon takes for no answer.
pub fn answer(asked: Asked, text: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(text) else { return Vec::new() };
    match asked {
        Asked::Line => Vec::new(),
        Asked::Reading => {
            let (reading, slots) = match bounds::refused(text) {
                Some(why) => (Reading::unreadable(why), None),
                None => read::read_with_slots(text),
            };
            // A bulk of rows may have more slots than all else; nobody would keep them.
            let slots = slots.filter(|_| text.len() <= template::TEXT_MOST);
            let answer = encode(&Answer { reading, slots });
            if answer.len() <= frame::ANSWER_MOST {
                return answer;
            }
            let reading = Reading::unreadable("it names more than a reading can hold");
            encode(&Answer { reading, slots: None })
        }
        Asked::Layout => {
            let layout = bounds::refused(text).is_none().then(|| read::lay_out(text)).flatten();
            encode(&layout.filter(|layout| layout.len() <= frame::ANSWER_MOST / 2))
        }
        Asked::Lineage => {
            let asked = serde_json::from_str::<(String, Schema)>(text).ok();
            let found = asked
                .filter(|(text, _)| bounds::refused(text).is_none())
                .and_then(|(text, schema)| lineage::lineage(&text, &schema));
            let answer = encode(&found);
            if answer.len() <= frame::ANSWER_MOST { answer } else { encode(&None::<()>) }
        }
        Asked::WithoutValues => {
            let can_be_read = bounds::refused(text).is_none();
            let rest = can_be_read.then(|| read::without_values(text)).flatten();
            encode(&rest.filter(|rest| rest.len() <= frame::ANSWER_MOST / 2))
        }
    }
}

/// Serves until the socket ends or cannot be used.
fn serve(work: Work) {
    // Nothing to say is: it is locked in.
    let Ok(()) = send(&frame::encode(b"")) else { return };
    let mut received = Vec::with_capacity(frame::REQUEST_MOST);
    let mut bytes = vec![0; frame::REQUEST_MOST];
    loop {
        let count = match nix::unistd::read(std::io::stdin(), &mut bytes) {
            Ok(0) => return,
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        received.extend_from_slice(&bytes[..count]);
        // There is one task at a time: a frame is all that was received.
        match frame::decode(&received, frame::REQUEST_MOST) {
            Ok(Frame::Part) => {}
            Ok(Frame::Whole(payload)) => {
                let Some((asked, text)) = Task::parse(payload) else { return };
                let answer = frame::encode(&work(asked, text));
                received.clear();
                let Ok(()) = send(&answer) else { return };
            }
            Err(_) => return,
        }
    }
}

fn send(mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // The socket is open for both ways.
        match nix::unistd::write(std::io::stdin(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn encode(answer: &impl serde::Serialize) -> Vec<u8> {
    // No type here has what JSON cannot say; an empty answer is refused by the daemon.
    serde_json::to_vec(answer).unwrap_or_default()
}
