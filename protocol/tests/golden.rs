//! The serde codec against the golden frames, and what it answers to frames that are no messages.

use lockrelay_protocol::wire::WireError;
use lockrelay_protocol::{ClientMessage, ErrorCode, ServerMessage, golden};
use serde_json::Value;
use std::collections::BTreeSet;

fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("golden frames are JSON")
}

#[test]
fn every_golden_frame_means_its_message_and_is_written_as_it_stands() {
    for (name, text, message) in golden::client() {
        assert_eq!(ClientMessage::from_json(text).as_ref(), Ok(&message), "{name}");
        assert_eq!(value(&message.to_json()), value(text), "{name}");
    }
    for (name, text, message) in golden::server() {
        assert_eq!(ServerMessage::from_json(text).as_ref(), Ok(&message), "{name}");
        assert_eq!(value(&message.to_json()), value(text), "{name}");
    }
}

#[test]
fn every_golden_file_is_in_the_table_and_every_type_has_one() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the folder exists")
        .map(|file| {
            file.expect("readable")
                .file_name()
                .to_string_lossy()
                .replace(".json", "")
        })
        .collect();
    let (client, server) = (golden::client(), golden::server());
    let names = client
        .iter()
        .map(|golden| golden.0)
        .chain(server.iter().map(|golden| golden.0));
    assert_eq!(files, names.map(str::to_owned).collect());
    let kinds = |texts: Vec<&str>| -> BTreeSet<String> {
        texts
            .iter()
            .map(|text| value(text)["type"].as_str().expect("a type").to_owned())
            .collect()
    };
    assert_eq!(kinds(client.iter().map(|golden| golden.1).collect()).len(), 6);
    assert_eq!(kinds(server.iter().map(|golden| golden.1).collect()).len(), 10);
}

#[test]
fn unknown_fields_are_ignored() {
    for (name, text, message) in golden::client() {
        let text = text.replacen('{', r#"{"later":{"a":[1]},"#, 1);
        assert_eq!(ClientMessage::from_json(&text), Ok(message), "{name}");
    }
    for (name, text, message) in golden::server() {
        let text = text.replacen('{', r#"{"later":{"a":[1]},"#, 1);
        assert_eq!(ServerMessage::from_json(&text), Ok(message), "{name}");
    }
}

#[test]
fn unknown_types_are_answered_and_garbage_is_not() {
    let unknown = ClientMessage::from_json(r#"{"type":"subscribe","t":1}"#).expect_err("unknown");
    assert_eq!(
        unknown,
        WireError::UnknownType {
            kind: "subscribe".into()
        }
    );
    let Some(ServerMessage::Error {
        code: ErrorCode::ProtocolError,
        message,
        request_id: None,
        ..
    }) = unknown.answer()
    else {
        panic!("an unknown type is answered with PROTOCOL_ERROR")
    };
    assert!(message.contains("subscribe"), "{message}");

    for text in [
        "",
        "hello",
        "[]",
        "1",
        "null",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"ack""#,
        r#"{"t":1}"#,
    ] {
        let garbage = ClientMessage::from_json(text).expect_err(text);
        assert!(matches!(garbage, WireError::NotAMessage(_)), "{text}: {garbage:?}");
        assert_eq!(garbage.answer(), None, "{text}");
    }
}

#[test]
fn a_bad_field_is_answered_with_the_request_that_it_concerns() {
    let acquire = |fields: &str| format!(r#"{{"type":"acquire","t":1,"requestId":"7",{fields}}}"#);
    let long = "m".repeat(513);
    for (fields, part) in [
        (r#""mode":"exclusive""#.to_owned(), "missing field `mutex`"),
        (r#""mutex":"""#.to_owned(), "is empty"),
        (format!(r#""mutex":"{long}""#), "513 bytes long; at most 512"),
        (r#""mutex":"a\u0000""#.to_owned(), "U+0000 at byte 1"),
        (r#""mutex":7"#.to_owned(), "invalid type"),
        (
            r#""mutex":"m","mode":"exclusiv""#.to_owned(),
            "none of exclusive, shared",
        ),
        (r#""mutex":"m","waitMillis":-1"#.to_owned(), "invalid value"),
        (r#""mutex":"m","waitMillis":1.5"#.to_owned(), "invalid type"),
        (
            r#""mutex":"m","waitMillis":9007199254740992"#.to_owned(),
            "at most 9007199254740991",
        ),
        (r#""mutex":"m","maxHoldMillis":0"#.to_owned(), "at least 1"),
        (
            r#""mutex":"m","steal":true,"ifAvailable":true"#.to_owned(),
            "exclude each other",
        ),
        (
            format!(r#""mutex":"m","metadata":"{}""#, "d".repeat(1025)),
            "1025 bytes long; at most 1024",
        ),
    ] {
        let text = acquire(&fields);
        let Err(problem @ WireError::BadField { .. }) = ClientMessage::from_json(&text) else {
            panic!("accepted or refused otherwise: {text}")
        };
        let Some(ServerMessage::Error {
            code: ErrorCode::InvalidArgument,
            message,
            request_id,
            ..
        }) = problem.answer()
        else {
            panic!("not answered with INVALID_ARGUMENT: {text}")
        };
        assert_eq!(request_id.expect("names the request").as_str(), "7");
        assert!(
            message.contains(part) && message.starts_with("bad \"acquire\": "),
            "{message} lacks {part}"
        );
    }
    let release = r#"{"type":"release","lockId":"x"}"#;
    let Err(WireError::BadField {
        lock_id: Some(lock_id), ..
    }) = ClientMessage::from_json(release)
    else {
        panic!("a release without t is a bad field")
    };
    assert_eq!(lock_id.as_str(), "x");
}
