//! How connections end: by whom, with which code, and what becomes of their locks.

use super::support::{Client, Server, anything, long, soon};
use async_trait::async_trait;
use lockrelay::Relay;
use lockrelay::defaults::Durations;
use lockrelay::store::memory::MemoryStore;
use lockrelay::store::{
    Answer, Batch, BatchReply, Caller, Entry, Hint, LockStore, Opened, Partition, ReapReply, Renewal, SessionId, Slot,
    StoreError,
};
use lockrelay_protocol::{CloseCode, ErrorCode, ReleaseReason, ServerMessage};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// The code, in words, and the reason.
async fn code(client: &mut Client) -> (CloseCode, String) {
    let (code, reason) = client.closed().await.expect("a close frame");
    (CloseCode::from_u16(code).expect("a code of ours"), reason)
}

#[tokio::test]
async fn a_dropped_connection_hands_its_locks_on() {
    let server = Server::open().await;
    let (mut a, mut b, mut c) = (server.client().await, server.client().await, server.client().await);
    a.acquire("m").await;
    a.acquire("n").await;
    b.wait_for("b", "m").await;
    c.wait_for("c", "n").await;
    drop(a);
    b.granted("b").await;
    c.granted("c").await;
}

#[tokio::test]
async fn a_close_frame_hands_its_locks_on() {
    let server = Server::open().await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.acquire("m").await;
    b.wait_for("b", "m").await;
    a.close().await;
    b.granted("b").await;
}

#[tokio::test]
async fn a_waiter_that_went_away_delays_nobody() {
    let server = Server::open().await;
    let (mut a, mut b, mut c) = (server.client().await, server.client().await, server.client().await);
    let (lock, _) = a.acquire("m").await;
    b.wait_for("b", "m").await;
    c.wait_for("c", "m").await;
    b.close().await;
    a.release(&lock).await;
    c.granted("c").await;
}

#[tokio::test]
async fn what_is_no_message_closes_with_4000_and_frees_at_the_answer() {
    for text in ["hello", "[1]", r#"{"t":1}"#, r#"{"type":7,"t":1}"#] {
        let server = Server::open().await;
        let (mut a, mut b) = (server.client().await, server.client().await);
        a.acquire("m").await;
        b.wait_for("b", "m").await;
        a.send_text(text).await;
        assert_eq!(code(&mut a).await.0, CloseCode::Protocol, "{text}");
        b.granted("b").await;
    }
}

#[tokio::test]
async fn anything_before_hello_closes_with_4000() {
    let server = Server::open().await;
    for text in [r#"{"type":"ack","t":1}"#, r#"{"type":"dance"}"#, "hello"] {
        let mut stranger = server.stranger().await;
        stranger.send_text(text).await;
        let (code, reason) = code(&mut stranger).await;
        assert_eq!(code, CloseCode::Protocol, "{text}");
        assert!(reason.contains("the first message has to be"), "{reason}");
    }
}

#[tokio::test]
async fn no_hello_closes_with_4001() {
    let durations = Durations {
        hello_millis: 30,
        ..long()
    };
    let server = Server::start(Relay::builder().durations(durations)).await;
    let mut stranger = server.stranger().await;
    let reason = "no hello within 30 ms".to_owned();
    assert_eq!(code(&mut stranger).await, (CloseCode::HelloTimeout, reason));
}

#[tokio::test]
async fn a_binary_frame_closes_with_1003() {
    let server = Server::open().await;
    let (mut client, mut stranger) = (server.client().await, server.stranger().await);
    client.send_frame(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(code(&mut client).await.0, CloseCode::NotText);
    stranger.send_frame(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(code(&mut stranger).await.0, CloseCode::NotText);
}

#[tokio::test]
async fn a_frame_over_16_kib_closes_with_1009() {
    let server = Server::open().await;
    let mut client = server.client().await;
    let frame = |bytes: usize| {
        let shell = r#"{"type":"ack","t":1,"x":""}"#;
        shell.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - shell.len())))
    };
    assert_eq!(frame(16 * 1024).len(), 16 * 1024);
    client.send_text(&frame(16 * 1024)).await;
    client.acquire("m").await;
    client.send_text(&frame(16 * 1024 + 1)).await;
    let (code, reason) = code(&mut client).await;
    assert_eq!(code, CloseCode::TooLarge);
    assert_eq!(reason, "over 16384 bytes in one message");
}

#[tokio::test]
async fn a_fragmented_message_over_16_kib_closes_with_1009() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let server = Server::open().await;
    let mut client = server.client().await;
    for (opcode, last) in [(Data::Text, false), (Data::Continue, true)] {
        let frame = Frame::message(vec![b'x'; 9_000], OpCode::Data(opcode), last);
        client.send_frame(Message::Frame(frame)).await.unwrap();
    }
    assert_eq!(code(&mut client).await.0, CloseCode::TooLarge);
}

#[tokio::test]
async fn text_that_is_no_utf8_closes_with_4000() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let server = Server::open().await;
    let mut client = server.client().await;
    let frame = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    client.send_frame(Message::Frame(frame)).await.unwrap();
    assert_eq!(code(&mut client).await.0, CloseCode::Protocol);
}

#[tokio::test]
async fn many_wrong_messages_in_a_row_close_with_4000() {
    let server = Server::open().await;
    let mut client = server.client().await;
    let wrong = r#"{"type":"dance"}"#;
    for _ in 0..31 {
        client.send_text(wrong).await;
        assert_eq!(client.error().await.0, ErrorCode::ProtocolError);
    }
    // A right one between them starts the count anew.
    client.sync().await;
    for _ in 0..31 {
        client.send_text(wrong).await;
        client.error().await;
    }
    client.send_text(wrong).await;
    let (code, reason) = code(&mut client).await;
    assert_eq!(
        (code, reason.as_str()),
        (CloseCode::Protocol, "32 wrong messages in a row")
    );
}

#[tokio::test]
async fn an_error_quotes_at_most_1_kib() {
    let server = Server::open().await;
    let mut client = server.client().await;
    let text = format!(
        r#"{{"type":"acquire","t":1,"requestId":"r","mutex":"m","mode":"{}"}}"#,
        "é".repeat(8_000)
    );
    client.send_text(&text).await;
    let (code, message, _) = client.error().await;
    assert_eq!(code, ErrorCode::InvalidArgument);
    assert!(message.len() <= 1024, "{}", message.len());
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_is_closed_with_4003() {
    let durations = Durations {
        heartbeat_millis: 20,
        client_lease_millis: 200,
        silence_millis: 250,
        ..Durations::default()
    };
    let builder = Relay::builder().rules(anything(false)).unwrap().durations(durations);
    let server = Server::start(builder).await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    a.acquire("m").await;
    b.ask("b", "m", |_| {}).await;
    // It reads, as a page would whose script hangs, and says nothing. Meanwhile b answers its heartbeats.
    let (closed, ()) = tokio::join!(code(&mut a), b.granted_at_last());
    assert_eq!(closed.0, CloseCode::Silent);
}

#[tokio::test]
async fn an_idle_connection_is_pinged_and_stays() {
    let durations = Durations {
        idle_ping_millis: 50,
        ..long()
    };
    let server = Server::start(Relay::builder().durations(durations)).await;
    let mut client = server.client().await;
    for _ in 0..5 {
        client.ping().await;
    }
    client.sync().await;
}

#[tokio::test]
async fn an_idle_connection_that_answers_no_ping_is_closed() {
    let durations = Durations {
        idle_ping_millis: 50,
        ..long()
    };
    let server = Server::start(Relay::builder().durations(durations)).await;
    let client = server.client().await;
    assert_eq!(client.closed_unanswered().await, Some(CloseCode::Silent.as_u16()));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let durations = Durations {
        silence_millis: 1_200,
        client_lease_millis: 1_000,
        heartbeat_millis: 250,
        ..Durations::default()
    };
    let builder = Relay::builder().rules(anything(false)).unwrap().durations(durations);
    let server = Server::start(builder).await;
    let mut slow = Client::connect(server.address, Some(4096)).await;
    slow.hello().await;
    slow.acquire("m").await;
    let mut other = server.client().await;
    other.ask("o", "m", |_| {}).await;
    // Each of these asks for an answer that nobody reads.
    let wrong = format!(r#"{{"type":"{}"}}"#, "x".repeat(60));
    let fine = r#"{"type":"release","t":1,"lockId":"nothing"}"#;
    let cut = async {
        loop {
            for text in [&wrong, fine] {
                if slow.send_frame(Message::text(text)).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::join!(soon("the cut", cut), other.granted_at_last());
}

#[tokio::test]
async fn a_write_that_stalls_ends_the_connection_whatever_it_holds() {
    // Half of F is the limit of a write. This client holds nothing, and nothing is sent to it by the session layer.
    let durations = Durations {
        silence_millis: 400,
        client_lease_millis: 400,
        heartbeat_millis: 400,
        ..Durations::default()
    };
    let server = Server::start(Relay::builder().durations(durations)).await;
    let mut slow = Client::connect(server.address, Some(4096)).await;
    slow.hello().await;
    let wrong = format!(r#"{{"type":"{}"}}"#, "x".repeat(60));
    let fine = r#"{"type":"token","t":1,"token":"x"}"#;
    soon("the cut", async {
        loop {
            for text in [&wrong, fine] {
                if slow.send_frame(Message::text(text)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_says_so_to_holders_and_closes_all_with_1001() {
    let server = Server::open().await;
    let (mut holder, mut idle, mut stranger) = (server.client().await, server.client().await, server.stranger().await);
    let (lock_id, _) = holder.acquire("m").await;
    let relay = Arc::clone(&server.relay);
    let shutdown = tokio::spawn(async move { relay.shutdown().await });
    let reason = ReleaseReason::RelayShutdown;
    assert_eq!(holder.next().await, ServerMessage::Lost { lock_id, reason });
    assert_eq!(code(&mut holder).await.0, CloseCode::GoingAway);
    assert_eq!(code(&mut idle).await.0, CloseCode::GoingAway);
    // Who has not said hello holds nothing, and is not waited for.
    assert_eq!(code(&mut stranger).await.0, CloseCode::GoingAway);
    soon("the shutdown", shutdown).await.unwrap();
}

/// A memory store that can be told to forget its sessions, as one does that lost its data.
struct Forgetful {
    store: MemoryStore,
    forgot: AtomicBool,
}

#[async_trait]
impl LockStore for Forgetful {
    fn partitions(&self) -> u16 {
        self.store.partitions()
    }
    async fn open(&self, p: Partition, session: SessionId, seen: u64, token: u64) -> Result<Opened, StoreError> {
        self.store.open(p, session, seen, token).await
    }
    async fn execute(&self, p: Partition, caller: &Caller, batch: &Batch) -> Result<Answer<BatchReply>, StoreError> {
        self.store.execute(p, caller, batch).await
    }
    async fn renew(&self, p: Partition, caller: &Caller) -> Result<Answer<Renewal>, StoreError> {
        if self.forgot.swap(false, Ordering::SeqCst) {
            self.store.close(p, caller.session).await?;
        }
        self.store.renew(p, caller).await
    }
    async fn reap(
        &self,
        p: Partition,
        caller: &Caller,
        dead: SessionId,
        n: u64,
    ) -> Result<Answer<ReapReply>, StoreError> {
        self.store.reap(p, caller, dead, n).await
    }
    async fn close(&self, p: Partition, session: SessionId) -> Result<ReapReply, StoreError> {
        self.store.close(p, session).await
    }
    async fn end_recovery(&self, p: Partition, caller: &Caller) -> Result<Answer<()>, StoreError> {
        self.store.end_recovery(p, caller).await
    }
    async fn list(
        &self,
        p: Partition,
        session: SessionId,
        from: Slot,
    ) -> Result<(Vec<Entry>, Option<Slot>), StoreError> {
        self.store.list(p, session, from).await
    }
    fn hints(&self, p: Partition, session: SessionId) -> mpsc::Receiver<Hint> {
        self.store.hints(p, session)
    }
}

#[tokio::test]
async fn a_relay_that_lost_its_session_closes_with_4004_and_goes_on() {
    let store = Arc::new(Forgetful {
        store: MemoryStore::new(),
        forgot: AtomicBool::new(false),
    });
    let durations = Durations {
        renew_every_millis: 20,
        ..long()
    };
    let builder = Relay::builder().rules(anything(false)).unwrap().durations(durations);
    let server = Server::start(builder.store(Arc::clone(&store) as Arc<dyn LockStore>)).await;
    let mut client = server.client().await;
    let (lock_id, _) = client.acquire("m").await;
    store.forgot.store(true, Ordering::SeqCst);
    let reason = ReleaseReason::StoreLost;
    assert_eq!(client.next().await, ServerMessage::Lost { lock_id, reason });
    assert_eq!(code(&mut client).await.0, CloseCode::StoreLost);
    let mut again = server.client().await;
    again.acquire("m").await;
}
