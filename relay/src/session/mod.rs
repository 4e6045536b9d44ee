//! The relay's session layer: what connections ask for on one side, a store that knows no clock on the other, and between
//! them every decision about who may believe what, and for how long.
//!
//! | file | what it holds |
//! |---|---|
//! | [`handle`] | [`Sessions`] and [`Connection`]: what the socket layer sees |
//! | `hub` | connections, requests and locks: a pure state machine |
//! | `keeper` | the relay's own lease, its peers', recovery and orphans: pure too |
//! | `tenure` | the relay's session in a partition, and the move of its locks into another generation: pure too |
//! | `driver` | the one task that owns both, calls the store and keeps the time |
//! | [`clock`] | the believer's clock and the taker's |
//!
//! Nothing here knows a socket, HTTP, or Redis. Only [`clock`] reads a clock, only `driver` awaits.

pub mod clock;
mod driver;
pub mod handle;
mod hub;
mod keeper;
mod tenure;

#[cfg(test)]
mod simulation;

pub use handle::{Command, Connection, Drained, End, Outgoing, Refused, Sessions, StartError};
