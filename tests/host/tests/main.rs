//! Tests on the real kernel with a real server and real clients. One file holds one concern, and
//! each test names the promise that it keeps.

mod clients;
mod hostile;
mod interception;
mod lifecycle;
mod log;
mod pipelines;
mod protocol;
mod volume;
