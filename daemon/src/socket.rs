//! What lies below a session's two connections: a TCP socket, or a channel of an SSH session, where the
//! session is inside a tunnel.
//!
//! Does not belong here: TLS (`tls`), and what an SSH session does with its channels (`ssh`).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, duplex},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

/// Bytes that wait between a session and the channel that carries it, in each direction.
const BETWEEN: usize = 64 << 10;

/// See the module's comment.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Channel(Channel),
}

/// The session's end of a channel.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: DuplexStream,
    /// A byte that was looked at and not taken.
    ahead: Option<u8>,
    /// Goes with it, so that the other end sees that nobody reads or writes any more.
    _held: oneshot::Sender<()>,
}

/// The other end of it: what it says goes into the channel, and what comes there is said to it.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) stream: DuplexStream,
    pub(crate) gone: oneshot::Receiver<()>,
}

/// Both ends of a channel.
pub(crate) fn channel() -> (Channel, Carried) {
    let (own, stream) = duplex(BETWEEN);
    let (held, gone) = oneshot::channel();
    (Channel { stream: own, ahead: None, _held: held }, Carried { stream, gone })
}

/// The way to a server through an SSH session: each connection is a channel that the daemon opens there,
/// and always to the same place.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Who opens it.
    pub(crate) ask: mpsc::Sender<Wish>,
    /// As the agent's client named them, and as they are looked up at the far end.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A channel that a session inside wants.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// It, or why there is none.
    pub(crate) answer: oneshot::Sender<Result<Channel, String>>,
}

impl Route {
    /// Connects.
    pub(crate) async fn connect(&self) -> io::Result<Socket> {
        let over = || io::Error::new(io::ErrorKind::NotConnected, "the SSH session has ended");
        let (answer, answered) = oneshot::channel();
        let wish = Wish { host: self.host.clone(), port: self.port, answer };
        self.ask.send(wish).await.map_err(|_| over())?;
        match answered.await.map_err(|_| over())? {
            Ok(channel) => Ok(Socket::Channel(channel)),
            Err(why) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, why)),
        }
    }
}

impl Socket {
    /// Small messages go at once.
    pub(crate) fn set_nodelay(&self) {
        if let Self::Tcp(tcp) = self {
            let _ = tcp.set_nodelay(true);
        }
    }

    /// Looks at the first byte, which stays where it is. `None`: there is none any more.
    pub(crate) async fn peek(&mut self) -> io::Result<Option<u8>> {
        match self {
            Self::Tcp(tcp) => {
                let mut first = [0];
                Ok((tcp.peek(&mut first).await? == 1).then_some(first[0]))
            }
            Self::Channel(channel) => {
                if channel.ahead.is_none() {
                    let mut first = [0];
                    let read = channel.stream.read(&mut first).await?;
                    channel.ahead = (read == 1).then_some(first[0]);
                }
                Ok(channel.ahead)
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Channel(channel) => {
                if buf.remaining() > 0
                    && let Some(first) = channel.ahead.take()
                {
                    buf.put_slice(&[first]);
                    return Poll::Ready(Ok(()));
                }
                Pin::new(&mut channel.stream).poll_read(cx, buf)
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Channel(channel) => Pin::new(&mut channel.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Channel(channel) => Pin::new(&mut channel.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Channel(channel) => channel.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Channel(channel) => Pin::new(&mut channel.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Channel(channel) => Pin::new(&mut channel.stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_looked_at_is_still_read_and_the_end_is_seen() {
        let (channel, mut carried) = channel();
        let mut socket = Socket::Channel(channel);
        carried.stream.write_all(b"abc").await.expect("written");
        assert_eq!(socket.peek().await.expect("looked at"), Some(b'a'));
        assert_eq!(socket.peek().await.expect("looked at"), Some(b'a'));
        let mut all = [0; 3];
        socket.read_exact(&mut all).await.expect("read");
        assert_eq!(&all, b"abc");
        assert!(carried.gone.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Empty));
        drop(socket);
        assert!(carried.gone.await.is_err());
    }
}
