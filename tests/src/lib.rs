//! What the end-to-end tests share: real servers, real relays, a native client, all of which end with their test.

pub mod redis_server;
