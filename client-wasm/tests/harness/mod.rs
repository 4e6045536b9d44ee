//! Runs tests that are written in JavaScript, the language of the API, against this build of the client.
//!
//! Each test is an async function of a `page` (`pages/page.js`), which opens clients and ends them afterwards.

use js_sys::{Array, Object};
use lockrelay_client::api::client::open_client;
use lockrelay_client::api::support::Support;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/support.js")]
extern "C" {
    #[wasm_bindgen(thread_local_v2, js_name = support)]
    static SUPPORT: JsValue;
    #[wasm_bindgen(thread_local_v2, js_name = LockError)]
    static LOCK_ERROR: JsValue;
}

#[wasm_bindgen(module = "/tests/pages/page.js")]
extern "C" {
    #[wasm_bindgen(catch)]
    async fn run(
        test: &JsValue,
        name: &str,
        open: &JsValue,
        lock_error: &JsValue,
        relay: Option<&str>,
        panic: &JsValue,
    ) -> Result<JsValue, JsValue>;
}

/// Runs the test of this name.
///
/// # Errors
/// What it threw, as text.
pub(crate) async fn run_test(tests: &JsValue, name: &str) -> Result<(), JsValue> {
    let open = Closure::<dyn Fn(Array, JsValue, f64) -> JsValue>::new(|urls: Array, token, seed| {
        let urls = urls.iter().filter_map(|url| url.as_string()).collect();
        let support = SUPPORT.with(|support| support.clone().unchecked_into::<Support>());
        open_client(urls, token, seed, support).into()
    });
    let panic = Closure::<dyn Fn()>::new(|| panic!("on purpose"));
    let lock_error = LOCK_ERROR.with(JsValue::clone);
    let relay = option_env!("RELAY_URL");
    run(
        tests,
        name,
        &open.into_js_value(),
        &lock_error,
        relay,
        &panic.into_js_value(),
    )
    .await
    .map(drop)
}

/// The names of the tests in this object, sorted.
pub(crate) fn names(tests: &JsValue) -> Vec<String> {
    let mut names: Vec<String> = Object::keys(tests.unchecked_ref::<Object>())
        .iter()
        .filter_map(|name| name.as_string())
        .collect();
    names.sort();
    names
}

/// Makes a test of each JavaScript function in a file of `pages/`, so that each is run, counted and named by itself.
#[macro_export]
macro_rules! pages {
    ($topic:ident in $file:tt: $($name:ident)+) => {
        mod $topic {
            use wasm_bindgen::prelude::*;
            use wasm_bindgen_test::wasm_bindgen_test;

            #[wasm_bindgen(module = $file)]
            extern "C" {
                #[wasm_bindgen(thread_local_v2, js_name = tests)]
                static TESTS: JsValue;
            }

            $(
                #[wasm_bindgen_test]
                async fn $name() -> Result<(), JsValue> {
                    $crate::harness::run_test(&TESTS.with(JsValue::clone), stringify!($name)).await
                }
            )+

            #[wasm_bindgen_test]
            fn every_function_of_the_file_is_run() {
                let mut run = vec![$(stringify!($name)),+];
                run.sort_unstable();
                assert_eq!(run, TESTS.with($crate::harness::names));
            }
        }
    };
}
