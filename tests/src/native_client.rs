//! The page's own session over a native socket, with an interface that tests can await.

use futures_util::{SinkExt as _, StreamExt as _};
use lockrelay_client::session::{
    AcquireOptions, Config, ConnectionState, Failure, Grant, Input, LockKey, Millis, Output, RequestKey, Session,
};
use lockrelay_protocol::wire::WireError;
use lockrelay_protocol::{ClientMessage, ReleaseReason, SUBPROTOCOL, ServerMessage};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Answer = Result<Option<NativeLock>, Failure>;

/// How long to sleep where the session has no deadline: something else will happen first.
const LONG: Duration = Duration::from_secs(3_600);

enum Command {
    Acquire(RequestKey, AcquireOptions, oneshot::Sender<Answer>),
    Abort(RequestKey),
    Release(LockKey),
    Close,
}

/// A client. Dropped, it goes as a killed process does: without a word.
#[derive(Debug)]
pub struct NativeClient {
    commands: mpsc::UnboundedSender<Command>,
    next: Arc<AtomicU64>,
    state: watch::Receiver<ConnectionState>,
    task: JoinHandle<()>,
}

/// A call of `acquire` that can be withdrawn.
#[derive(Debug)]
pub struct Pending {
    key: RequestKey,
    commands: mpsc::UnboundedSender<Command>,
    answer: oneshot::Receiver<Answer>,
}

/// A lock that was delivered.
#[derive(Clone, Debug)]
pub struct NativeLock {
    /// What it is.
    pub grant: Grant,
    key: LockKey,
    commands: mpsc::UnboundedSender<Command>,
    fate: watch::Receiver<Fate>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    ended: Option<ReleaseReason>,
    tellings: u32,
    confirmed: bool,
}

impl NativeClient {
    /// Connects to these relays, in turn.
    #[must_use]
    pub fn connect(urls: &[String]) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (state_sender, state) = watch::channel(ConnectionState::Connecting);
        let next = Arc::new(AtomicU64::new(1));
        let driver = Driver::new(urls.to_vec(), commands.clone(), state_sender);
        let task = tokio::spawn(driver.run(inbox));
        Self {
            commands,
            next,
            state,
            task,
        }
    }

    /// Asks for a lock.
    #[must_use]
    pub fn start(&self, options: AcquireOptions) -> Pending {
        let key = RequestKey(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        // A client that has ended drops the sender, which the answer shows.
        let _ = self.commands.send(Command::Acquire(key, options, sender));
        Pending {
            key,
            commands: self.commands.clone(),
            answer,
        }
    }

    /// Asks for a lock and waits for the answer; `None` is `ifAvailable` that was not.
    ///
    /// # Errors
    /// As the public API has them.
    pub async fn acquire(&self, options: AcquireOptions) -> Answer {
        self.start(options).answer().await
    }

    /// The connection's state, to be watched.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Waits until the connection is in this state.
    ///
    /// # Panics
    /// If the client ends before.
    pub async fn until(&self, state: ConnectionState) {
        self.state
            .clone()
            .wait_for(|now| *now == state)
            .await
            .expect("the client runs");
    }

    /// Closes it, and waits until its socket is closed.
    ///
    /// # Panics
    /// If its task panicked.
    pub async fn close(mut self) {
        let _ = self.commands.send(Command::Close);
        (&mut self.task).await.expect("the client's task ends well");
    }
}

impl Drop for NativeClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pending {
    /// Waits for the answer.
    ///
    /// # Errors
    /// As the public API has them.
    ///
    /// # Panics
    /// If the client was dropped.
    pub async fn answer(self) -> Answer {
        self.answer.await.expect("the client runs")
    }

    /// Withdraws the call. What was answered already, unseen, is given back.
    pub fn abort(mut self) {
        let _ = self.commands.send(Command::Abort(self.key));
        if let Ok(Ok(Some(lock))) = self.answer.try_recv() {
            let _ = self.commands.send(Command::Release(lock.key));
        }
    }
}

impl NativeLock {
    /// Gives it back; returns when the relay has confirmed, or the connection has ended.
    pub async fn release(&self) {
        let _ = self.commands.send(Command::Release(self.key));
        // A client that was dropped takes its connection along.
        let _ = self.fate.clone().wait_for(|fate| fate.confirmed).await;
    }

    /// Gives it back, not awaited.
    pub fn release_later(&self) {
        let _ = self.commands.send(Command::Release(self.key));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If the client was dropped before.
    pub async fn released(&self) -> ReleaseReason {
        let mut fate = self.fate.clone();
        let fate = fate
            .wait_for(|fate| fate.ended.is_some())
            .await
            .expect("the client runs");
        fate.ended.expect("just seen")
    }

    /// Whether its end was told.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.fate.borrow().ended.is_some()
    }

    /// How often its end was told.
    #[must_use]
    pub fn tellings(&self) -> u32 {
        self.fate.borrow().tellings
    }
}

struct Driver {
    urls: Vec<String>,
    began: Instant,
    session: Session,
    socket: Option<Socket>,
    epoch: u64,
    waiting: HashMap<RequestKey, oneshot::Sender<Answer>>,
    locks: HashMap<LockKey, watch::Sender<Fate>>,
    commands: mpsc::UnboundedSender<Command>,
    state: watch::Sender<ConnectionState>,
}

impl Driver {
    fn new(urls: Vec<String>, commands: mpsc::UnboundedSender<Command>, state: watch::Sender<ConnectionState>) -> Self {
        static SEED: AtomicU64 = AtomicU64::new(1);
        let seed = SEED.fetch_add(1, Ordering::Relaxed);
        let config = Config {
            urls: urls.len(),
            agent: "lockrelay-tests".to_owned(),
            seed,
        };
        Self {
            urls,
            began: Instant::now(),
            session: Session::new(0, config),
            socket: None,
            epoch: 0,
            waiting: HashMap::new(),
            locks: HashMap::new(),
            commands,
            state,
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        self.session.handle(now, input);
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            self.carry_out().await;
            if *self.state.borrow() == ConnectionState::Closed {
                return;
            }
            let wait = self
                .session
                .deadline()
                .map_or(LONG, |at| Duration::from_millis(at.saturating_sub(self.now())));
            let input = tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                event = next_event(&mut self.socket) => self.event(event),
                () = tokio::time::sleep(wait) => Input::Timer,
            };
            self.handle(input);
        }
    }

    fn command(&mut self, command: Command) -> Input {
        match command {
            Command::Acquire(request, options, answer) => {
                self.waiting.insert(request, answer);
                Input::Acquire { request, options }
            }
            Command::Abort(request) => {
                self.waiting.remove(&request);
                Input::Abort { request }
            }
            Command::Release(lock) => Input::Release { lock },
            Command::Close => Input::Close,
        }
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

    async fn carry_out(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect { epoch, url } => self.connect(epoch, url).await,
                Output::Send { message, .. } => self.send(&message).await,
                Output::CloseSocket { .. } => {
                    if let Some(mut socket) = self.socket.take() {
                        let _ = socket.close(None).await;
                        // Until the relay has answered, so that what was sent has arrived.
                        while let Some(Ok(_)) = socket.next().await {}
                    }
                }
                Output::Granted { request, lock, grant } => self.granted(request, lock, grant),
                Output::Unavailable { request } => self.answer(request, Ok(None)),
                Output::Rejected { request, failure } => self.answer(request, Err(failure)),
                Output::LockEnded { lock, reason } => {
                    if let Some(fate) = self.locks.get(&lock) {
                        fate.send_modify(|fate| {
                            fate.ended = Some(reason);
                            fate.tellings += 1;
                        });
                    }
                }
                Output::ReleaseConfirmed { lock } => {
                    if let Some(fate) = self.locks.remove(&lock) {
                        fate.send_modify(|fate| fate.confirmed = true);
                    }
                }
                Output::StateChanged(state) => {
                    self.state.send_replace(state);
                }
                Output::Queued { .. } => {}
            }
        }
    }

    fn granted(&mut self, request: RequestKey, key: LockKey, grant: Grant) {
        let (sender, fate) = watch::channel(Fate::default());
        self.locks.insert(key, sender);
        let lock = NativeLock {
            grant,
            key,
            commands: self.commands.clone(),
            fate,
        };
        let waiting = self.waiting.remove(&request);
        // Whoever asked may be gone.
        if waiting.is_none_or(|waiting| waiting.send(Ok(Some(lock))).is_err()) {
            self.handle(Input::Release { lock: key });
        }
    }

    fn answer(&mut self, request: RequestKey, answer: Answer) {
        if let Some(waiting) = self.waiting.remove(&request) {
            let _ = waiting.send(answer);
        }
    }

    async fn send(&mut self, message: &ClientMessage) {
        // A socket that fails here says so as its next event too.
        if let Some(socket) = &mut self.socket {
            let _ = socket.send(Message::text(message.to_json())).await;
        }
    }

    async fn connect(&mut self, epoch: u64, url: usize) {
        self.epoch = epoch;
        let mut request = self.urls[url]
            .as_str()
            .into_client_request()
            .expect("a test's URL is valid");
        request
            .headers_mut()
            .insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        self.socket = connect_async(request).await.ok().map(|(socket, _)| socket);
        self.handle(match self.socket {
            Some(_) => Input::SocketOpened { epoch, token: None },
            None => Input::SocketClosed {
                epoch,
                code: None,
                reason: String::new(),
            },
        });
    }
}

/// The socket's next frame, or `None` when it ended; without a socket, nothing ever.
async fn next_event(socket: &mut Option<Socket>) -> Option<Message> {
    match socket {
        Some(socket) => socket.next().await.and_then(Result::ok),
        None => std::future::pending().await,
    }
}
