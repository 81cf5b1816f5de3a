//! The copy that a content has already when another upload of it ends.

use super::{Content, Sealing};
use crate::store::{BlobStore, StoreError};

/// The stored copy of a content, and what its store says of it. A store can take long to answer, so it is asked before
/// the transaction that ends an upload; within, [`Self::is`] shows whether the answer still holds: no copy is removed
/// from its store while its row says that it is stored.
#[derive(Debug)]
pub(super) struct Older {
    copy: Option<Content>,
    stands: bool,
}

impl Older {
    /// Looks at `copy` for a new one of `size` bytes (before sealing), sealed like this.
    pub(super) async fn look(
        copy: Option<Content>,
        size: u64,
        sealing: Option<&Sealing>,
        store: &dyn BlobStore,
    ) -> Result<Self, StoreError> {
        let stands = match &copy {
            Some(copy) => copy.can_stand_for(size, sealing, store).await?,
            None => false,
        };
        Ok(Self { copy, stands })
    }

    /// Whether `stored`, the stored copy of now, is the one that was looked at.
    pub(super) fn is(&self, stored: Option<&Content>) -> bool {
        self.copy.as_ref() == stored
    }

    /// The copy, if there is one.
    pub(super) fn copy(&self) -> Option<&Content> {
        self.copy.as_ref()
    }

    /// Whether it does for the new one.
    pub(super) fn stands(&self) -> bool {
        self.stands
    }
}
