//! The way into the guest: QEMU's guest agent, and QEMU's own monitor, each by lines of JSON.
//!
//! Belongs here: sending a command and reading its answer within a time. Which commands there are
//! is for the callers.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// One end of a Unix socket of QEMU's.
pub(crate) struct Channel {
    stream: UnixStream,
    heard: Vec<u8>,
    /// Of the last synchronisation, so that answers to earlier ones are passed over.
    number: u64,
}

impl Channel {
    /// QEMU listens from its start.
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("QEMU does not listen at {}", path.display()))?;
        Ok(Self { stream, heard: Vec::new(), number: 0 })
    }

    /// Whether the guest's agent answers within this time. What it said before is forgotten.
    pub(crate) fn synchronise(&mut self, limit: Duration) -> Result<bool> {
        self.number += 1;
        let number = self.number;
        // A guest that is not there takes nothing, and QEMU's buffer is small.
        self.stream.set_write_timeout(Some(limit))?;
        if self.say("guest-sync", &json!({ "id": number })).is_err() {
            return Ok(false);
        }
        let end = Instant::now() + limit;
        while let Some(line) = self.line(end)? {
            if line["return"] == json!(number) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends a command; answers what it returns.
    pub(crate) fn call(&mut self, name: &str, arguments: &Value, limit: Duration) -> Result<Value> {
        self.say(name, arguments)?;
        let end = Instant::now() + limit;
        // The monitor greets, and tells of events in between.
        while let Some(mut line) = self.line(end)? {
            if let Some(returned) = line.get_mut("return") {
                return Ok(returned.take());
            }
            if let Some(error) = line.get("error") {
                bail!("{name}: {}", error["desc"].as_str().unwrap_or("it was refused"));
            }
        }
        bail!("{name} was not answered within {} s", limit.as_secs())
    }

    /// Sends a command that is not answered.
    pub(crate) fn say(&mut self, name: &str, arguments: &Value) -> Result<()> {
        let line = format!("{}\n", json!({ "execute": name, "arguments": arguments }));
        self.stream.write_all(line.as_bytes()).context("QEMU does not take a command")
    }

    fn line(&mut self, end: Instant) -> Result<Option<Value>> {
        loop {
            if let Some(length) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=length).collect();
                // A guest that went down amid an answer leaves half a line.
                if let Ok(value) = serde_json::from_slice(&line) {
                    return Ok(Some(value));
                }
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 8192];
            match self.stream.read(&mut bytes) {
                Ok(0) => bail!("QEMU has closed its end"),
                Ok(length) => self.heard.extend(&bytes[..length]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("QEMU cannot be heard"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A channel to an agent that reads a line for each of these and says it.
    fn channel(answers: &'static [&'static str]) -> (tempfile::TempDir, Channel) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let mut byte = [0];
                while stream.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {}
                stream.write_all(answer.as_bytes()).unwrap();
            }
            // Stays open until the other end is closed.
            while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
        });
        (folder, Channel::connect(&path).unwrap())
    }

    #[test]
    fn answers_to_earlier_commands_are_passed_over() {
        let (_folder, mut channel) = channel(&[
            "half a li\n{\"return\": 7}\n{\"return\": 1}\n",
            "{\"return\": {\"a\": 2}}\n",
        ]);
        assert!(channel.synchronise(SOON).unwrap());
        assert_eq!(channel.call("x", &json!({}), SOON).unwrap(), json!({ "a": 2 }));
    }

    #[test]
    fn an_error_is_told_and_silence_is_noticed() {
        let (_folder, mut channel) = channel(&["{\"error\": {\"desc\": \"no such thing\"}}\n", ""]);
        let error = channel.call("x", &json!({}), SOON).unwrap_err();
        assert_eq!(error.to_string(), "x: no such thing");
        assert!(!channel.synchronise(Duration::from_millis(50)).unwrap());
        let error = channel.call("y", &json!({}), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("y was not answered"), "{error}");
    }
}
