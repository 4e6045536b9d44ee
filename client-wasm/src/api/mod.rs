//! The classes that JavaScript sees. Exported methods take `&self` and can be called again at any time: a by-value `self`
//! would throw on its second call, overlapping `&mut self` calls would too.
//!
//! The small part that only JavaScript can do (subclassing `Error`, well-known symbols) comes from `js/support.js` as a
//! [`Support`](support::Support) object, and the types are written by hand in `js/index.d.ts`.
//!
//! | file | what it holds |
//! |---|---|
//! | [`client`] | `LockClient`: acquire, `withLock`, close |
//! | [`lock`] | `DistributedLock`, and how its end is observed |
//! | `calls` | what is between the classes and the edge: pending calls, live locks, listeners |
//! | `options` | option objects, checked with errors that name the option |
//! | `trap` | what happens when this module itself fails |
//! | [`support`] | what JavaScript lends |

mod calls;
pub mod client;
pub mod lock;
mod options;
pub mod support;
mod trap;

pub use client::LockClient;
pub use lock::DistributedLock;
