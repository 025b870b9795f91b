//! Tunnels that end here: bytes between the channels of an SSH session and the sessions inside of them.
//!
//! Nothing waits here beyond what the channels' windows let come; a session that does not read stops its
//! own channel and no other. Does not belong here: the channels' messages (`chaperone_wire::ssh`), and
//! the sessions inside.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use chaperone_wire::ssh::Said;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, oneshot},
};

use crate::socket::{Carried, Channel, Route, Wish, channel};

/// Channels that may be asked for before the first of them is dealt with.
const WISHES: usize = 16;
/// Bytes that are taken from a session at a time.
const PIECE: usize = 32 * 1024;
/// Bytes of a piece that is not kept by itself.
const SMALL: usize = 1024;

/// See the module's comment.
pub(super) struct Ends {
    ask: mpsc::Sender<Wish>,
    wishes: mpsc::Receiver<Wish>,
    /// Channels to the target that are not open yet.
    opening: HashMap<u32, oneshot::Sender<Result<Channel, String>>>,
    open: Vec<Open>,
    /// What a session says is read into it.
    piece: Box<[u8]>,
}

/// A channel that is open.
struct Open {
    number: u32,
    carried: Carried,
    /// For the session inside; what came in small pieces is one behind the others.
    incoming: VecDeque<Bytes>,
    small: BytesMut,
    /// No more comes.
    eof: bool,
    shut: bool,
    /// The other side has closed it.
    closed: bool,
    /// The session inside says no more.
    silent: bool,
}

/// What happened.
pub(super) enum Moved {
    /// A session inside wants another channel to the target.
    Wish(Wish),
    /// A session has taken so many bytes of a channel.
    Took { number: u32, count: usize },
    /// A session says this on a channel.
    Says { number: u32, bytes: Bytes },
    /// It says no more.
    Silent { number: u32 },
    /// It is gone.
    Gone { number: u32 },
}

impl Ends {
    pub(super) fn new() -> Self {
        let (ask, wishes) = mpsc::channel(WISHES);
        let (opening, open, piece) = (HashMap::new(), Vec::new(), Box::default());
        Self { ask, wishes, opening, open, piece }
    }

    /// The way of a session inside to its server.
    pub(super) fn route(&self, host: String, port: u16) -> Route {
        Route { ask: self.ask.clone(), host, port }
    }

    /// A channel is open. Answers the end of the session inside.
    pub(super) fn open(&mut self, number: u32) -> Channel {
        let (own, carried) = channel();
        self.open.push(Open {
            number,
            carried,
            incoming: VecDeque::new(),
            small: BytesMut::new(),
            eof: false,
            shut: false,
            closed: false,
            silent: false,
        });
        own
    }

    /// A channel to the target was asked for, and this is its number.
    pub(super) fn opening(
        &mut self,
        number: u32,
        answer: oneshot::Sender<Result<Channel, String>>,
    ) {
        self.opening.insert(number, answer);
    }

    /// Something came of a channel. Answers how many bytes nobody will take.
    pub(super) fn heard(&mut self, number: u32, said: Said) -> usize {
        match said {
            Said::Opened => {
                let Some(answer) = self.opening.remove(&number) else { return 0 };
                let own = self.open(number);
                // Where nobody waits for it any more, it is gone at once.
                let _ = answer.send(Ok(own));
            }
            Said::Refused(why) => {
                if let Some(answer) = self.opening.remove(&number) {
                    let _ = answer.send(Err(why));
                }
            }
            Said::Data(bytes) => match self.of(number) {
                Some(open) => open.comes(bytes),
                None => return bytes.len(),
            },
            Said::Eof => {
                if let Some(open) = self.of(number) {
                    open.eof = true;
                }
            }
            Said::Closed => {
                if let Some(open) = self.of(number) {
                    (open.eof, open.closed) = (true, true);
                }
            }
        }
        0
    }

    fn of(&mut self, number: u32) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.number == number)
    }

    /// What happens next. `room`: how much a channel takes now.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        room: impl Fn(u32) -> usize,
    ) -> Poll<Moved> {
        if let Poll::Ready(Some(wish)) = self.wishes.poll_recv(cx) {
            return Poll::Ready(Moved::Wish(wish));
        }
        for index in 0..self.open.len() {
            let Some(open) = self.open.get_mut(index) else { break };
            let number = open.number;
            if self.piece.is_empty() {
                self.piece = vec![0; PIECE].into();
            }
            let moved = open.poll(cx, room(number), &mut self.piece);
            match moved {
                Poll::Pending => {}
                Poll::Ready(Some(moved)) => {
                    // Others come first the next time.
                    let open = self.open.remove(index);
                    self.open.push(open);
                    return Poll::Ready(moved);
                }
                Poll::Ready(None) => {
                    self.open.remove(index);
                    return Poll::Ready(Moved::Gone { number });
                }
            }
        }
        Poll::Pending
    }
}

impl Open {
    /// Bytes for the session inside. Each piece costs as much as some bytes, however small it is.
    fn comes(&mut self, bytes: Bytes) {
        if bytes.len() < SMALL {
            self.small.extend_from_slice(&bytes);
        } else {
            self.gather();
            self.incoming.push_back(bytes);
        }
    }

    fn gather(&mut self) {
        if !self.small.is_empty() {
            self.incoming.push_back(self.small.split().freeze());
        }
    }

    /// `None`: it is over.
    fn poll(&mut self, cx: &mut Context<'_>, room: usize, piece: &mut [u8]) -> Poll<Option<Moved>> {
        let number = self.number;
        if self.incoming.is_empty() {
            self.gather();
        }
        if let Some(first) = self.incoming.front_mut() {
            match Pin::new(&mut self.carried.stream).poll_write(cx, first) {
                Poll::Ready(Ok(count)) => {
                    first.advance(count);
                    if first.is_empty() {
                        self.incoming.pop_front();
                    }
                    return Poll::Ready(Some(Moved::Took { number, count }));
                }
                // Nobody reads it.
                Poll::Ready(Err(_)) => {
                    self.gather();
                    let count = self.incoming.drain(..).map(|bytes| bytes.len()).sum();
                    return Poll::Ready(Some(Moved::Took { number, count }));
                }
                Poll::Pending => {}
            }
        } else if self.closed {
            return Poll::Ready(None);
        } else if self.eof && !self.shut {
            self.shut = Pin::new(&mut self.carried.stream).poll_shutdown(cx).is_ready();
        }
        if !self.silent && room > 0 {
            let most = room.min(piece.len());
            let mut buffer = ReadBuf::new(&mut piece[..most]);
            match Pin::new(&mut self.carried.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let bytes = Bytes::copy_from_slice(buffer.filled());
                    return Poll::Ready(Some(Moved::Says { number, bytes }));
                }
                Poll::Ready(_) => {
                    self.silent = true;
                    return Poll::Ready(Some(Moved::Silent { number }));
                }
                Poll::Pending => {}
            }
        }
        // What it said last has been taken by then.
        let over = self.silent || self.closed;
        if over && Pin::new(&mut self.carried.gone).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::socket::Socket;

    async fn next(ends: &mut Ends, room: usize) -> Moved {
        poll_fn(|cx| ends.poll(cx, |_| room)).await
    }

    #[tokio::test]
    async fn what_is_said_last_is_heard_before_the_end() {
        let mut ends = Ends::new();
        let mut session = Socket::Channel(ends.open(7));
        assert_eq!(ends.heard(7, Said::Data(Bytes::from_static(b"question"))), 0);
        assert!(matches!(next(&mut ends, 0).await, Moved::Took { number: 7, count: 8 }));
        let mut heard = [0; 8];
        session.read_exact(&mut heard).await.expect("read");
        session.write_all(b"answer").await.expect("written");
        drop(session);
        let Moved::Says { bytes, .. } = next(&mut ends, 4).await else { panic!("nothing") };
        assert_eq!(&bytes[..], b"answ");
        let Moved::Says { bytes, .. } = next(&mut ends, 4).await else { panic!("nothing") };
        assert_eq!(&bytes[..], b"er");
        assert!(matches!(next(&mut ends, 4).await, Moved::Silent { .. }));
        assert!(matches!(next(&mut ends, 4).await, Moved::Gone { number: 7 }));
        assert_eq!(ends.heard(7, Said::Data(Bytes::from_static(b"late"))), 4);
    }

    #[tokio::test]
    async fn a_session_hears_the_end_of_its_channel_behind_all_that_came() {
        let mut ends = Ends::new();
        let mut session = Socket::Channel(ends.open(7));
        ends.heard(7, Said::Data(Bytes::from_static(b"last")));
        ends.heard(7, Said::Closed);
        assert!(matches!(next(&mut ends, 1).await, Moved::Took { .. }));
        assert!(matches!(next(&mut ends, 1).await, Moved::Gone { .. }));
        let mut heard = Vec::new();
        session.read_to_end(&mut heard).await.expect("read");
        assert_eq!(heard, b"last");
        assert!(session.write_all(b"x").await.is_err());
    }

    #[tokio::test]
    async fn a_channel_is_opened_for_who_asks_and_a_refusal_is_told() {
        let mut ends = Ends::new();
        let route = ends.route("db".into(), 5432);
        for opens in [true, false] {
            let asking = tokio::spawn({
                let route = route.clone();
                async move { route.connect().await }
            });
            let Moved::Wish(wish) = next(&mut ends, 0).await else { panic!("nothing") };
            assert_eq!((wish.host.as_str(), wish.port), ("db", 5432));
            ends.opening(9, wish.answer);
            ends.heard(9, if opens { Said::Opened } else { Said::Refused("no way".into()) });
            let answered = asking.await.expect("it ends");
            assert_eq!(answered.is_ok(), opens);
            if let Err(error) = answered {
                assert_eq!(error.to_string(), "no way");
            }
        }
        drop(ends);
        assert!(route.connect().await.is_err());
    }
}
