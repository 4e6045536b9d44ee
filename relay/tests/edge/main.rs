//! The relay from outside: real sockets against its router, and the binary itself.
//!
//! No test sleeps: each awaits messages, and what would wait forever fails by a time limit.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, and does not see that helpers are part of them"
)]

mod cli;
mod demo;
mod embed;
mod ends;
mod flows;
mod http;
mod isolation;
mod support;
