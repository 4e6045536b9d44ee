//! What a page sees when the client's module fails. In a file of its own, because it fails for good.
#![cfg(target_arch = "wasm32")]

mod harness;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

pages! { trap in "/tests/pages/trap.js":
    a_failure_of_the_module_loses_every_lock_and_later_calls_say_so
}
