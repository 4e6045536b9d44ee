//! What the API accepts and refuses.
#![cfg(target_arch = "wasm32")]

mod harness;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

pages! { arguments in "/tests/pages/arguments.js":
    a_wrong_argument_is_refused_with_its_name_its_value_and_what_is_allowed
    what_is_accepted_reaches_the_relay_as_it_was_given
    what_is_no_callback_is_refused
}
