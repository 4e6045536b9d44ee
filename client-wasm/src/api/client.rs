//! `LockClient`: acquire, `withLock`, close.

use super::calls::Calls;
use super::lock::DistributedLock;
use super::support::Support;
use super::{options, trap};
use crate::browser::Token;
use crate::session::Input;
use js_sys::{Function, Promise, Reflect};
use lockrelay_protocol::ReleaseReason;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, future_to_promise};

/// A connection to Lockrelay. See `index.d.ts` for what each member promises.
#[wasm_bindgen]
pub struct LockClient {
    calls: Rc<Calls>,
}

/// Opens a client; what `connect()` of the package does once the module is there.
///
/// `urls` are checked by the caller; `token` is `undefined`, a string or a function; `seed` is random.
#[wasm_bindgen(js_name = openClient)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "any bits will do for a seed"
)]
pub fn open_client(urls: Vec<String>, token: JsValue, seed: f64, support: Support) -> LockClient {
    trap::install();
    let token = match token.as_string() {
        Some(text) => Token::Text(text),
        None => token.dyn_into().map_or(Token::None, Token::Function),
    };
    LockClient {
        calls: Calls::start(urls, token, seed as u64, support),
    }
}

#[wasm_bindgen]
impl LockClient {
    /// Acquires a lock; resolves with a `DistributedLock`, or `null` for `ifAvailable`.
    #[wasm_bindgen(js_name = acquireLock)]
    pub fn acquire_lock(&self, mutex: &JsValue, options: &JsValue) -> Promise {
        match options::read(self.calls.support(), mutex, options) {
            Ok(call) => self.calls.acquire(call),
            Err(invalid) => Promise::reject(&invalid),
        }
    }

    /// Runs a callback while holding a lock; `withLock(mutex, callback)` or `withLock(mutex, options, callback)`.
    #[wasm_bindgen(js_name = withLock)]
    pub fn with_lock(&self, mutex: &JsValue, options: JsValue, callback: JsValue) -> Promise {
        let (options, callback) = if options.is_function() && callback.is_undefined() {
            (JsValue::UNDEFINED, options)
        } else {
            (options, callback)
        };
        let callback = match self.calls.function("callback", callback) {
            Ok(callback) => callback,
            Err(invalid) => return Promise::reject(&invalid),
        };
        // Asked for before this returns, so that calls queue in the order in which they were made.
        let acquired = self.acquire_lock(mutex, &options);
        let calls = Rc::clone(&self.calls);
        future_to_promise(async move { run(&calls, acquired, &callback).await })
    }

    /// `connecting`, `connected`, `reconnecting` or `closed`.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn state(&self) -> String {
        if trap::has_failed() {
            "closed"
        } else {
            self.calls.edge().state().as_str()
        }
        .to_owned()
    }

    /// Calls back with the new state at each change; returns a function that unsubscribes.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if `callback` is not a function.
    #[wasm_bindgen(js_name = onStateChange)]
    pub fn on_state_change(&self, callback: JsValue) -> Result<Function, JsValue> {
        Ok(self.calls.on_state_change(self.calls.function("callback", callback)?))
    }

    /// Releases everything and ends the client.
    pub fn close(&self) -> Promise {
        if !trap::has_failed() {
            self.calls.edge().feed(Input::Close);
        }
        Promise::resolve(&JsValue::UNDEFINED)
    }
}

async fn run(calls: &Rc<Calls>, acquired: Promise, callback: &Function) -> Result<JsValue, JsValue> {
    // This value keeps the lock object alive, whatever the callback does with it: collected, it would be released.
    let lock = JsFuture::from(acquired).await?;
    if lock.is_null() {
        let value = callback.call1(&JsValue::UNDEFINED, &lock)?;
        return JsFuture::from(Promise::resolve(&value)).await;
    }
    let outcome = match callback.call1(&JsValue::UNDEFINED, &lock) {
        Ok(value) => JsFuture::from(Promise::resolve(&value)).await,
        Err(thrown) => Err(thrown),
    };
    // Let the clock speak before the release does: a lease that is over was over before.
    calls.edge().feed(Input::Timer);
    let release: Function = Reflect::get(&lock, &JsValue::from_str("release"))?.unchecked_into();
    let released: Promise = release.call0(&lock)?.unchecked_into();
    let reason = released_reason(&lock).await?;
    JsFuture::from(released).await?;
    let value = outcome?;
    match reason.filter(|reason| reason.is_lost()) {
        Some(_) => {
            let signal = Reflect::get(&lock, &JsValue::from_str("signal"))?;
            Err(Reflect::get(&signal, &JsValue::from_str("reason"))?)
        }
        None => Ok(value),
    }
}

/// Why the lock ended; it has.
async fn released_reason(lock: &JsValue) -> Result<Option<ReleaseReason>, JsValue> {
    let released: Promise = Reflect::get(lock, &JsValue::from_str("released"))?.unchecked_into();
    let reason = JsFuture::from(released).await?;
    Ok(reason.as_string().and_then(|reason| ReleaseReason::from_text(&reason)))
}

// Kept by name so that the glue exports the class even where nothing in Rust constructs it.
const _: fn(&DistributedLock) -> bool = DistributedLock::is_released;
