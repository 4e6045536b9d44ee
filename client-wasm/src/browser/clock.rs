//! The believer's clock of the page: `performance.now()`, made up for sleep by `Date.now()`.

use crate::session::{Millis, Ratchet};
use js_sys::Reflect;
use std::cell::RefCell;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Performance;

pub(super) struct Clock {
    performance: Performance,
    ratchet: RefCell<Ratchet>,
}

impl Clock {
    pub(super) fn new() -> Self {
        // In a window and in a worker alike.
        let performance =
            Reflect::get(&js_sys::global(), &JsValue::from_str("performance")).expect("every browser has performance");
        Self {
            performance: performance.unchecked_into(),
            ratchet: RefCell::new(Ratchet::new()),
        }
    }

    /// The believer's now, in whole milliseconds, rounded down: what is sent as `t` must not lie in the future.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clocks are positive and below 2^53"
    )]
    pub(super) fn now(&self) -> Millis {
        let (monotonic, wall) = (self.performance.now() as Millis, js_sys::Date::now() as Millis);
        self.ratchet.borrow_mut().read(monotonic, wall)
    }
}
