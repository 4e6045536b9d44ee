//! `DistributedLock`, and how its end is observed.

use super::calls::Calls;
use super::support::Support;
use super::trap;
use crate::session::{Grant, Input, LockKey};
use js_sys::{Function, Promise};
use lockrelay_protocol::{ErrorCode, ReleaseReason};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{AbortController, AbortSignal};

/// A promise with the function that resolves it.
pub(super) struct Deferred {
    pub(super) promise: Promise,
    resolve: Function,
}

impl Deferred {
    pub(super) fn new() -> Self {
        let mut resolver = None;
        let promise = Promise::new(&mut |resolve, _| resolver = Some(resolve));
        Self {
            promise,
            resolve: resolver.expect("the executor runs at once"),
        }
    }

    pub(super) fn resolve(&self, value: &JsValue) {
        drop(self.resolve.call1(&JsValue::UNDEFINED, value));
    }
}

/// What the page was told of a lock. The lock object and the client share it.
pub(super) struct LockCell {
    pub(super) key: LockKey,
    pub(super) grant: Grant,
    support: Support,
    reason: Cell<Option<ReleaseReason>>,
    released: Deferred,
    confirmed: Deferred,
    controller: AbortController,
    callbacks: RefCell<Vec<(u64, Function)>>,
    next_callback: Cell<u64>,
}

impl LockCell {
    pub(super) fn new(key: LockKey, grant: Grant, support: Support) -> Rc<Self> {
        Rc::new(Self {
            key,
            grant,
            support,
            reason: Cell::new(None),
            released: Deferred::new(),
            confirmed: Deferred::new(),
            controller: AbortController::new().expect("every browser has AbortController"),
            callbacks: RefCell::new(Vec::new()),
            next_callback: Cell::new(0),
        })
    }

    pub(super) fn reason(&self) -> Option<ReleaseReason> {
        self.reason.get()
    }

    /// The lock ended: everybody who observes it hears so, once.
    pub(super) fn end(&self, reason: ReleaseReason) {
        if self.reason.replace(Some(reason)).is_some() {
            return;
        }
        let text = JsValue::from_str(reason.as_str());
        self.released.resolve(&text);
        if reason.is_lost() {
            self.controller.abort_with_reason(&self.lost_error(reason));
        }
        for (_, callback) in self.callbacks.take() {
            self.support.call(&callback, &text);
        }
    }

    pub(super) fn confirm(&self) {
        self.confirmed.resolve(&JsValue::UNDEFINED);
    }

    pub(super) fn lost_error(&self, reason: ReleaseReason) -> JsValue {
        let mut message = String::from("the lock on \"");
        message.push_str(self.grant.mutex.as_str());
        message.push_str("\" was lost: ");
        message.push_str(reason.as_str());
        self.support.lock_error(ErrorCode::LockLost, &message)
    }

    /// Calls `callback` at the end of the lock, or now if it has ended. Returns what unsubscribes it.
    fn on_release(self: &Rc<Self>, callback: Function) -> Function {
        if let Some(reason) = self.reason.get() {
            self.support.call(&callback, &JsValue::from_str(reason.as_str()));
            // Unsubscribing means nothing any more, however often it is done.
            return Closure::<dyn Fn()>::new(|| {}).into_js_value().unchecked_into();
        }
        let id = self.next_callback.replace(self.next_callback.get() + 1);
        self.callbacks.borrow_mut().push((id, callback));
        let cell = Rc::downgrade(self);
        Closure::<dyn Fn()>::new(move || {
            if let Some(cell) = cell.upgrade() {
                cell.callbacks.borrow_mut().retain(|(other, _)| *other != id);
            }
        })
        .into_js_value()
        .unchecked_into()
    }
}

/// A lock that was granted to this page. See `index.d.ts` for what each member promises.
#[wasm_bindgen]
pub struct DistributedLock {
    cell: Rc<LockCell>,
    calls: Rc<Calls>,
}

impl DistributedLock {
    pub(super) fn new(cell: Rc<LockCell>, calls: Rc<Calls>) -> Self {
        Self { cell, calls }
    }
}

#[wasm_bindgen]
impl DistributedLock {
    /// What is locked.
    #[wasm_bindgen(getter, js_name = resourceId)]
    #[must_use]
    pub fn resource_id(&self) -> String {
        self.cell.grant.mutex.as_str().to_owned()
    }

    /// Names this grant; never used again.
    #[wasm_bindgen(getter, js_name = lockId)]
    #[must_use]
    pub fn lock_id(&self) -> String {
        self.cell.grant.lock_id.as_str().to_owned()
    }

    /// Rises with every grant of the mutex.
    #[wasm_bindgen(getter, js_name = fencingToken)]
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "below 2^53 by the protocol, which an f64 holds exactly"
    )]
    pub fn fencing_token(&self) -> f64 {
        self.cell.grant.fencing_token as f64
    }

    /// `exclusive` or `shared`.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn mode(&self) -> String {
        self.cell.grant.mode.as_str().to_owned()
    }

    /// Whether the lock is over, from the clock: no timer needs to fire for it.
    #[wasm_bindgen(js_name = isReleased)]
    #[must_use]
    pub fn is_released(&self) -> bool {
        trap::has_failed() || self.cell.reason().is_some() || self.calls.edge().is_released(self.cell.key)
    }

    /// Gives the lock back. Resolves when the relay has confirmed, or the connection has ended; never rejects.
    pub fn release(&self) -> Promise {
        if !trap::has_failed() {
            self.calls.edge().feed(Input::Release { lock: self.cell.key });
        }
        self.cell.confirmed.promise.clone()
    }

    /// Resolves with the reason when the lock ends; never rejects.
    #[wasm_bindgen(getter)]
    pub fn released(&self) -> Promise {
        self.cell.released.promise.clone()
    }

    /// Calls back with the reason when the lock ends, or at once if it has ended.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if `callback` is not a function.
    #[wasm_bindgen(js_name = onRelease)]
    pub fn on_release(&self, callback: JsValue) -> Result<Function, JsValue> {
        Ok(self.cell.on_release(self.calls.function("callback", callback)?))
    }

    /// An Observable of the reason.
    #[wasm_bindgen(js_name = observeRelease)]
    #[must_use]
    pub fn observe_release(&self) -> JsValue {
        let cell = Rc::clone(&self.cell);
        let on_release = Closure::<dyn Fn(Function) -> Function>::new(move |callback| cell.on_release(callback));
        self.calls
            .support()
            .observable(on_release.into_js_value().unchecked_ref())
    }

    /// Aborts when the lock is lost.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn signal(&self) -> AbortSignal {
        self.cell.controller.signal()
    }
}

impl Drop for DistributedLock {
    /// Nobody can release it any more, so it is released now.
    fn drop(&mut self) {
        if self.cell.reason().is_none() && !trap::has_failed() {
            self.calls.edge().feed(Input::Release { lock: self.cell.key });
        }
    }
}
