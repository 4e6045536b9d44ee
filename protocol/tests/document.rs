//! `PROTOCOL.md` is part of the contract: its JSON is parsed, and nothing that the types know is missing from it.

use lockrelay_protocol::{ClientMessage, CloseCode, ErrorCode, ReleaseReason, ServerMessage, golden, limits};
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../PROTOCOL.md");

/// The text of every fenced block of this language, with the heading that it stands under.
fn blocks(language: &str) -> Vec<(&'static str, String)> {
    let (mut blocks, mut heading, mut open) = (Vec::new(), "", None::<String>);
    for line in DOCUMENT.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(found)) if found == language => open = Some(String::new()),
            (Some(_), Some("")) => blocks.push((heading, open.take().expect("a block is open"))),
            (Some(text), None) => {
                text.push_str(line);
                text.push('\n');
            }
            _ if line.starts_with("#") => heading = line,
            _ => {}
        }
    }
    blocks
}

#[test]
fn every_json_block_is_a_message_of_the_section_that_it_stands_in() {
    let mut kinds = BTreeSet::new();
    for (heading, text) in blocks("json") {
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{heading}: {why}"));
        let kind = value["type"].as_str().expect("a message has a type").to_owned();
        assert_eq!(
            heading,
            format!("### `{kind}`"),
            "stands under another message's heading"
        );
        // Written back it must be the same: a field that the types do not know would vanish.
        let again = match ClientMessage::from_json(&text) {
            Ok(message) => message.to_json(),
            Err(_) => ServerMessage::from_json(&text)
                .unwrap_or_else(|why| panic!("{heading}: {why}"))
                .to_json(),
        };
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&again).unwrap(),
            value,
            "{heading}"
        );
        kinds.insert(kind);
    }
    let all = golden::client()
        .iter()
        .map(|golden| golden.1)
        .chain(golden::server().iter().map(|golden| golden.1))
        .map(|text| {
            serde_json::from_str::<serde_json::Value>(text).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect::<BTreeSet<_>>();
    assert_eq!(kinds, all, "each message type has a section with an example");
}

#[test]
fn every_code_reason_and_limit_is_documented() {
    for code in ErrorCode::ALL {
        assert!(DOCUMENT.contains(&format!("`{code}`")), "error code {code}");
    }
    for reason in ReleaseReason::ALL {
        assert!(DOCUMENT.contains(&format!("`{reason}`")), "release reason {reason}");
    }
    for code in CloseCode::ALL {
        let row = DOCUMENT
            .lines()
            .find(|line| line.starts_with(&format!("| {} |", code.as_u16())));
        let row = row.unwrap_or_else(|| panic!("close code {}", code.as_u16()));
        let yes = row.rsplit('|').nth(1).expect("a last column").trim().starts_with("yes");
        assert_eq!(yes, code.may_reconnect(), "{row}");
    }
    for (number, what) in [
        (limits::MAX_MUTEX_NAME_BYTES, "mutex name"),
        (limits::MAX_FRAME_BYTES, "frame"),
        (limits::MAX_METADATA_BYTES, "metadata"),
        (limits::MAX_REQUEST_ID_BYTES, "request id, chosen by the client"),
        (limits::MAX_LOCK_ID_BYTES, "lock id, connection id, chosen by the relay"),
        (limits::MAX_TOKEN_BYTES, "token"),
        (limits::MAX_AGENT_BYTES, "agent"),
    ] {
        let row = DOCUMENT
            .lines()
            .find(|line| line.starts_with(&format!("| {what} |")))
            .unwrap_or_else(|| panic!("{what}"));
        let digits: String = row.chars().filter(|character| *character != ',').collect();
        assert!(digits.contains(&number.to_string()), "{row} lacks {number}");
    }
}
