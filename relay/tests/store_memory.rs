//! The memory store keeps every rule of a lock store.

use lockrelay::store::conformance::Stores;
use lockrelay::store::memory::MemoryStore;

async fn fresh() -> Stores {
    let store = MemoryStore::new();
    Stores::new(store.clone(), store)
}

lockrelay::store_conformance!(fresh);
