//! Connections, requests and locks: a pure state machine.

/// Names a connection within the process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnKey(pub(crate) u64);
