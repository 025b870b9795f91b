//! One of the two connections: a socket and its transport layer.

use bytes::BytesMut;
use chaperone_wire::ssh::{Taken, Transport, Violation};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::socket::Socket;

/// Bytes that are read at a time.
pub(super) const READ: usize = 64 * 1024;

pub(super) struct Link {
    pub(super) read: ReadHalf<Socket>,
    pub(super) write: WriteHalf<Socket>,
    pub(super) transport: Transport,
    /// What came and was not read.
    pub(super) input: BytesMut,
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the connection was lost: {0}")]
    Lost(#[from] std::io::Error),
    #[error("it was closed")]
    Closed,
    #[error("the other side ended it: {0}")]
    Disconnect(String),
    #[error("{0}")]
    Violation(#[from] Violation),
}

impl Link {
    pub(super) fn new(socket: Socket, transport: Transport) -> Self {
        let (read, write) = split(socket);
        Self { read, write, transport, input: BytesMut::with_capacity(READ) }
    }

    /// The next message that is not the transport's own.
    pub(super) async fn next(&mut self) -> Result<BytesMut, LinkError> {
        loop {
            match self.transport.take(&mut self.input)? {
                Taken::Payload(payload) => return Ok(payload),
                Taken::Disconnect { text, .. } => return Err(LinkError::Disconnect(text)),
                Taken::Need => {}
            }
            self.flush().await?;
            self.input.reserve(READ);
            if self.read.read_buf(&mut self.input).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
    }

    /// Goes on exchanging keys, with what comes next.
    pub(super) async fn settle(&mut self) -> Result<(), LinkError> {
        match self.transport.take(&mut self.input)? {
            Taken::Payload(_) => return Err(LinkError::Closed),
            Taken::Disconnect { text, .. } => return Err(LinkError::Disconnect(text)),
            Taken::Need => {}
        }
        self.flush().await?;
        if self.transport.is_open() {
            return Ok(());
        }
        self.input.reserve(READ);
        if self.read.read_buf(&mut self.input).await? == 0 {
            return Err(LinkError::Closed);
        }
        Ok(())
    }

    /// Sends what is to be sent.
    pub(super) async fn flush(&mut self) -> Result<(), LinkError> {
        while !self.transport.out().is_empty() {
            if self.write.write_buf(self.transport.out()).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
        Ok(())
    }

    /// Sends the last words, and lets the peer read them: a socket that is closed with bytes in it
    /// that nobody read is reset.
    pub(super) async fn farewell(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        self.write.shutdown().await?;
        for _ in 0..64 {
            self.input.clear();
            if self.read.read_buf(&mut self.input).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}
