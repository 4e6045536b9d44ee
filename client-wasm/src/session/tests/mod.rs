//! The session in virtual time: a test says what happened and when, and looks at what came out.
//!
//! | file | what it tests |
//! |---|---|
//! | `requests` | calls: granted, given up, withdrawn, sent again |
//! | `locks` | how a lock ends |
//! | `connection` | phases, silence, backoff, closing |
//! | `schedules` | random schedules against a small relay |

mod connection;
mod locks;
mod requests;
mod schedules;

use super::{
    AcquireOptions, Config, ConnectionState, Failure, Grant, Input, LockKey, Millis, Output, RequestKey, Session,
};
use lockrelay_protocol::{
    Acquire, ClientMessage, CloseCode, ConnectionId, ErrorCode, LockId, Mode, MutexName, ReleaseReason, RequestId,
    ServerMessage,
};

/// The client lease that the tests' relay grants.
const LEASE: Millis = 10_000;

fn options(mutex: &str) -> AcquireOptions {
    AcquireOptions::new(MutexName::new(mutex).unwrap())
}

/// A session, its clock, and what came out since the last look.
struct Rig {
    session: Session,
    now: Millis,
    next: u64,
}

impl Rig {
    /// Connecting since 1,000.
    fn new() -> Self {
        let config = Config {
            urls: 2,
            agent: "test".into(),
            seed: 7,
        };
        Self {
            session: Session::new(1_000, config),
            now: 1_000,
            next: 1,
        }
    }

    /// With a relay that has answered; nothing of that is left in the outputs.
    fn connected() -> Self {
        let mut rig = Self::new();
        rig.open();
        rig.outputs();
        rig
    }

    fn epoch(&self) -> u64 {
        self.session.epoch
    }

    fn open(&mut self) {
        let epoch = self.epoch();
        self.input(Input::SocketOpened { epoch, token: None });
        self.receive(ServerMessage::Welcome {
            connection_id: ConnectionId::new("c").unwrap(),
            agent: "relay".into(),
            lease_millis: LEASE,
        });
    }

    fn input(&mut self, input: Input) {
        self.session.handle(self.now, input);
    }

    fn receive(&mut self, message: ServerMessage) {
        let epoch = self.epoch();
        self.input(Input::Message { epoch, message });
    }

    fn cut(&mut self, code: Option<u16>) {
        let epoch = self.epoch();
        self.input(Input::SocketClosed {
            epoch,
            code,
            reason: String::new(),
        });
    }

    /// Time passes without any timer, as in a page that is blocked.
    fn sleep(&mut self, millis: Millis) {
        self.now += millis;
    }

    /// Time passes, and the timer fires whenever the session asked for it.
    fn pass(&mut self, millis: Millis) {
        let end = self.now + millis;
        while let Some(deadline) = self.session.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.input(Input::Timer);
        }
        self.now = end;
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    /// What was sent since the last look; other outputs are forgotten.
    fn sent(&mut self) -> Vec<ClientMessage> {
        sent(&self.outputs())
    }

    fn acquire(&mut self, options: AcquireOptions) -> RequestKey {
        let request = RequestKey(self.next);
        self.next += 1;
        self.input(Input::Acquire { request, options });
        request
    }

    /// The relay grants the request with this id on the wire, now.
    fn grant(&mut self, id: u64, lock: &str) {
        self.grant_since(id, lock, self.now);
    }

    /// The relay grants it, with a lease from when the client sent `echo`.
    fn grant_since(&mut self, id: u64, lock: &str, echo: Millis) {
        self.receive(ServerMessage::Granted {
            request_id: request_id(id),
            lock_id: LockId::new(lock).unwrap(),
            fencing_token: 42,
            mode: Mode::Exclusive,
            echo,
            valid_millis: LEASE,
        });
    }

    fn heartbeat(&mut self) {
        let echo = self.now;
        self.receive(ServerMessage::Heartbeat {
            echo,
            valid_millis: LEASE,
        });
    }

    /// Acquires and is granted; nothing of that is left in the outputs.
    fn hold(&mut self, options: AcquireOptions, lock: &str) -> LockKey {
        self.acquire(options);
        let [ClientMessage::Acquire { acquire, .. }] = &self.sent()[..] else {
            panic!("one acquire is sent")
        };
        let id = acquire.request_id.as_str().parse().unwrap();
        self.grant(id, lock);
        let outputs = self.outputs();
        let [Output::Granted { lock, .. }] = outputs[..] else {
            panic!("delivered: {outputs:?}")
        };
        lock
    }
}

fn request_id(id: u64) -> RequestId {
    RequestId::new(&id.to_string()).unwrap()
}

fn sent(outputs: &[Output]) -> Vec<ClientMessage> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send { message, .. } => Some(message.clone()),
            _ => None,
        })
        .collect()
}

fn release(t: Millis, lock: &str) -> ClientMessage {
    ClientMessage::Release {
        t,
        lock_id: LockId::new(lock).unwrap(),
    }
}

fn cancel(t: Millis, id: u64) -> ClientMessage {
    ClientMessage::Cancel {
        t,
        request_id: request_id(id),
    }
}

fn released(lock: &str, held: bool) -> ServerMessage {
    ServerMessage::Released {
        lock_id: LockId::new(lock).unwrap(),
        held,
    }
}

/// Code of the one rejection among the outputs.
fn rejection(outputs: &[Output]) -> ErrorCode {
    let codes: Vec<ErrorCode> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Rejected { failure, .. } => Some(failure.code),
            _ => None,
        })
        .collect();
    assert_eq!(codes.len(), 1, "{outputs:?}");
    codes[0]
}

/// What the locks' owners were told, in order.
fn ends(outputs: &[Output]) -> Vec<(LockKey, ReleaseReason)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::LockEnded { lock, reason } => Some((*lock, *reason)),
            _ => None,
        })
        .collect()
}

fn confirmations(outputs: &[Output]) -> Vec<LockKey> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::ReleaseConfirmed { lock } => Some(*lock),
            _ => None,
        })
        .collect()
}
