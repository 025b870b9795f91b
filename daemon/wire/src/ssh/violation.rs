//! How a peer breaks the protocol.

/// A peer's fault: its connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A field does not fit into its message.
    #[error("a message is shorter than what it says is in it")]
    Short,
    /// There is more than the message's fields.
    #[error("a message is longer than what it says is in it")]
    Long,
    /// A text is not UTF-8 (RFC 3629).
    #[error("a text is not UTF-8")]
    Text,
    /// What comes first is no identification string (RFC 4253, section 4.2).
    #[error("it does not begin as SSH does: {0}")]
    Identification(&'static str),
    /// A packet's length is none that a packet may have (RFC 4253, section 6.1).
    #[error("a packet says that it has {0} bytes")]
    PacketLength(u32),
    /// A packet's padding does not fit (RFC 4253, section 6).
    #[error("a packet's padding does not fit into it")]
    Padding,
    /// A packet was altered, or sealed with another key.
    #[error("a packet is not what was sealed")]
    Seal,
    /// The two sides have no algorithm in common.
    #[error("both sides have no {what} in common: it offers {offered}")]
    NothingInCommon {
        /// For what.
        what: &'static str,
        /// What the peer offers.
        offered: String,
    },
    /// A key exchange failed.
    #[error("the key exchange failed: {0}")]
    Exchange(&'static str),
    /// The peer's host key, or its signature, is not believed.
    #[error("{0}")]
    HostKey(String),
    /// A message comes where it has no place.
    #[error("message {number} has no place {place}")]
    Misplaced {
        /// Its number (RFC 4250, section 4.1).
        number: u8,
        /// Where.
        place: &'static str,
    },
    /// A message is about a channel that is not open.
    #[error("there is no channel {0}")]
    NoChannel(u32),
    /// A channel's number is taken.
    #[error("channel {0} is open already")]
    TakenChannel(u32),
    /// More was sent than the other side takes.
    #[error("channel {0} got more than its window takes")]
    Window(u32),
    /// There is too much of something.
    #[error("there are too many {0}")]
    TooMany(&'static str),
    /// A protocol inside a channel was broken.
    #[error("{0}")]
    Inside(String),
}
