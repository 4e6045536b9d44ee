//! The browser's codec reads and writes the golden frames, which the relay's codec is tested against too.
#![cfg(target_arch = "wasm32")]

use js_sys::{Array, JSON, Object, Reflect};
use lockrelay_client::browser::codec::{Frame, decode, encode};
use lockrelay_protocol::golden;
use std::collections::BTreeMap;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// The fields that a message of the relay may go without.
const OPTIONAL: [(&str, &str); 3] = [
    ("error", "requestId"),
    ("error", "lockId"),
    ("error", "retryAfterMillis"),
];

fn parse(text: &str) -> Object {
    JSON::parse(text)
        .expect("a golden frame is JSON")
        .dyn_into()
        .expect("an object")
}

fn text_of(value: &JsValue) -> String {
    JSON::stringify(value).expect("no cycles").into()
}

/// The fields with their values; their order has no meaning on the wire.
fn fields(text: &str) -> BTreeMap<String, String> {
    let frame = parse(text);
    Object::keys(&frame)
        .iter()
        .map(|name| {
            (
                name.as_string().expect("names are texts"),
                text_of(&Reflect::get(&frame, &name).expect("it is there")),
            )
        })
        .collect()
}

#[wasm_bindgen_test]
fn every_golden_frame_of_the_client_is_written() {
    for (name, text, message) in golden::client() {
        assert_eq!(fields(&encode(&message)), fields(text), "{name}");
    }
}

#[wasm_bindgen_test]
fn every_golden_frame_of_the_relay_is_read() {
    for (name, text, message) in golden::server() {
        assert_eq!(decode(text), Frame::Message(message), "{name}");
    }
}

#[wasm_bindgen_test]
fn unknown_fields_are_ignored() {
    for (name, text, message) in golden::server() {
        let text = text.replacen('{', r#"{"later":{"a":[1]},"#, 1);
        assert_eq!(decode(&text), Frame::Message(message), "{name}");
    }
}

#[wasm_bindgen_test]
fn a_message_of_an_unknown_type_is_told_apart_from_a_broken_one() {
    assert_eq!(decode(r#"{"type":"later","lockId":7}"#), Frame::Unknown);
    for text in [
        "",
        "{",
        "null",
        "7",
        "\"heartbeat\"",
        "[]",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":null}"#,
    ] {
        assert!(matches!(decode(text), Frame::Bad(_)), "{text:?}");
    }
}

#[wasm_bindgen_test]
fn a_frame_is_refused_for_each_field_that_is_missing_or_of_the_wrong_type() {
    for (name, text, _) in golden::server() {
        let kind = fields(text)["type"].trim_matches('"').to_owned();
        for field in fields(text).into_keys() {
            let frame = parse(text);
            Reflect::delete_property(&frame, &field.as_str().into()).expect("a plain object");
            let missing = decode(&text_of(&frame));
            if OPTIONAL.contains(&(kind.as_str(), field.as_str())) {
                assert!(matches!(missing, Frame::Message(_)), "{name} without {field}");
            } else {
                assert!(matches!(missing, Frame::Bad(_)), "{name} without {field}");
            }
            for wrong in [JsValue::NULL, Array::new().into()] {
                Reflect::set(&frame, &field.as_str().into(), &wrong).expect("a plain object");
                assert!(
                    matches!(decode(&text_of(&frame)), Frame::Bad(_)),
                    "{name} with {field} {wrong:?}"
                );
            }
        }
    }
}

#[wasm_bindgen_test]
fn a_number_is_whole_and_at_most_2_to_the_53_minus_1() {
    let heartbeat = |millis: &str| decode(&[r#"{"type":"heartbeat","echo":1,"validMillis":"#, millis, "}"].concat());
    for good in ["0", "1", "1e3", "9007199254740991"] {
        assert!(matches!(heartbeat(good), Frame::Message(_)), "{good}");
    }
    for bad in ["-1", "0.5", "9007199254740992", "1e300", "\"1\"", "true"] {
        assert_eq!(heartbeat(bad), Frame::Bad("validMillis"), "{bad}");
    }
}
