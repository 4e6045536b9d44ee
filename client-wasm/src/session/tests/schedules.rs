//! Random schedules: several sessions at one small relay, with messages that take their time in each direction, cuts, aborts,
//! time-outs and releases in any order. After each step the promises of [`super::super`] must hold; at the end nothing may be
//! left at the relay.

use super::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// SplitMix64, so that a failure can be replayed from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Who waits for or holds the one mutex: client, connection, request id.
type Place = (usize, u64, u64);

/// A relay of one mutex, first come, first served; it does what PROTOCOL.md says and nothing else.
#[derive(Default)]
struct Relay {
    queue: VecDeque<Place>,
    holder: Option<(Place, LockId)>,
    next_lock: u64,
    /// The latest `t` of each connection, and which connection each client has.
    echoes: BTreeMap<(usize, u64), Millis>,
}

impl Relay {
    fn receive(&mut self, client: usize, epoch: u64, message: &ClientMessage) -> Vec<(usize, u64, ServerMessage)> {
        self.echoes.insert((client, epoch), message.t());
        let mut replies = Vec::new();
        match message {
            ClientMessage::Hello { .. } => replies.push((
                client,
                epoch,
                ServerMessage::Welcome {
                    connection_id: ConnectionId::new("c").unwrap(),
                    agent: "relay".into(),
                    lease_millis: LEASE,
                },
            )),
            ClientMessage::Acquire { acquire, .. } => {
                self.queue
                    .push_back((client, epoch, acquire.request_id.as_str().parse().unwrap()));
            }
            ClientMessage::Cancel { request_id, .. } => {
                let place = (client, epoch, request_id.as_str().parse().unwrap());
                self.queue.retain(|waiting| *waiting != place);
                if self.holder.as_ref().is_some_and(|(holder, _)| *holder == place) {
                    self.holder = None;
                }
                replies.push((
                    client,
                    epoch,
                    ServerMessage::Cancelled {
                        request_id: request_id.clone(),
                    },
                ));
            }
            ClientMessage::Release { lock_id, .. } => {
                let held = self
                    .holder
                    .as_ref()
                    .is_some_and(|((c, e, _), id)| (*c, *e) == (client, epoch) && id == lock_id);
                if held {
                    self.holder = None;
                }
                replies.push((
                    client,
                    epoch,
                    ServerMessage::Released {
                        lock_id: lock_id.clone(),
                        held,
                    },
                ));
            }
            ClientMessage::Ack { .. } | ClientMessage::Token { .. } => {}
        }
        replies.extend(self.hand_on());
        replies
    }

    fn end(&mut self, client: usize, epoch: u64) -> Vec<(usize, u64, ServerMessage)> {
        self.echoes.remove(&(client, epoch));
        self.queue.retain(|(c, e, _)| (*c, *e) != (client, epoch));
        if self
            .holder
            .as_ref()
            .is_some_and(|((c, e, _), _)| (*c, *e) == (client, epoch))
        {
            self.holder = None;
        }
        self.hand_on()
    }

    fn hand_on(&mut self) -> Vec<(usize, u64, ServerMessage)> {
        if self.holder.is_some() {
            return Vec::new();
        }
        let Some(place) = self.queue.pop_front() else {
            return Vec::new();
        };
        self.next_lock += 1;
        let lock_id = LockId::new(&format!("lock-{}", self.next_lock)).unwrap();
        self.holder = Some((place, lock_id.clone()));
        let (client, epoch, id) = place;
        vec![(
            client,
            epoch,
            ServerMessage::Granted {
                request_id: request_id(id),
                lock_id,
                fencing_token: self.next_lock,
                mode: Mode::Exclusive,
                echo: self.echoes[&(client, epoch)],
                valid_millis: LEASE,
            },
        )]
    }

    fn heartbeats(&self) -> Vec<(usize, u64, ServerMessage)> {
        self.echoes
            .iter()
            .map(|((client, epoch), echo)| {
                (
                    *client,
                    *epoch,
                    ServerMessage::Heartbeat {
                        echo: *echo,
                        valid_millis: LEASE,
                    },
                )
            })
            .collect()
    }
}

enum Parcel {
    Up(ClientMessage),
    Down(ServerMessage),
    /// The connection ended: the relay learns of it when this arrives.
    Ended,
}

/// What one client was told.
#[derive(Default)]
struct Told {
    asked: BTreeSet<RequestKey>,
    aborted: BTreeSet<RequestKey>,
    settled: BTreeSet<RequestKey>,
    held: BTreeMap<LockKey, u64>,
    ended: BTreeSet<LockKey>,
    confirmed: BTreeSet<LockKey>,
}

struct World {
    random: Random,
    now: Millis,
    relay: Relay,
    sessions: Vec<Session>,
    told: Vec<Told>,
    /// In flight, per client, connection and direction in order: when it arrives, and what.
    wires: BTreeMap<(usize, u64, bool), VecDeque<(Millis, Parcel)>>,
    next_request: u64,
    highest_token: u64,
    deliveries: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let session = |n| {
            Session::new(
                1_000,
                Config {
                    urls: 1,
                    agent: String::new(),
                    seed: seed ^ n,
                },
            )
        };
        Self {
            random: Random(seed),
            now: 1_000,
            relay: Relay::default(),
            sessions: (0..3).map(session).collect(),
            told: (0..3).map(|_| Told::default()).collect(),
            wires: BTreeMap::new(),
            next_request: 1,
            highest_token: 0,
            deliveries: 0,
        }
    }

    fn post(&mut self, client: usize, epoch: u64, up: bool, parcel: Parcel) {
        let delay = 1 + self.random.below(80);
        let wire = self.wires.entry((client, epoch, up)).or_default();
        let earliest = wire.back().map_or(0, |(at, _)| *at);
        wire.push_back(((self.now + delay).max(earliest), parcel));
    }

    fn handle(&mut self, client: usize, input: Input) {
        self.sessions[client].handle(self.now, input);
        while let Some(output) = self.sessions[client].poll_output() {
            self.output(client, output);
        }
    }

    fn output(&mut self, client: usize, output: Output) {
        let now = self.now;
        let told = &mut self.told[client];
        match output {
            Output::Connect { epoch, .. } => {
                self.relay.echoes.insert((client, epoch), 0);
                self.handle(client, Input::SocketOpened { epoch, token: None });
            }
            Output::Send { epoch, message } => self.post(client, epoch, true, Parcel::Up(message)),
            Output::CloseSocket { epoch, .. } => self.post(client, epoch, true, Parcel::Ended),
            Output::Queued { request, .. } => {
                assert!(!told.settled.contains(&request), "a settled request waits no more");
                assert!(!told.aborted.contains(&request), "an aborted request hears nothing");
            }
            Output::Granted { request, lock, grant } => {
                assert!(told.settled.insert(request), "a request is settled once");
                assert!(!told.aborted.contains(&request), "an aborted request gets nothing");
                assert!(
                    grant.fencing_token > self.highest_token,
                    "tokens rise in the order of delivery"
                );
                self.highest_token = grant.fencing_token;
                told.held.insert(lock, grant.fencing_token);
                self.deliveries += 1;
                assert!(!self.sessions[client].is_released(lock, now));
            }
            Output::Unavailable { request } | Output::Rejected { request, .. } => {
                assert!(told.settled.insert(request), "a request is settled once");
                assert!(!told.aborted.contains(&request), "an aborted request hears nothing");
            }
            Output::LockEnded { lock, .. } => {
                assert!(
                    told.held.remove(&lock).is_some(),
                    "a lock ends once, and only if it was delivered"
                );
                told.ended.insert(lock);
                assert!(self.sessions[client].is_released(lock, now));
            }
            Output::ReleaseConfirmed { lock } => {
                assert!(told.ended.contains(&lock), "confirmed after its end");
                assert!(told.confirmed.insert(lock), "confirmed once");
            }
            Output::StateChanged(_) => {}
        }
    }

    fn deliver(&mut self, (client, epoch, up): (usize, u64, bool)) {
        let Some((_, parcel)) = self.wires.get_mut(&(client, epoch, up)).and_then(VecDeque::pop_front) else {
            return;
        };
        let replies = match parcel {
            Parcel::Up(message) if self.relay.echoes.contains_key(&(client, epoch)) => {
                self.relay.receive(client, epoch, &message)
            }
            Parcel::Ended => self.relay.end(client, epoch),
            Parcel::Up(_) => Vec::new(),
            Parcel::Down(message) => {
                self.handle(client, Input::Message { epoch, message });
                Vec::new()
            }
        };
        for (client, epoch, message) in replies {
            self.post(client, epoch, false, Parcel::Down(message));
        }
    }

    /// Lets the next thing happen: a message arrives or a timer fires.
    fn advance(&mut self) {
        let wires = self
            .wires
            .iter()
            .filter_map(|(wire, parcels)| Some((parcels.front()?.0, Err(*wire))));
        let timers = self
            .sessions
            .iter()
            .enumerate()
            .filter_map(|(client, session)| Some((session.deadline()?, Ok(client))));
        let Some((at, next)) = wires.chain(timers).min_by_key(|(at, _)| *at) else {
            return;
        };
        self.now = self.now.max(at);
        match next {
            Ok(client) => self.handle(client, Input::Timer),
            Err(wire) => self.deliver(wire),
        }
    }

    fn act(&mut self) {
        let client = self.random.below(3) as usize;
        match self.random.below(12) {
            0..=3 => {
                let request = RequestKey(self.next_request);
                self.next_request += 1;
                let wait_millis = [Some(0), Some(60), Some(150), Some(2_000), None][self.random.below(5) as usize];
                self.told[client].asked.insert(request);
                let max_hold_millis = (self.random.below(4) == 0).then_some(90);
                let options = AcquireOptions {
                    wait_millis,
                    max_hold_millis,
                    ..options("m")
                };
                self.handle(client, Input::Acquire { request, options });
            }
            4..=5 => {
                let told = &mut self.told[client];
                let open: Vec<RequestKey> = told
                    .asked
                    .iter()
                    .filter(|request| !told.settled.contains(request))
                    .copied()
                    .collect();
                if let Some(request) = open.get(self.random.below(open.len().max(1) as u64) as usize) {
                    // Its limit may have passed by now, unnoticed: then the clock spoke first, in this very call.
                    self.handle(client, Input::Abort { request: *request });
                    if !self.told[client].settled.contains(request) {
                        self.told[client].aborted.insert(*request);
                    }
                }
            }
            6..=9 => {
                let lock = self.told[client].held.keys().next().copied();
                if let Some(lock) = lock {
                    self.handle(client, Input::Release { lock });
                    self.handle(client, Input::Release { lock });
                }
            }
            10 => {
                let epoch = self.sessions[client].epoch;
                if self.random.below(6) == 0 && self.sessions[client].phase.has_socket() {
                    // What is on the wire to the relay still arrives; then it sees the end.
                    self.post(client, epoch, true, Parcel::Ended);
                    self.handle(
                        client,
                        Input::SocketClosed {
                            epoch,
                            code: None,
                            reason: String::new(),
                        },
                    );
                }
            }
            _ => {
                for (client, epoch, message) in self.relay.heartbeats() {
                    self.post(client, epoch, false, Parcel::Down(message));
                }
            }
        }
    }

    /// At most one session believes. (The relay's own patience is not part of this model, so no schedule lasts a lease.)
    fn check(&self) {
        let believers: Vec<_> = self
            .told
            .iter()
            .enumerate()
            .flat_map(|(client, told)| told.held.keys().map(move |lock| (client, *lock)))
            .filter(|(client, lock)| !self.sessions[*client].is_released(*lock, self.now))
            .collect();
        assert!(believers.len() <= 1, "{believers:?} believe at once");
    }

    fn run(&mut self) {
        for _ in 0..400 {
            if self.random.below(3) == 0 {
                self.act()
            } else {
                self.advance()
            }
            self.check();
        }
        for client in 0..3 {
            self.handle(client, Input::Close);
        }
        while self.wires.values().any(|parcels| !parcels.is_empty()) {
            self.advance();
            self.check();
        }
        assert!(
            self.relay.holder.is_none(),
            "a grant is left that nobody knows of: {:?}",
            self.relay.holder
        );
        assert!(self.relay.queue.is_empty(), "a request is left that nobody waits for");
        for told in &self.told {
            assert_eq!(told.held.len(), 0);
            assert_eq!(told.ended, told.confirmed, "each release is confirmed");
            let heard: BTreeSet<RequestKey> = told.settled.union(&told.aborted).copied().collect();
            assert_eq!(told.asked, heard, "every call is settled or was aborted");
        }
    }
}

#[test]
fn random_schedules_leave_no_orphan_and_tell_everything_once() {
    let first = std::env::var("LOCKRELAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = first.map_or(0..500, |seed: u64| seed..seed + 1);
    let mut deliveries = 0;
    for seed in seeds {
        println!("LOCKRELAY_SEED={seed}");
        let mut world = World::new(seed);
        world.run();
        deliveries += world.deliveries;
    }
    println!("{deliveries} locks delivered");
}
