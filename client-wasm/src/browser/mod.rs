//! The browser's half: sockets, timers and clocks, translated into the session's inputs and out of its outputs.
//!
//! It decides nothing. Whatever a message leads to is sent inside the handler of that message, because browsers throttle the
//! timers of hidden pages, but not their messages.
//!
//! | file | what it holds |
//! |---|---|
//! | `edge` | one session with its socket, its timer and its page events |
//! | [`codec`] | text frames to messages and back, by the browser's own JSON |
//! | `clock` | the believer's clock of the page |
//! | `socket` | one WebSocket with its handlers |

mod clock;
pub mod codec;
mod edge;
mod socket;

pub use edge::{Edge, Token};
