//! The words of chaperone as types: identities, targets, commands, records.
//!
//! Belongs here: what two or more of the other crates must name. Does not belong here: I/O, clocks,
//! protocols, SQL, and the two proofs `Permit` and `Receipt`, which live in the crate that alone can
//! make them (`policy` and `audit`).

mod address;
mod command;
mod exception;
mod identity;
mod lineage;
mod reading;
mod record;
mod shell;
mod time;

pub use address::{AgentAddr, OriginalAddr, Protocol, TargetName};
pub use command::{Command, CommandKind};
pub use exception::{ExceptionStep, Step};
pub use identity::{
    AgentName, Digest, Doubt, Identity, Process, Run, STEP, Script, Version, VersionSource,
};
pub use lineage::{
    ColumnRef, Copies, CopyFormat, CopyLayout, How, Lineage, MaskedUse, Origin, Outputs, Schema,
    Table, TableColumn,
};
pub use reading::{
    Access, BY_NAME, Column, NameUse, PathUse, ProgramUse, QualifiedName, Reading, Relation, Rung,
    Statement, UNREADABLE,
};
pub use record::{
    Carried, ClockState, Closing, CommandStatus, DaemonStarted, Erased, Event, EventKind,
    Heartbeat, HoldEnd, HoldEnded, HoldOpened, HoldVoted, Inside, Intent, Outcome, ProcessSeen,
    Record, Ref, Response, RunSeen, Seq, SessionClosed, SessionOpened, SessionSignedOn,
    SessionStarted, VerdictKind,
};
pub use shell::{
    Hides, ShellCommand, ShellReading, ShellRedirect, ShellRedirectKind, ShellWord, Special,
};
pub use time::Timestamp;
