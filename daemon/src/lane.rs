//! One direction of a session: bytes that came, bytes that may go on.
//!
//! The agent's lane is where promise P1 is kept: its bytes go on only through
//! [`AgentLane::release`], which takes the permit and the receipt of every command among them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, BytesMut};
use chaperone_audit::Receipt;
use chaperone_policy::Permit;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes that a lane has room for at first, and when it is at rest.
const SMALL: usize = 8 << 10;
/// Bytes that it holds at most, where no message asks for more.
const LARGE: usize = 64 << 10;

/// A buffer whose front may go on.
#[derive(Debug)]
pub(crate) struct Lane {
    /// What may go on, then what has been looked at, then, where nothing was cut off, the rest.
    bytes: BytesMut,
    cleared: usize,
    /// So many bytes have been looked at.
    seen: usize,
    /// What lies behind bytes that were replaced: it is joined again once for all of them, before
    /// more is read. Until then all of `bytes` has been looked at.
    cut: Option<BytesMut>,
    /// A message at the front of what has not been looked at needs so much.
    need: usize,
    total: u64,
}

impl Lane {
    pub(crate) fn new() -> Self {
        let bytes = BytesMut::with_capacity(SMALL);
        Self { bytes, cleared: 0, seen: 0, cut: None, need: 0, total: 0 }
    }

    /// With bytes that came before.
    pub(crate) fn with(bytes: &[u8]) -> Self {
        let mut lane = Self::new();
        lane.bytes.extend_from_slice(bytes);
        lane
    }

    /// What has not been looked at.
    pub(crate) fn rest(&self) -> &[u8] {
        self.cut.as_deref().unwrap_or(&self.bytes[self.seen..])
    }

    pub(crate) fn has_cleared(&self) -> bool {
        self.cleared > 0
    }

    pub(crate) fn has_seen(&self) -> bool {
        self.seen > self.cleared
    }

    /// Bytes that have gone on.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn set_need(&mut self, need: usize) {
        self.need = need;
    }

    /// So many more bytes have been looked at.
    pub(crate) fn see(&mut self, count: usize) {
        if let Some(cut) = &mut self.cut {
            self.bytes.extend_from_slice(&cut[..count]);
            cut.advance(count);
        }
        self.seen += count;
    }

    /// All that has been looked at may go on.
    pub(crate) fn clear(&mut self) {
        self.cleared = self.seen;
    }

    /// Puts other bytes in the place of the first that have not been looked at. They count as looked
    /// at.
    pub(crate) fn replace(&mut self, length: usize, with: &[u8]) {
        let cut = self.cut.get_or_insert_with(|| self.bytes.split_off(self.seen));
        cut.advance(length);
        self.bytes.extend_from_slice(with);
        self.seen = self.bytes.len();
    }

    /// Drops what has not been cleared.
    pub(crate) fn end(&mut self) {
        self.cut = None;
        self.bytes.truncate(self.cleared);
        self.seen = self.cleared;
    }

    /// Drops what may go on, where nobody takes it any more.
    /// Answers how many bytes that were.
    pub(crate) fn discard_cleared(&mut self) -> usize {
        self.bytes.advance(self.cleared);
        self.seen -= self.cleared;
        std::mem::take(&mut self.cleared)
    }

    fn len(&self) -> usize {
        self.bytes.len() + self.cut.as_ref().map_or(0, BytesMut::len)
    }

    fn join(&mut self) {
        let Some(cut) = self.cut.take() else { return };
        if self.bytes.is_empty() {
            self.bytes = cut;
        } else {
            self.bytes.extend_from_slice(&cut);
        }
    }

    /// Whether there is room for more.
    pub(crate) fn wants_more(&self) -> bool {
        self.len() < self.limit()
    }

    /// A long message gets its room once all before it has gone on: what has been cleared must not
    /// make room for more by waiting to be written.
    fn limit(&self) -> usize {
        if self.cleared == 0 { LARGE.max(self.seen + self.need) } else { LARGE }
    }

    /// Reads what is there; 0 means that the peer is done.
    pub(crate) fn poll_read<R: AsyncRead>(
        &mut self,
        reader: Pin<&mut R>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.join();
        let room = self.limit().saturating_sub(self.bytes.len()).max(1);
        if self.bytes.len() == self.bytes.capacity() {
            // Grow by doubling; what has gone on is taken back first.
            self.bytes.reserve(room.min(self.bytes.len().max(SMALL)));
        }
        // Room may have been made for more than there is to be.
        tokio_util::io::poll_read_buf(reader, cx, &mut (&mut self.bytes).limit(room))
    }

    /// Writes what may go on.
    pub(crate) fn poll_write<W: AsyncWrite>(
        &mut self,
        writer: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let result = writer.poll_write(cx, &self.bytes[..self.cleared]);
        if let Poll::Ready(Ok(count)) = result {
            self.bytes.advance(count);
            self.cleared -= count;
            self.seen -= count;
            self.total += count as u64;
            if self.bytes.is_empty() && self.bytes.capacity() > LARGE {
                // One large message must not keep its memory for the life of the session.
                self.bytes = BytesMut::with_capacity(SMALL);
            }
        }
        result
    }
}

/// The lane from the agent: what goes on is proven.
#[derive(Debug)]
pub(crate) struct AgentLane {
    lane: Lane,
    /// Of the commands that have been looked at and not cleared; `None` for a stand-in of one that
    /// was refused.
    permits: Vec<Option<Permit>>,
}

/// The log's receipts are not those of the commands that wait.
#[derive(Debug, thiserror::Error)]
#[error("{commands} commands wait to be forwarded and {receipts} receipts came: this is a bug")]
pub(crate) struct ReceiptsDiffer {
    commands: usize,
    receipts: usize,
}

impl AgentLane {
    pub(crate) fn new(lane: Lane) -> Self {
        Self { lane, permits: Vec::new() }
    }

    /// What has not been looked at.
    pub(crate) fn rest(&self) -> &[u8] {
        self.lane.rest()
    }

    /// These bytes are no command.
    pub(crate) fn scan(&mut self, count: usize) {
        self.lane.see(count);
    }

    /// These bytes are a command that policy allowed.
    pub(crate) fn scan_command(&mut self, count: usize, permit: Permit) {
        self.lane.see(count);
        self.permits.push(Some(permit));
    }

    /// These bytes are a command that was refused: the stand-in goes on, once the refusal is recorded.
    pub(crate) fn scan_refused(&mut self, count: usize, stand_in: &[u8]) {
        self.lane.replace(count, stand_in);
        self.permits.push(None);
    }

    /// These bytes are thrown away.
    pub(crate) fn drop_bytes(&mut self, count: usize) {
        self.lane.replace(count, &[]);
    }

    pub(crate) fn set_need(&mut self, need: usize) {
        self.lane.set_need(need);
    }

    /// Lets all that was looked at go on. Every command among it has its permit, and here is its
    /// receipt. Answers how many commands go on.
    pub(crate) fn release(&mut self, receipts: Vec<Receipt>) -> Result<u64, ReceiptsDiffer> {
        if receipts.len() != self.permits.len() {
            return Err(ReceiptsDiffer { commands: self.permits.len(), receipts: receipts.len() });
        }
        let mut forwarded = 0;
        for (permit, receipt) in self.permits.drain(..).zip(receipts) {
            forwarded += u64::from(permit.is_some());
            // Both are spent here.
            drop((permit, receipt));
        }
        self.lane.clear();
        Ok(forwarded)
    }

    /// Throws away all that has not been released.
    pub(crate) fn withdraw(&mut self) {
        self.lane.end();
        self.permits.clear();
    }

    /// Throws away what was released, where the server takes nothing any more.
    pub(crate) fn discard_cleared(&mut self) {
        let _ = self.lane.discard_cleared();
    }

    pub(crate) fn has_cleared(&self) -> bool {
        self.lane.has_cleared()
    }

    pub(crate) fn has_scanned(&self) -> bool {
        self.lane.has_seen()
    }

    pub(crate) fn total(&self) -> u64 {
        self.lane.total()
    }

    pub(crate) fn wants_more(&self) -> bool {
        self.lane.wants_more()
    }

    pub(crate) fn poll_read<R: AsyncRead>(
        &mut self,
        reader: Pin<&mut R>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.lane.poll_read(reader, cx)
    }

    pub(crate) fn poll_write<W: AsyncWrite>(
        &mut self,
        writer: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.lane.poll_write(writer, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_without_receipts_nothing_is_released() {
        let mut lane = AgentLane::new(Lane::with(b"command"));
        lane.scan_refused(7, b"stand-in");
        assert!(lane.release(Vec::new()).is_err());
        assert!(!lane.has_cleared());
    }

    #[test]
    fn replacing_keeps_what_is_around() {
        let mut lane = Lane::with(b"abcdef");
        lane.see(1);
        lane.clear();
        lane.see(1);
        lane.replace(2, b"XYZ");
        lane.see(1);
        assert_eq!(lane.rest(), b"f");
        lane.replace(1, b"");
        lane.clear();
        lane.join();
        assert_eq!((&lane.bytes[..lane.cleared], lane.rest()), (&b"abXYZe"[..], &b""[..]));
        lane.discard_cleared();
        assert!(!lane.has_cleared() && !lane.has_seen());
    }

    #[test]
    fn what_was_not_cleared_can_be_dropped() {
        let mut lane = Lane::with(b"abcdef");
        lane.see(1);
        lane.clear();
        lane.see(1);
        lane.replace(1, b"X");
        lane.end();
        lane.join();
        assert_eq!((&lane.bytes[..], lane.has_seen()), (&b"a"[..], false));
    }

    /// Many short messages are refused in front of much that has not been looked at.
    #[test]
    fn p8_what_lies_behind_a_replaced_message_is_not_moved_for_each() {
        let mut lane = Lane::with(&vec![b'x'; 4 << 20]);
        lane.replace(7, b"stand-in");
        let place = lane.rest().as_ptr() as usize;
        for times in 1..4096 {
            lane.replace(7, b"stand-in");
            assert_eq!(lane.rest().as_ptr() as usize, place + 7 * times);
        }
        lane.clear();
        lane.join();
        assert_eq!(lane.bytes.len(), (4 << 20) + 4096);
    }

    #[tokio::test]
    async fn p8_a_long_message_makes_room_for_itself_alone() {
        let sent = vec![b'x'; 1 << 20];
        let mut lane = Lane::new();
        lane.set_need(100_000);
        let mut reader = std::pin::pin!(&sent[..]);
        while lane.wants_more() {
            let read = std::future::poll_fn(|cx| lane.poll_read(reader.as_mut(), cx)).await;
            assert!(read.expect("readable") > 0);
        }
        assert_eq!(lane.rest().len(), 100_000);
    }
}
