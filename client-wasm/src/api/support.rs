//! What JavaScript lends: errors that are `Error`s, Observables, values as text.

use crate::session::Failure;
use js_sys::Function;
use lockrelay_protocol::ErrorCode;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The object that `js/support.js` exports as `support`.
    #[derive(Clone, Debug)]
    pub type Support;

    #[wasm_bindgen(method)]
    fn error(this: &Support, code: &str, message: &str, retry_after_millis: Option<f64>) -> JsValue;

    /// An Observable over a function that subscribes a callback and returns how to unsubscribe it.
    #[wasm_bindgen(method)]
    pub(super) fn observable(this: &Support, on_release: &Function) -> JsValue;

    /// A value as short text, for error messages.
    #[wasm_bindgen(method)]
    pub(super) fn describe(this: &Support, value: &JsValue) -> String;

    /// Reports what a page's callback threw, as the browser does for event listeners.
    #[wasm_bindgen(method)]
    fn report(this: &Support, thrown: &JsValue);
}

impl Support {
    /// A `LockError`.
    #[must_use]
    pub fn lock_error(&self, code: ErrorCode, message: &str) -> JsValue {
        self.error(code.as_str(), message, None)
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 2^53 - 1, which an f64 holds exactly")]
    pub(super) fn failure(&self, failure: &Failure) -> JsValue {
        self.error(
            failure.code.as_str(),
            &failure.message,
            failure.retry_after_millis.map(|millis| millis as f64),
        )
    }

    /// Calls a page's callback; what it throws disturbs nobody else.
    pub(super) fn call(&self, callback: &Function, argument: &JsValue) {
        if let Err(thrown) = callback.call1(&JsValue::UNDEFINED, argument) {
            self.report(&thrown);
        }
    }
}
