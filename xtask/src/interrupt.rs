//! Ctrl-C and its relatives: end at once by default, later while something is to be undone.
//!
//! Belongs here: the process's one pair of flags. What is undone is a `Drop` of its owner.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

static SEEN: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static END_AT_ONCE: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// While this lives, a signal is only noted: see [`check`].
#[must_use = "signals end the process at once where nothing holds this"]
pub(crate) struct Deferred(());

impl Deferred {
    pub(crate) fn new() -> Self {
        END_AT_ONCE.store(false, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        END_AT_ONCE.store(true, Ordering::SeqCst);
    }
}

/// Takes the signals over, once, at the start of the process.
pub(crate) fn install() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_default(signal, Arc::clone(&END_AT_ONCE))
            .and_then(|_| flag::register(signal, Arc::clone(&SEEN)))
            .context("signals cannot be handled")?;
    }
    Ok(())
}

/// An error where a signal has come since the start.
pub(crate) fn check() -> Result<()> {
    if SEEN.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}
