//! A client as the protocol asks for: it believes until its lease ends by its own clock, latches a loss, and answers.

use super::Rng;
use crate::session::clock::Millis;
use crate::session::handle::{Command, End, Outgoing};
use crate::session::hub::ConnKey;
use lockrelay_protocol::{Acquire, LockId, Mode, MutexName, RequestId, ServerMessage};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// What travels from a client to its relay, in order.
pub(super) enum Word {
    Hello(u64),
    Say(Command),
    Ended(End),
}

pub(super) enum Heard {
    Granted { mutex: MutexName, token: u64 },
    Refused,
    Lost,
    Other,
}

pub(super) struct Client {
    pub(super) conn: ConnKey,
    pub(super) relay: usize,
    pub(super) to_relay: VecDeque<Word>,
    pub(super) from_relay: VecDeque<Outgoing>,
    /// Until then no message travels in either direction.
    pub(super) stalled_until: Millis,
    gone: bool,
    /// It gives nothing back of itself.
    keeps: bool,
    valid_until: Millis,
    next_request: u64,
    pending: HashMap<RequestId, (MutexName, Mode)>,
    locks: BTreeMap<LockId, (MutexName, Mode)>,
}

impl Client {
    pub(super) fn new(conn: u64, relay: usize, now: Millis) -> Self {
        Self {
            conn: ConnKey(conn),
            relay,
            to_relay: VecDeque::from([Word::Hello(now)]),
            from_relay: VecDeque::new(),
            stalled_until: 0,
            gone: false,
            keeps: conn.is_multiple_of(4),
            valid_until: 0,
            next_request: 0,
            pending: HashMap::new(),
            locks: BTreeMap::new(),
        }
    }

    pub(super) fn believes_in(&self, mutex: &str, now: Millis) -> Vec<(ConnKey, Mode)> {
        let believed = self
            .locks
            .values()
            .filter(|(name, _)| name.as_str() == mutex && now < self.valid_until);
        believed.map(|(_, mode)| (self.conn, *mode)).collect()
    }

    /// What it holds; `None` if it is gone.
    pub(super) fn locks(&self) -> Option<Vec<LockId>> {
        (!self.gone).then(|| self.locks.keys().cloned().collect())
    }

    /// Whether it is gone, and its relay knows.
    pub(super) fn is_done(&self) -> bool {
        self.gone && self.to_relay.is_empty()
    }

    fn say(&mut self, command: Command) {
        self.to_relay.push_back(Word::Say(command));
    }

    /// Asks for something, withdraws it, or gives something back.
    pub(super) fn act(&mut self, rng: &mut Rng, now: Millis) {
        if self.gone {
            return;
        }
        match rng.below(10) {
            0..=4 if self.pending.len() + self.locks.len() < 4 => self.acquire(rng, now),
            5 | 7 | 8 if self.keeps => {}
            5 => {
                if let Some(request_id) = self.pending.keys().min().cloned() {
                    self.pending.remove(&request_id);
                    self.say(Command::Cancel { t: now, request_id });
                }
            }
            7 | 8 => {
                if let Some(lock_id) = self.locks.keys().next().cloned() {
                    self.locks.remove(&lock_id);
                    self.say(Command::Release { t: now, lock_id });
                }
            }
            _ => self.say(Command::Ack { t: now }),
        }
    }

    fn acquire(&mut self, rng: &mut Rng, now: Millis) {
        self.next_request += 1;
        let request_id = RequestId::new(&self.next_request.to_string()).unwrap();
        let mutex = MutexName::new(super::MUTEXES[rng.below(super::MUTEXES.len())]).unwrap();
        let mode = if rng.once_in(3) { Mode::Shared } else { Mode::Exclusive };
        let steal = mode == Mode::Exclusive && rng.once_in(6);
        let max_hold_millis = rng.once_in(4).then(|| 1 + rng.below(5_000) as u64);
        self.pending.insert(request_id.clone(), (mutex.clone(), mode));
        let acquire = Acquire {
            request_id,
            mutex,
            mode,
            wait_millis: rng.once_in(2).then(|| rng.below(3_000) as u64),
            max_hold_millis,
            if_available: !steal && rng.once_in(5),
            steal,
            metadata: None,
        };
        self.say(Command::Acquire {
            t: now,
            acquire,
            max_hold_millis,
        });
    }

    /// Receives the next message.
    pub(super) fn hear(&mut self, now: Millis) -> Option<Heard> {
        let message = match self.from_relay.pop_front()? {
            Outgoing::Message(message) => message,
            Outgoing::Close(..) => {
                self.vanish();
                return None;
            }
        };
        self.look_at_clock(now);
        if self.gone {
            return None;
        }
        Some(match message {
            ServerMessage::Granted {
                request_id,
                lock_id,
                fencing_token,
                echo,
                valid_millis,
                ..
            } => {
                let Some((mutex, mode)) = self.pending.remove(&request_id) else {
                    // Cancelled: the relay releases it at the cancel.
                    return Some(Heard::Other);
                };
                let until = echo + valid_millis;
                if now >= until.max(self.valid_until) {
                    self.say(Command::Release { t: now, lock_id });
                    return Some(Heard::Refused);
                }
                self.valid_until = until.max(self.valid_until);
                self.locks.insert(lock_id, (mutex.clone(), mode));
                Heard::Granted {
                    mutex,
                    token: fencing_token,
                }
            }
            ServerMessage::Heartbeat { echo, valid_millis } => {
                self.valid_until = (echo + valid_millis).max(self.valid_until);
                self.say(Command::Ack { t: now });
                Heard::Other
            }
            ServerMessage::Lost { lock_id, .. } => {
                self.locks.remove(&lock_id);
                self.say(Command::Release { t: now, lock_id });
                Heard::Lost
            }
            ServerMessage::Unavailable { request_id }
            | ServerMessage::Timeout { request_id }
            | ServerMessage::Error {
                request_id: Some(request_id),
                ..
            } => {
                self.pending.remove(&request_id);
                Heard::Other
            }
            ServerMessage::Error { message, .. } => panic!("an honest client got {message:?}"),
            _ => Heard::Other,
        })
    }

    /// The lease may be over: then every lock is lost, and latched as such.
    pub(super) fn look_at_clock(&mut self, now: Millis) {
        if !self.gone && now >= self.valid_until {
            for lock_id in std::mem::take(&mut self.locks).into_keys() {
                self.say(Command::Release { t: now, lock_id });
            }
        }
    }

    /// The socket is gone: what it held is lost at once; the relay learns it when the end arrives.
    pub(super) fn vanish(&mut self) {
        if !std::mem::replace(&mut self.gone, true) {
            self.locks.clear();
            self.pending.clear();
            self.from_relay.clear();
            self.to_relay.push_back(Word::Ended(End::TcpEnded));
        }
    }
}
