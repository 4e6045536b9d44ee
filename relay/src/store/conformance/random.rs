//! Random operations, whose outcomes must equal those of the pure queue.

use super::Stores;

/// To come.
pub async fn random_operations_equal_the_queue(_: impl AsyncFn() -> Stores) {}
