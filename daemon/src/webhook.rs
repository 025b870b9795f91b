//! Tells a web service of what waits for a person, so that a chat tool can carry it.
//!
//! As Standard Webhooks say (standardwebhooks.com, 1.0.0): each message has an id, a time, and an
//! HMAC-SHA256 over both and the body. What is to be sent is a file until it was taken, so that
//! neither a restart nor a service that is away loses it. It only tells: nobody approves by it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chaperone_control::Hold;
use chaperone_model::HoldEnd;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::{
    approvals::Listener,
    clock,
    outbound::{self, Backoff},
};

/// Messages that wait at most; beyond that the oldest give way.
const MOST: usize = 10_000;

/// Why a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    #[error("the webhook's folder {} cannot be used: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("the webhook's thread cannot be started: {0}")]
    Thread(io::Error),
}

/// Takes messages, and sends them from a thread of its own.
pub(crate) struct Webhook {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Counts messages within a microsecond.
    count: u64,
    ended: bool,
}

impl Webhook {
    /// Begins to send what waits in the folder, and what is told from here on.
    pub(crate) fn start(
        url: String,
        secret: Option<SecretString>,
        folder: &Path,
    ) -> Result<Self, WebhookError> {
        fs::create_dir_all(folder)
            .map_err(|source| WebhookError::Folder { path: folder.into(), source })?;
        let agent = outbound::client();
        let shared = Arc::new(Shared {
            folder: folder.into(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let sender = Sender { shared: shared.clone(), agent, url, secret };
        let thread = thread::Builder::new()
            .name("webhook".into())
            .spawn(move || sender.run())
            .map_err(WebhookError::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn queue(&self, kind: &str, hold: &Hold, more: serde_json::Value) {
        let mut data = serde_json::to_value(hold).unwrap_or_default();
        if let (Some(data), serde_json::Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        let at = jiff::Timestamp::from_microsecond(clock::wall().0).unwrap_or_default();
        let body = serde_json::json!({ "type": kind, "timestamp": at.to_string(), "data": data });
        if let Err(error) = self.shared.put(body.to_string().as_bytes()) {
            tracing::error!(%error, "a message for the webhook could not be kept, and is lost");
        }
    }
}

impl Listener for Webhook {
    fn opened(&self, hold: &Hold) {
        self.queue("hold.opened", hold, serde_json::json!({}));
    }

    fn ended(&self, hold: &Hold, how: HoldEnd, detail: Option<&str>) {
        let kind = format!("hold.{}", how.as_str());
        self.queue(&kind, hold, serde_json::json!({ "detail": detail }));
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.shared.changed.notify_all();
        // A service that is slow is not waited for: what is left is sent after the next start.
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Keeps a message under a name that sorts by time.
    fn put(&self, body: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        let name = format!("{:020}-{:06}.json", clock::wall().0, state.count % 1_000_000);
        let part = self.folder.join(format!("{name}.part"));
        let mut file = File::create(&part)?;
        file.write_all(body)?;
        file.sync_data()?;
        fs::rename(&part, self.folder.join(name))?;
        self.changed.notify_all();
        Ok(())
    }

    /// What waits, oldest first.
    fn waiting(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut names: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        names.sort();
        let excess = names.len().saturating_sub(MOST);
        for path in names.drain(..excess) {
            tracing::warn!(path = %path.display(), "too much waits for the webhook: its oldest message is lost");
            let _ = fs::remove_file(path);
        }
        names
    }
}

struct Sender {
    shared: Arc<Shared>,
    agent: ureq::Agent,
    url: String,
    secret: Option<SecretString>,
}

impl Sender {
    fn run(&self) {
        let mut backoff = Backoff::default();
        loop {
            let mut failed = false;
            for path in self.shared.waiting() {
                let Ok(body) = fs::read(&path) else { continue };
                match self.send(&path, &body) {
                    Ok(()) => {
                        backoff.reset();
                        let _ = fs::remove_file(&path);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the webhook did not take a message; it is sent again");
                        failed = true;
                        break;
                    }
                }
                if self.ended() {
                    return;
                }
            }
            let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.ended {
                return;
            }
            if failed {
                // Messages keep their order: none overtakes one that was not taken.
                let until = std::time::Instant::now() + backoff.next();
                let mut state = state;
                while !state.ended {
                    let left = until.saturating_duration_since(std::time::Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.shared.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            } else if self.shared.waiting().is_empty() {
                drop(self.shared.changed.wait(state));
            }
        }
    }

    fn ended(&self) -> bool {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).ended
    }

    fn send(&self, path: &Path, body: &[u8]) -> Result<(), ureq::Error> {
        // The same each time that it is tried: the receiver can tell repetitions.
        let id = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into());
        let seconds = clock::wall().0.div_euclid(1_000_000);
        let mut request = self
            .agent
            .post(&self.url)
            .content_type("application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", seconds.to_string());
        if let Some(secret) = &self.secret {
            request = request.header("webhook-signature", sign(secret, &id, seconds, body));
        }
        request.send(body).map(drop)
    }
}

/// `v1,` and the HMAC in base64. A secret of the form `whsec_…` is base64 of the key, any other the
/// key itself.
fn sign(secret: &SecretString, id: &str, seconds: i64, body: &[u8]) -> String {
    let secret = secret.expose_secret();
    let decoded = secret.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
    let key = decoded.as_deref().unwrap_or(secret.as_bytes());
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of the specification's reference libraries.
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let signature = sign(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    /// Answers one request with a status; answers its head and body.
    fn serve(listener: &TcpListener, status: &str) -> (String, String) {
        let (mut stream, _) = listener.accept().expect("a request");
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).expect("written");
        (head, String::from_utf8(body).expect("UTF-8"))
    }

    #[test]
    fn what_was_not_taken_is_sent_again_in_order_and_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let secret = || Some(SecretString::from("key".to_owned()));
        let hook = Webhook::start(url.clone(), secret(), folder.path()).expect("started");
        hook.shared.put(b"one").expect("kept");
        let (head, body) = serve(&listener, "503 no");
        assert_eq!(body, "one");
        let id = |head: &str| head.lines().find(|l| l.starts_with("webhook-id")).map(str::to_owned);
        hook.shared.put(b"two").expect("kept");
        let (again, body) = serve(&listener, "200 OK");
        assert_eq!((body.as_str(), id(&head)), ("one", id(&again)));
        assert!(again.contains("webhook-signature: v1,"), "{again}");
        // What was taken is forgotten a moment later.
        while hook.shared.waiting().len() > 1 {
            thread::yield_now();
        }
        drop(hook);
        // The thread may have begun with it.
        let next = thread::spawn(move || {
            let seen = serve(&listener, "500 no").1;
            (seen, serve(&listener, "200 OK").1)
        });
        let hook = Webhook::start(url, secret(), folder.path()).expect("started");
        let (one, two) = next.join().expect("served");
        assert_eq!((one.as_str(), two.as_str()), ("two", "two"));
        drop(hook);
    }
}
