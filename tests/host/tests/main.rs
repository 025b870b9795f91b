//! Tests on the real kernel with a real server and real clients. One file holds one concern, and
//! each test names the promise that it keeps.

mod acceptance;
mod anchors;
mod catalog;
mod clients;
mod containers;
mod drivers;
mod durability;
mod evidence;
mod export;
mod guesses;
mod holds;
mod hostile;
mod identity;
mod interception;
mod leaks;
mod lifecycle;
mod limits;
mod log;
mod log_readers;
mod mask_test;
mod masks;
mod pipelines;
mod protocol;
mod regression;
mod replication;
mod rules;
mod sign_on;
mod start_up;
mod statements;
mod tls_agent;
mod tls_target;
mod trust;
mod unmask;
mod versions;
mod volume;
