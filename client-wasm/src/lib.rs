//! The Lockrelay client: distributed locks that a web page can hold.
//!
//! | module | what it holds |
//! |---|---|
//! | [`session`] | the client's state machine, sans-IO; compiles and is tested natively |
//! | `browser` (wasm32 only) | WebSocket, timers, clock and codec: events in, calls out |
//! | `api` (wasm32 only) | the classes that JavaScript sees |
//!
//! Arrows point one way: `api` to `browser` to `session` to `lockrelay-protocol`.

pub mod session;

#[cfg(target_arch = "wasm32")]
pub mod api;
#[cfg(target_arch = "wasm32")]
pub mod browser;
