//! One such process, as the daemon holds it: starting it, asking it, ending it. Does not belong here:
//! how many there are and whose turn it is (`readers`).

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::net},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::{Child, Command},
    time,
};

use super::{
    Asked,
    frame::{self, Frame, NoFrame, Task},
};

/// How long it may take until it has locked itself in. A host that has much to do takes its time.
const START: Duration = Duration::from_secs(10);
/// Most answers are shorter: they come with one call.
const USUAL: usize = 4 << 10;
/// What a buffer may keep between two tasks.
const BUFFER: usize = 64 << 10;

/// A process that reads. It ends with this.
#[derive(Debug)]
pub(crate) struct Process {
    socket: UnixStream,
    child: Child,
    buffer: Vec<u8>,
    ready: bool,
}

impl Process {
    /// Starts one, on a thread that lives as long as it: the kernel ends it with its thread. It may
    /// not be locked in yet: see [`Self::ready`].
    pub(crate) fn start(program: &Path, argument: &OsStr) -> io::Result<Self> {
        let (ours, theirs) = net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        let child = Command::new(program)
            .arg(argument)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What a terminal sends to the daemon is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { socket, child, buffer: Vec::new(), ready: false })
    }

    /// Waits until it has locked itself in; or says why it has not.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        if self.ready {
            return Ok(());
        }
        match time::timeout(START, self.receive()).await {
            Ok(Ok(b"")) => {
                self.ready = true;
                Ok(())
            }
            Ok(Ok(why)) => Err(String::from_utf8_lossy(why).into_owned()),
            Ok(Err(_)) => Err("it ended before it was locked in".into()),
            Err(_) => Err("it was not locked in in time".into()),
        }
    }

    /// Whether it has ended, or has said what it was not asked. For one that is locked in.
    pub(crate) fn is_spent(&mut self) -> bool {
        let silent = self.socket.try_read(&mut [0]);
        let silent = silent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        !silent || !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a task. The text has at most [`frame::TEXT_MOST`] bytes.
    pub(crate) async fn send(&mut self, asked: Asked, text: &[u8]) -> io::Result<()> {
        self.clear();
        Task::write(asked, text, &mut self.buffer);
        self.socket.write_all(&self.buffer).await
    }

    /// Waits for the answer to the last task.
    pub(crate) async fn receive(&mut self) -> io::Result<&[u8]> {
        self.clear();
        self.buffer.reserve(USUAL);
        loop {
            match frame::decode(&self.buffer, frame::ANSWER_MOST) {
                Ok(Frame::Whole(_)) => break,
                Ok(Frame::Part) => {}
                Err(NoFrame) => return Err(io::ErrorKind::InvalidData.into()),
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        match frame::decode(&self.buffer, frame::ANSWER_MOST) {
            Ok(Frame::Whole(payload)) => Ok(payload),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Ends it now, and takes leave of it as soon as it has.
    pub(crate) fn end(mut self) {
        // One that has ended already is as good.
        let _ = self.child.start_kill();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { self.child.wait().await });
        }
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
    }
}
