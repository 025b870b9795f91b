//! What the sessions of one thread share: nothing of it leaves the thread.

use std::rc::Rc;

use chaperone_sql::readers::Readers;

use crate::{committer::Committer, shared::Shared};

pub(crate) struct Local {
    pub(crate) committer: Committer,
    /// Reads what statements are.
    pub(crate) readers: Readers,
}

impl Local {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            committer: Committer::new(shared.log.clone()),
            readers: Readers::new(crate::reader::options()),
        }
    }

    /// Commits what is queued, again and again.
    pub(crate) async fn commit(self: Rc<Self>) {
        self.committer.run().await;
    }
}
