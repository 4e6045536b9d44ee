//! What happens when this module itself fails. A panic ends in a trap, after which its memory cannot be trusted; so the hook,
//! which runs just before, closes every socket and reports every lock lost, and nothing is believed from then on.

use super::calls::Calls;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use wasm_bindgen::prelude::*;

thread_local! {
    static FAILED: Cell<bool> = const { Cell::new(false) };
    static WATCHED: RefCell<Vec<Weak<Calls>>> = const { RefCell::new(Vec::new()) };
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Whether the module has failed.
pub(super) fn has_failed() -> bool {
    FAILED.get()
}

/// Lets the client hear of a failure.
pub(super) fn watch(calls: &Rc<Calls>) {
    WATCHED.with_borrow_mut(|watched| {
        watched.retain(|calls| calls.strong_count() > 0);
        watched.push(Rc::downgrade(calls));
    });
}

/// Installs the hook; once is enough.
pub(super) fn install() {
    thread_local!(static INSTALLED: Cell<bool> = const { Cell::new(false) });
    if !INSTALLED.replace(true) {
        std::panic::set_hook(Box::new(|panic| {
            FAILED.set(true);
            console_error(&panic.to_string());
            let watched = WATCHED.try_with(|watched| watched.try_borrow_mut().map(|mut all| std::mem::take(&mut *all)));
            for calls in watched.into_iter().flatten().flatten() {
                if let Some(calls) = calls.upgrade() {
                    calls.abandon();
                    // Its memory may be half changed: it is never dropped.
                    std::mem::forget(calls);
                }
            }
        }));
    }
}
