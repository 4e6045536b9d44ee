//! What is between the classes and the edge: pending calls, live locks, listeners of the connection's state.

use super::lock::{DistributedLock, LockCell};
use super::options::Call;
use super::support::Support;
use super::trap;
use crate::browser::{Edge, Token};
use crate::session::{Input, LockKey, Output, RequestKey};
use js_sys::{Function, Promise};
use lockrelay_protocol::{ErrorCode, ReleaseReason};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{AbortSignal, Event};

/// A call of `acquireLock` without an answer.
struct Waiting {
    resolve: Function,
    reject: Function,
    on_queued: Option<Function>,
    abort: Option<Abort>,
    /// A call keeps its client alive, even where the page has dropped it.
    _client: Rc<Calls>,
}

/// The listener on the page's `AbortSignal`; goes when the call is settled.
struct Abort {
    signal: AbortSignal,
    listener: Closure<dyn FnMut(Event)>,
}

impl Drop for Abort {
    fn drop(&mut self) {
        drop(
            self.signal
                .remove_event_listener_with_callback("abort", self.listener.as_ref().unchecked_ref()),
        );
    }
}

pub(super) struct Calls {
    edge: OnceCell<Rc<Edge>>,
    support: Support,
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    locks: RefCell<BTreeMap<LockKey, Rc<LockCell>>>,
    next_request: Cell<u64>,
    listeners: RefCell<Vec<(u64, Function)>>,
    next_listener: Cell<u64>,
    this: Weak<Calls>,
}

impl Calls {
    pub(super) fn start(urls: Vec<String>, token: Token, seed: u64, support: Support) -> Rc<Self> {
        let calls = Rc::new_cyclic(|this| Self {
            edge: OnceCell::new(),
            support,
            waiting: RefCell::default(),
            locks: RefCell::default(),
            next_request: Cell::new(0),
            listeners: RefCell::default(),
            next_listener: Cell::new(0),
            this: Weak::clone(this),
        });
        let this = Rc::downgrade(&calls);
        let listener = move |output| {
            if let Some(calls) = this.upgrade() {
                calls.output(output);
            }
        };
        let edge = Edge::start(urls, token, seed, Box::new(listener));
        assert!(calls.edge.set(edge).is_ok(), "set once");
        trap::watch(&calls);
        calls
    }

    pub(super) fn edge(&self) -> &Edge {
        self.edge.get().expect("set at the start")
    }

    pub(super) const fn support(&self) -> &Support {
        &self.support
    }

    /// # Errors
    /// `INVALID_ARGUMENT` if it is not a function.
    pub(super) fn function(&self, name: &str, value: JsValue) -> Result<Function, JsValue> {
        value.dyn_into().map_err(|value| {
            let mut message = String::from(name);
            message.push_str(" is ");
            message.push_str(&self.support.describe(&value));
            message.push_str("; it must be a function");
            self.support.lock_error(ErrorCode::InvalidArgument, &message)
        })
    }

    /// Asks for a lock. The promise resolves with a [`DistributedLock`], or `null` for `ifAvailable`.
    pub(super) fn acquire(&self, call: Call) -> Promise {
        if let Some(failure) = self.failed() {
            return Promise::reject(&failure);
        }
        if let Some(signal) = call.signal.as_ref().filter(|signal| signal.aborted()) {
            return Promise::reject(&signal.reason());
        }
        let key = self.next_request.replace(self.next_request.get() + 1);
        let abort = call.signal.map(|signal| self.abort_with(key, signal));
        let mut abort = Some(abort);
        let client = self.this.upgrade().expect("alive while its method runs");
        let promise = Promise::new(&mut |resolve, reject| {
            let waiting = Waiting {
                resolve,
                reject,
                on_queued: call.on_queued.clone(),
                abort: abort.take().flatten(),
                _client: Rc::clone(&client),
            };
            self.waiting.borrow_mut().insert(key, waiting);
        });
        self.edge().feed(Input::Acquire {
            request: RequestKey(key),
            options: call.options,
        });
        promise
    }

    fn abort_with(&self, key: u64, signal: AbortSignal) -> Abort {
        let this = Weak::clone(&self.this);
        let reason_of = signal.clone();
        let listener = Closure::<dyn FnMut(Event)>::new(move |_| {
            let Some(calls) = this.upgrade() else { return };
            let waiting = calls.waiting.borrow_mut().remove(&key);
            if let Some(waiting) = waiting {
                calls.edge().feed(Input::Abort {
                    request: RequestKey(key),
                });
                drop(waiting.reject.call1(&JsValue::UNDEFINED, &reason_of.reason()));
            }
        });
        drop(signal.add_event_listener_with_callback("abort", listener.as_ref().unchecked_ref()));
        Abort { signal, listener }
    }

    /// Calls back at each change of the connection's state. Returns what unsubscribes it.
    pub(super) fn on_state_change(&self, callback: Function) -> Function {
        let id = self.next_listener.replace(self.next_listener.get() + 1);
        self.listeners.borrow_mut().push((id, callback));
        let this = Weak::clone(&self.this);
        Closure::<dyn Fn()>::new(move || {
            if let Some(calls) = this.upgrade() {
                calls.listeners.borrow_mut().retain(|(other, _)| *other != id);
            }
        })
        .into_js_value()
        .unchecked_into()
    }

    fn output(&self, output: Output) {
        match output {
            Output::Queued { request, ahead } => {
                let waiting = self.waiting.borrow();
                let callback = waiting.get(&request.0).and_then(|waiting| waiting.on_queued.clone());
                drop(waiting);
                if let Some(callback) = callback {
                    #[expect(clippy::cast_precision_loss, reason = "at most 2^53 - 1, which an f64 holds exactly")]
                    self.support.call(&callback, &JsValue::from_f64(ahead as f64));
                }
            }
            Output::Granted { request, lock, grant } => {
                let cell = LockCell::new(lock, grant, self.support.clone());
                self.locks.borrow_mut().insert(lock, Rc::clone(&cell));
                let calls = self.this.upgrade().expect("alive while its method runs");
                // Where the call is gone, the object is dropped, and that releases the lock.
                let object = DistributedLock::new(cell, calls);
                if let Some(waiting) = self.settled(request) {
                    drop(waiting.resolve.call1(&JsValue::UNDEFINED, &JsValue::from(object)));
                }
            }
            Output::Unavailable { request } => {
                if let Some(waiting) = self.settled(request) {
                    drop(waiting.resolve.call1(&JsValue::UNDEFINED, &JsValue::NULL));
                }
            }
            Output::Rejected { request, failure } => {
                if let Some(waiting) = self.settled(request) {
                    drop(
                        waiting
                            .reject
                            .call1(&JsValue::UNDEFINED, &self.support.failure(&failure)),
                    );
                }
            }
            Output::LockEnded { lock, reason } => {
                let cell = self.locks.borrow().get(&lock).cloned();
                if let Some(cell) = cell {
                    cell.end(reason);
                }
            }
            Output::ReleaseConfirmed { lock } => {
                let cell = self.locks.borrow_mut().remove(&lock);
                if let Some(cell) = cell {
                    cell.confirm();
                }
            }
            Output::StateChanged(state) => {
                let text = JsValue::from_str(state.as_str());
                let listeners: Vec<Function> = self
                    .listeners
                    .borrow()
                    .iter()
                    .map(|(_, listener)| listener.clone())
                    .collect();
                for listener in listeners {
                    self.support.call(&listener, &text);
                }
            }
            Output::Connect { .. } | Output::Send { .. } | Output::CloseSocket { .. } => {}
        }
    }

    fn settled(&self, request: RequestKey) -> Option<Waiting> {
        let mut waiting = self.waiting.borrow_mut().remove(&request.0)?;
        // The signal's listener goes now; what it would do has no meaning any more.
        waiting.abort = None;
        Some(waiting)
    }

    /// What every later call is rejected with once this module has failed.
    pub(super) fn failed(&self) -> Option<JsValue> {
        trap::has_failed().then(|| {
            let message = "the lockrelay module failed and lost all its locks; reload the page";
            self.support.lock_error(ErrorCode::ClientClosed, message)
        })
    }

    /// This module has failed: whatever can still be told to the page is told, whatever can still be freed is freed.
    pub(super) fn abandon(&self) {
        if let Some(edge) = self.edge.get() {
            edge.abandon();
        }
        let locks = self
            .locks
            .try_borrow_mut()
            .map(|mut locks| std::mem::take(&mut *locks))
            .unwrap_or_default();
        for cell in locks.into_values() {
            cell.end(ReleaseReason::ConnectionLost);
            cell.confirm();
        }
        let waiting = self
            .waiting
            .try_borrow_mut()
            .map(|mut waiting| std::mem::take(&mut *waiting))
            .unwrap_or_default();
        if let Some(failure) = self.failed() {
            for call in waiting.into_values() {
                drop(call.reject.call1(&JsValue::UNDEFINED, &failure));
            }
        }
    }
}
