//! The process as a text could make it that took it over.

use std::{fs, os::unix::net::UnixStream, process::Command};

use chaperone_model::{Reading, Rung, ShellReading};
use chaperone_sql::sandbox::{self, Asked};
use nix::{sys::signal, unistd::Pid};

/// Does what the first word of a text says, and reads the others.
pub(crate) fn misbehave(asked: Asked, text: &[u8]) -> Vec<u8> {
    let words = std::str::from_utf8(text).unwrap_or_default();
    match words.split_whitespace().next() {
        Some("abort") => std::process::abort(),
        Some("panic") => panic!("as the text wants it"),
        Some("spin") => loop {
            std::hint::spin_loop();
        },
        Some("exhaust") => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1u8; 16 << 20]);
            }
        }
        Some("overflow") => vec![overflow(0)],
        Some("nonsense") => b"no answer".to_vec(),
        Some("flood") => vec![b' '; 2 << 20],
        Some("empty") => Vec::new(),
        Some("open") => said(fs::File::open("/etc/passwd").is_ok()),
        Some("socket") => said(UnixStream::pair().is_ok()),
        Some("connect") => said(std::net::TcpStream::connect("127.0.0.1:1").is_ok()),
        Some("spawn") => said(Command::new("/bin/true").spawn().is_ok()),
        Some("thread") => said(std::thread::Builder::new().spawn(|| ()).is_ok()),
        Some("kill") => said(signal::kill(Pid::from_raw(1), None).is_ok()),
        Some("list") => said(fs::read_dir("/").is_ok()),
        Some("pipes") => {
            said((0..32).all(|_| nix::unistd::pipe().map(Box::new).map(Box::leak).is_ok()))
        }
        // The lines that it reads are those that are not for it.
        _ if asked == Asked::Line => {
            let mut reading = ShellReading::unreadable(text.escape_ascii().to_string());
            reading.rung = Rung::Read;
            sandbox::lines(&reading)
        }
        _ => sandbox::answer(asked, text),
    }
}

/// A reading that says whether something could be done.
fn said(done: bool) -> Vec<u8> {
    let reading = Reading::unreadable(if done { "it could" } else { "it could not" });
    format!(r#"{{"reading":{},"slots":null}}"#, serde_json::to_string(&reading).expect("JSON"))
        .into_bytes()
}

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
fn overflow(depth: u8) -> u8 {
    let frame = std::hint::black_box([depth; 4096]);
    overflow(depth.wrapping_add(frame[7])).wrapping_add(frame[9])
}
