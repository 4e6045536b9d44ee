//! The Lockrelay relay: distributed locks for web pages.

pub mod demo;
pub mod rules;
pub mod store;
