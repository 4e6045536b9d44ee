//! A relay on a free port, and clients that speak its protocol frame by frame.

use futures_util::{SinkExt as _, StreamExt as _};
use lockrelay::defaults::Durations;
use lockrelay::rules::{Allow, Rule};
use lockrelay::{Relay, RelayBuilder};
use lockrelay_protocol::{
    Acquire, ClientMessage, LockId, Mode, MutexName, PATH, RequestId, SUBPROTOCOL, ServerMessage,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// What a test awaits comes within this time, or never.
pub(crate) const LIMIT: Duration = Duration::from_secs(8);

/// Awaits what has to happen.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A rule that allows everything.
pub(crate) fn anything(steal: bool) -> Vec<Rule> {
    let mutex = "*".to_owned();
    vec![Rule {
        mutex,
        allow: Allow::Anyone,
        steal,
    }]
}

/// Durations so long that nothing in a test can be the work of a timer.
pub(crate) fn long() -> Durations {
    Durations {
        relay_lease_millis: 60_000,
        renew_every_millis: 15_000,
        client_lease_millis: 60_000,
        silence_millis: 60_000,
        heartbeat_millis: 60_000,
        pull_every_millis: 60_000,
        ..Durations::default()
    }
}

/// A relay that is served on a free port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) relay: Arc<Relay>,
}

impl Server {
    /// One that allows everything and does nothing by timer.
    pub(crate) async fn open() -> Self {
        let builder = Relay::builder().rules(anything(true)).unwrap();
        Self::start(builder.durations(long())).await
    }

    pub(crate) async fn start(builder: RelayBuilder) -> Self {
        let relay = Arc::new(builder.build().await.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = axum::serve(listener, relay.router()).with_graceful_shutdown(relay.closing());
        tokio::spawn(serving.into_future());
        Self { address, relay }
    }

    /// A client that was welcomed.
    pub(crate) async fn client(&self) -> Client {
        let mut client = self.stranger().await;
        client.hello().await;
        client
    }

    /// A client that has not said hello.
    pub(crate) async fn stranger(&self) -> Client {
        Client::connect(self.address, None).await
    }

    /// Sends an HTTP request and reads the answer to its end.
    pub(crate) async fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        request(self.address, method, path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "").await
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let header = self.headers.iter().find(|(header, _)| header == name);
        header.map_or("", |(_, value)| value)
    }
}

pub(crate) async fn request(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let close = if headers.contains("connection:") {
        ""
    } else {
        "connection: close\r\n"
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{close}content-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("an HTTP answer", stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer has a head");
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let body = body.to_owned();
    Answer { status, headers, body }
}

/// One WebSocket connection.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    /// Its clock: one more with each message.
    pub(crate) t: u64,
}

impl Client {
    /// Connects, if asked so with a receive buffer of this size.
    pub(crate) async fn connect(address: SocketAddr, receive_buffer: Option<u32>) -> Self {
        let tcp = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            tcp.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = tcp.connect(address).await.unwrap();
        let mut request = format!("ws://{address}{PATH}").into_client_request().unwrap();
        let header = request.headers_mut();
        header.insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
        header.insert("origin", "https://shop.example".parse().unwrap());
        let (socket, response) = soon("the handshake", tokio_tungstenite::client_async(request, stream))
            .await
            .unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
        Self { socket, t: 1_000 }
    }

    pub(crate) async fn hello(&mut self) {
        let t = self.tick();
        self.send(&ClientMessage::Hello {
            t,
            agent: Some("test".to_owned()),
            token: None,
        })
        .await;
        match self.next().await {
            ServerMessage::Welcome { agent, .. } => assert!(agent.starts_with("lockrelay/")),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub(crate) fn tick(&mut self) -> u64 {
        self.t += 1;
        self.t
    }

    pub(crate) async fn send(&mut self, message: &ClientMessage) {
        self.send_text(&message.to_json()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send_frame(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn send_frame(&mut self, frame: Message) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        self.socket.send(frame).await
    }

    /// The next message of any kind.
    pub(crate) async fn next(&mut self) -> ServerMessage {
        loop {
            match soon("a message", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return ServerMessage::from_json(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no message: {other:?}"),
            }
        }
    }

    /// The next ping. The client's library answers it.
    pub(crate) async fn ping(&mut self) {
        loop {
            match soon("a ping", self.socket.next()).await {
                Some(Ok(Message::Ping(_))) => return,
                Some(Ok(_)) => {}
                other => panic!("no ping: {other:?}"),
            }
        }
    }

    /// Acknowledges what it read.
    pub(crate) async fn ack(&mut self) {
        let t = self.tick();
        self.send(&ClientMessage::Ack { t }).await;
    }

    /// Reads on until the connection is closed, and says with which code and why. `None`: the TCP connection just ended.
    pub(crate) async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match soon("the close", self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map(|frame| (frame.code.into(), frame.reason.to_string()))?;
                    // Reading on sends the answer to it.
                    while let Some(Ok(_)) = soon("the end", self.socket.next()).await {}
                    return Some((code, reason));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Sends a close frame, and waits until the connection ends.
    pub(crate) async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        while let Some(Ok(_)) = soon("the end", self.socket.next()).await {}
    }

    /// Reads no frames but the close frame, straight from the TCP connection, so that nothing is answered; says its code.
    pub(crate) async fn closed_unanswered(self) -> Option<u16> {
        let mut stream = self.socket.into_inner();
        let close = async {
            loop {
                let mut head = [0; 2];
                stream.read_exact(&mut head).await.ok()?;
                // Frames of this size, unmasked, as a server sends them: RFC 6455, 5.2.
                let mut payload = vec![0; usize::from(head[1])];
                stream.read_exact(&mut payload).await.ok()?;
                if head[0] & 0x0f == 8 {
                    return Some(u16::from_be_bytes([payload[0], payload[1]]));
                }
            }
        };
        soon("the close", close).await
    }

    /// Asks for a lock and does not wait for an answer.
    pub(crate) async fn ask(&mut self, request: &str, mutex: &str, change: impl FnOnce(&mut Acquire)) {
        let mut acquire = Acquire {
            request_id: RequestId::new(request).unwrap(),
            mutex: MutexName::new(mutex).unwrap(),
            mode: Mode::Exclusive,
            wait_millis: None,
            max_hold_millis: None,
            if_available: false,
            steal: false,
            metadata: None,
        };
        change(&mut acquire);
        let t = self.tick();
        self.send(&ClientMessage::Acquire { t, acquire }).await;
    }

    /// Asks for a lock and waits until it is granted.
    pub(crate) async fn acquire(&mut self, mutex: &str) -> (LockId, u64) {
        let request = format!("r{}", self.t);
        self.ask(&request, mutex, |_| {}).await;
        self.granted(&request).await
    }

    pub(crate) async fn granted(&mut self, request: &str) -> (LockId, u64) {
        match self.next().await {
            ServerMessage::Granted {
                request_id,
                lock_id,
                fencing_token,
                ..
            } => {
                assert_eq!(request_id.as_str(), request);
                (lock_id, fencing_token)
            }
            other => panic!("{request} not granted: {other:?}"),
        }
    }

    /// Answers heartbeats until its request is granted.
    pub(crate) async fn granted_at_last(&mut self) {
        loop {
            match self.next().await {
                ServerMessage::Heartbeat { .. } => self.ack().await,
                ServerMessage::Queued { .. } => {}
                ServerMessage::Granted { .. } => return,
                other => panic!("not granted: {other:?}"),
            }
        }
    }

    pub(crate) async fn queued(&mut self, request: &str) -> u64 {
        match self.next().await {
            ServerMessage::Queued { request_id, ahead } => {
                assert_eq!(request_id.as_str(), request);
                ahead
            }
            other => panic!("{request} not queued: {other:?}"),
        }
    }

    /// Asks for a lock that another holds.
    pub(crate) async fn wait_for(&mut self, request: &str, mutex: &str) -> u64 {
        self.ask(request, mutex, |_| {}).await;
        self.queued(request).await
    }

    /// Releases a lock, and says whether it was held.
    pub(crate) async fn release(&mut self, lock: &LockId) -> bool {
        let t = self.tick();
        let lock_id = lock.clone();
        self.send(&ClientMessage::Release { t, lock_id }).await;
        match self.next().await {
            ServerMessage::Released { lock_id, held } => {
                assert_eq!(&lock_id, lock);
                held
            }
            other => panic!("not released: {other:?}"),
        }
    }

    /// The code, text and request of the `error` that comes next.
    pub(crate) async fn error(&mut self) -> (lockrelay_protocol::ErrorCode, String, Option<String>) {
        match self.next().await {
            ServerMessage::Error {
                code,
                message,
                request_id,
                ..
            } => (code, message, request_id.map(|id| id.to_string())),
            other => panic!("no error: {other:?}"),
        }
    }

    /// A round trip: what was sent before has been dealt with when this returns.
    pub(crate) async fn sync(&mut self) {
        let lock = LockId::new("nothing").unwrap();
        assert!(!self.release(&lock).await);
    }
}
