//! One direction of a session: bytes that came, bytes that may go on.
//!
//! The agent's lane is where promise P1 is kept: its bytes go on only through
//! [`AgentLane::release`], which takes the permit and the receipt of every command among them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
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
    bytes: BytesMut,
    cleared: usize,
    /// A message at the front of what is not cleared needs so much.
    need: usize,
    total: u64,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self { bytes: BytesMut::with_capacity(SMALL), cleared: 0, need: 0, total: 0 }
    }

    /// With bytes that came before.
    pub(crate) fn with(bytes: &[u8]) -> Self {
        let mut lane = Self::new();
        lane.bytes.extend_from_slice(bytes);
        lane
    }

    /// What has not been cleared.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.cleared..]
    }

    pub(crate) fn has_cleared(&self) -> bool {
        self.cleared > 0
    }

    /// Bytes that have gone on.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn set_need(&mut self, need: usize) {
        self.need = need;
    }

    pub(crate) fn clear(&mut self, count: usize) {
        self.cleared += count;
    }

    /// Puts other bytes in the place of `length` bytes at `at` behind what is cleared.
    pub(crate) fn replace(&mut self, at: usize, length: usize, with: &[u8]) {
        let at = self.cleared + at;
        let tail = self.bytes[at + length..].to_vec();
        self.bytes.truncate(at);
        self.bytes.extend_from_slice(with);
        self.bytes.extend_from_slice(&tail);
    }

    /// Drops what has not been cleared, and adds bytes that may go on.
    pub(crate) fn end_with(&mut self, bytes: &[u8]) {
        self.bytes.truncate(self.cleared);
        self.bytes.extend_from_slice(bytes);
        self.cleared = self.bytes.len();
    }

    /// Drops what may go on, where nobody takes it any more.
    pub(crate) fn discard_cleared(&mut self) {
        self.bytes.advance(self.cleared);
        self.cleared = 0;
    }

    /// Whether there is room for more.
    pub(crate) fn wants_more(&self) -> bool {
        self.bytes.len() < self.limit()
    }

    /// A long message gets its room once all before it has gone on: what has been cleared must not
    /// make room for more by waiting to be written.
    fn limit(&self) -> usize {
        if self.cleared == 0 { LARGE.max(self.need) } else { LARGE }
    }

    /// Reads what is there; 0 means that the peer is done.
    pub(crate) fn poll_read<R: AsyncRead>(
        &mut self,
        reader: Pin<&mut R>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() == self.bytes.capacity() {
            // Grow by doubling; what has gone on is taken back first.
            let most = self.limit().saturating_sub(self.bytes.len());
            self.bytes.reserve(most.clamp(1, self.bytes.len().max(SMALL)));
        }
        tokio_util::io::poll_read_buf(reader, cx, &mut self.bytes)
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
    /// Bytes behind what is cleared that have been looked at.
    scanned: usize,
    /// Of the commands among them; `None` for a stand-in of one that was refused.
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
        Self { lane, scanned: 0, permits: Vec::new() }
    }

    /// What has not been looked at.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.lane.rest()[self.scanned..]
    }

    /// These bytes are no command.
    pub(crate) fn scan(&mut self, count: usize) {
        self.scanned += count;
    }

    /// These bytes are a command that policy allowed.
    pub(crate) fn scan_command(&mut self, count: usize, permit: Permit) {
        self.scanned += count;
        self.permits.push(Some(permit));
    }

    /// These bytes are a command that was refused: the stand-in goes on, once the refusal is recorded.
    pub(crate) fn scan_refused(&mut self, count: usize, stand_in: &[u8]) {
        self.lane.replace(self.scanned, count, stand_in);
        self.scanned += stand_in.len();
        self.permits.push(None);
    }

    /// These bytes are thrown away.
    pub(crate) fn drop_bytes(&mut self, count: usize) {
        self.lane.replace(self.scanned, count, &[]);
    }

    pub(crate) fn set_need(&mut self, need: usize) {
        self.lane.set_need(self.scanned + need);
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
        self.lane.clear(self.scanned);
        self.scanned = 0;
        Ok(forwarded)
    }

    /// Throws away all that has not been released.
    pub(crate) fn withdraw(&mut self) {
        self.lane.end_with(&[]);
        self.scanned = 0;
        self.permits.clear();
    }

    pub(crate) fn has_cleared(&self) -> bool {
        self.lane.has_cleared()
    }

    pub(crate) fn has_scanned(&self) -> bool {
        self.scanned > 0
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
        lane.clear(1);
        lane.replace(1, 2, b"XYZ");
        assert_eq!(lane.rest(), b"bXYZef");
        lane.end_with(b"!");
        assert_eq!(lane.rest(), b"");
        assert!(lane.has_cleared());
    }
}
