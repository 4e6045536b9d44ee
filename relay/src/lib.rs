//! The Lockrelay relay: distributed locks for web pages.

pub mod defaults;
pub mod demo;
pub mod metrics;
pub mod rules;
pub mod session;
pub mod store;
