//! The Lockrelay relay: distributed locks for web pages.

pub mod store;
