//! A client without a browser: the page's own session over a native socket, told what to do by the test that started it.
//!
//! `lockrelay-native-client URL`, then a command on each line of standard input, and an event on each line of standard output:
//!
//! | command | then |
//! |---|---|
//! | `acquire MUTEX` | waits without limit, until `granted TOKEN` or `rejected CODE` |
//! | `release` | gives back what was granted last; `released` once the relay has confirmed |
//! | end of the input | closes the client; the process ends |
//!
//! Unasked: `connected` and the other states of the connection, `ended REASON` for each lock that ended.

use futures_util::{SinkExt as _, StreamExt as _};
use lockrelay_client::session::{AcquireOptions, Config, Input, LockKey, Millis, Output, RequestKey, Session};
use lockrelay_protocol::wire::WireError;
use lockrelay_protocol::{MutexName, SUBPROTOCOL, ServerMessage};
use std::error::Error;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long to sleep where the session has no deadline: something else will happen first.
const LONG: Duration = Duration::from_secs(3_600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: lockrelay-native-client URL")?;
    let mut client = Client::new(url);
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    loop {
        client.carry_out().await?;
        let deadline = client.until_deadline();
        let input = tokio::select! {
            line = commands.next_line() => match line? {
                Some(command) => client.command(&command)?,
                None => break,
            },
            event = next_event(&mut client.socket) => client.event(event),
            () = tokio::time::sleep(deadline) => Input::Timer,
        };
        client.handle(input);
    }
    client.handle(Input::Close);
    client.carry_out().await
}

struct Client {
    url: String,
    began: Instant,
    session: Session,
    socket: Option<Socket>,
    epoch: u64,
    requests: u64,
    held: Option<LockKey>,
}

impl Client {
    fn new(url: String) -> Self {
        let config = Config {
            urls: 1,
            agent: "lockrelay-native-client".to_owned(),
            seed: u64::from(std::process::id()),
        };
        Self {
            url,
            began: Instant::now(),
            session: Session::new(0, config),
            socket: None,
            epoch: 0,
            requests: 0,
            held: None,
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        self.session.handle(now, input);
    }

    fn until_deadline(&self) -> Duration {
        self.session.deadline().map_or(LONG, |deadline| {
            Duration::from_millis(deadline.saturating_sub(self.now()))
        })
    }

    fn command(&mut self, line: &str) -> Result<Input, Box<dyn Error>> {
        if line == "release" {
            let lock = self.held.take().ok_or("release: nothing is held")?;
            return Ok(Input::Release { lock });
        }
        let mutex = line
            .strip_prefix("acquire ")
            .ok_or_else(|| format!("unknown command {line:?}"))?;
        self.requests += 1;
        let mut options = AcquireOptions::new(MutexName::new(mutex)?);
        options.wait_millis = None;
        Ok(Input::Acquire {
            request: RequestKey(self.requests),
            options,
        })
    }

    /// What the socket had to say, in the session's words.
    fn event(&mut self, event: Option<Message>) -> Input {
        let epoch = self.epoch;
        match event {
            Some(Message::Text(text)) => match ServerMessage::from_json(&text) {
                Ok(message) => Input::Message { epoch, message },
                Err(WireError::UnknownType { .. }) => Input::Timer,
                Err(problem) => Input::BadMessage {
                    epoch,
                    problem: problem.to_string(),
                },
            },
            Some(Message::Close(frame)) => {
                self.socket = None;
                let (code, reason) = frame.map_or((None, String::new()), |frame| {
                    (Some(frame.code.into()), frame.reason.to_string())
                });
                Input::SocketClosed { epoch, code, reason }
            }
            // Pings are answered by the library.
            Some(_) => Input::Timer,
            None => {
                self.socket = None;
                Input::SocketClosed {
                    epoch,
                    code: None,
                    reason: String::new(),
                }
            }
        }
    }

    /// Does what the session wants, until it wants nothing more.
    async fn carry_out(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect { epoch, .. } => self.connect(epoch).await?,
                Output::Send { message, .. } => {
                    // A socket that fails here says so as its next event too.
                    if let Some(socket) = &mut self.socket {
                        drop(socket.send(Message::text(message.to_json())).await);
                    }
                }
                Output::CloseSocket { .. } => {
                    if let Some(mut socket) = self.socket.take() {
                        drop(socket.close(None).await);
                    }
                }
                Output::Granted { lock, grant, .. } => {
                    self.held = Some(lock);
                    println!("granted {}", grant.fencing_token);
                }
                Output::Rejected { failure, .. } => println!("rejected {}", failure.code.as_str()),
                Output::LockEnded { reason, .. } => println!("ended {}", reason.as_str()),
                Output::ReleaseConfirmed { .. } => println!("released"),
                Output::StateChanged(state) => println!("{}", state.as_str()),
                Output::Queued { .. } | Output::Unavailable { .. } => {}
            }
        }
        Ok(())
    }

    async fn connect(&mut self, epoch: u64) -> Result<(), Box<dyn Error>> {
        self.epoch = epoch;
        let mut request = self.url.as_str().into_client_request()?;
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        self.socket = connect_async(request).await.ok().map(|(socket, _)| socket);
        self.handle(match self.socket {
            Some(_) => Input::SocketOpened { epoch, token: None },
            None => Input::SocketClosed {
                epoch,
                code: None,
                reason: String::new(),
            },
        });
        Ok(())
    }
}

/// The socket's next frame, or `None` when it ended; without a socket, nothing ever.
async fn next_event(socket: &mut Option<Socket>) -> Option<Message> {
    match socket {
        Some(socket) => socket.next().await.and_then(Result::ok),
        None => std::future::pending().await,
    }
}
