//! Real relays, a real Redis, real sockets: what happens when a relay dies, when messages cross, and what it all costs.

use lockrelay_client::session::{AcquireOptions, ConnectionState};
use lockrelay_protocol::{ErrorCode, MutexName, ReleaseReason};
use lockrelay_tests::native_client::{NativeClient, NativeLock};
use lockrelay_tests::proxy::Proxy;
use lockrelay_tests::redis_server::RedisServer;
use lockrelay_tests::relay_process::RelayProcess;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};

/// A sixth of the defaults, ratios kept: L 2 s, renewal 500 ms, delta 83 ms, C 1,667 ms, F 1,833 ms, heartbeat 333 ms.
const SHORT: [&str; 2] = [
    "--durations",
    "relay_lease_millis=2000,renew_every_millis=500,delta_millis=83,client_lease_millis=1667,silence_millis=1833,\
     heartbeat_millis=333,pull_every_millis=167",
];

/// So long that no timer plays a part in what a test sees.
const LONG: [&str; 2] = [
    "--durations",
    "relay_lease_millis=60000,renew_every_millis=15000,client_lease_millis=60000,silence_millis=60000,\
     heartbeat_millis=60000,pull_every_millis=60000",
];

fn options(mutex: &str) -> AcquireOptions {
    AcquireOptions::new(MutexName::new(mutex).expect("a test's name is valid"))
}

fn patient(mutex: &str) -> AcquireOptions {
    AcquireOptions {
        wait_millis: Some(60_000),
        ..options(mutex)
    }
}

async fn hold(client: &NativeClient, options: AcquireOptions) -> NativeLock {
    client
        .acquire(options)
        .await
        .expect("granted")
        .expect("not ifAvailable")
}

/// Whether the mutex is free right now: one round trip tells.
async fn is_free(client: &NativeClient, mutex: &str) -> bool {
    let options = AcquireOptions {
        if_available: true,
        ..options(mutex)
    };
    match client.acquire(options).await.expect("answered") {
        Some(lock) => {
            lock.release().await;
            true
        }
        None => false,
    }
}

/// Fields of the partition that belong to a session, an entry, a mutex or an event.
async fn leftovers(redis: &RedisServer) -> Vec<String> {
    let fields = redis.partition().await.into_keys();
    fields
        .filter(|field| {
            ["s:", "r:", "u:", "m:", "e:", "ss"]
                .iter()
                .any(|start| field.starts_with(start))
        })
        .collect()
}

/// Waits for a metric; asks again as soon as it is answered.
async fn until_metric(relay: &RelayProcess, name: &str, value: f64) {
    let waited = async {
        while (relay.metric(name).await - value).abs() > 0.5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited)
        .await
        .unwrap_or_else(|_| panic!("{name} never was {value}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_is_noticed_by_its_clients_at_once_and_its_locks_move_on() {
    let redis = RedisServer::start().await;
    let (doomed, other) = tokio::join!(RelayProcess::start(&redis, &SHORT), RelayProcess::start(&redis, &SHORT));
    let holder = NativeClient::connect(&[doomed.url()]);
    let waiter = NativeClient::connect(&[other.url()]);
    let lock = hold(&holder, options("m")).await;
    let waiting = waiter.start(patient("m"));
    until_metric(&other, "lockrelay_locks_waiting", 1.0).await;

    let killed = Instant::now();
    doomed.kill().await;
    assert_eq!(lock.released().await, ReleaseReason::ConnectionLost);
    let noticed = killed.elapsed();
    let next = waiting.answer().await.expect("granted").expect("a lock");
    let granted = killed.elapsed();
    println!(
        "relay killed: its client knew after {noticed:?}, the waiter at the other relay was granted after {granted:?}"
    );
    // L + renew + delta + 1 s.
    assert!(
        granted <= Duration::from_millis(2_000 + 500 + 83 + 1_000),
        "{granted:?}"
    );
    // By the socket's end, and not by the lease.
    assert!(noticed < Duration::from_millis(1_000), "{noticed:?}");
    assert!(next.grant.fencing_token > lock.grant.fencing_token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_socket_ends_its_locks_at_the_cut_and_pending_requests_go_on() {
    let redis = RedisServer::start().await;
    let relay = RelayProcess::start(&redis, &LONG).await;
    let proxy = Proxy::start(relay.address(), Duration::ZERO).await;
    let client = NativeClient::connect(&[proxy.url()]);
    let other = NativeClient::connect(&[relay.url()]);
    let lock = hold(&client, options("mine")).await;
    let theirs = hold(&other, options("theirs")).await;
    let pending = client.start(patient("theirs"));
    until_metric(&relay, "lockrelay_locks_waiting", 1.0).await;

    proxy.cut();
    assert_eq!(lock.released().await, ReleaseReason::ConnectionLost);
    lock.release().await;
    client.until(ConnectionState::Connected).await;
    until_metric(&relay, "lockrelay_locks_waiting", 1.0).await;
    theirs.release().await;
    let next = pending.answer().await.expect("granted").expect("a lock");
    assert!(!next.is_released());
    assert_eq!(lock.tellings(), 1);
    assert!(is_free(&other, "mine").await);
}

/// Message delay 50 ms each way; aborts and time-outs around the moment when the grant is on its way.
#[tokio::test(flavor = "multi_thread")]
async fn no_schedule_of_aborts_and_time_outs_leaves_an_orphan() {
    const SCHEDULES: u64 = 500;
    let seed: u64 = std::env::var("LOCKRELAY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_261_123);
    println!("LOCKRELAY_SEED={seed}");
    let redis = RedisServer::start().await;
    let relay = RelayProcess::start(&redis, &LONG).await;
    let proxy = Proxy::start(relay.address(), Duration::from_millis(50)).await;
    // Twenty clients with twenty-five schedules each, every schedule on a mutex of its own.
    let runs = (0..20).map(|client| {
        let (url, direct) = (proxy.url(), relay.url());
        tokio::spawn(async move {
            let mut random = ChaCha8Rng::seed_from_u64(seed + client);
            let slow = NativeClient::connect(&[url]);
            let fast = NativeClient::connect(&[direct]);
            slow.until(ConnectionState::Connected).await;
            let (mut delivered, mut given_up) = (0_u64, 0_u64);
            for schedule in 0..SCHEDULES / 20 {
                let mutex = format!("m-{client}-{schedule}");
                let blocker = if random.random_bool(0.5) {
                    Some(hold(&fast, options(&mutex)).await)
                } else {
                    None
                };
                let moment = Duration::from_millis(random.random_range(40..=180));
                let abort = random.random_bool(0.5);
                let wait_millis = if abort { None } else { Some(moment.as_millis() as u64) };
                let pending = slow.start(AcquireOptions {
                    wait_millis,
                    ..options(&mutex)
                });
                if let Some(blocker) = blocker {
                    // Freed around the moment, so that the grant crosses the cancel.
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..=130))).await;
                    blocker.release().await;
                }
                if abort {
                    tokio::time::sleep(moment).await;
                    pending.abort();
                    given_up += 1;
                } else {
                    match pending.answer().await {
                        Ok(lock) => {
                            delivered += 1;
                            lock.expect("not ifAvailable").release_later();
                        }
                        Err(failure) => {
                            assert_eq!(failure.code, ErrorCode::LockTimeout);
                            given_up += 1;
                        }
                    }
                }
                // One round trip of the slow client later everything that it said has arrived, and the mutex is free.
                assert!(is_free(&slow, &format!("probe-{client}-{schedule}")).await);
                assert!(
                    is_free(&fast, &mutex).await,
                    "schedule {schedule} of client {client} left an orphan"
                );
            }
            slow.close().await;
            fast.close().await;
            (delivered, given_up)
        })
    });
    let (mut delivered, mut given_up) = (0, 0);
    for run in runs.collect::<Vec<_>>() {
        let (some, others) = run.await.expect("no schedule panics");
        delivered += some;
        given_up += others;
    }
    println!("{SCHEDULES} schedules: {delivered} delivered, {given_up} given up, no orphan");
    assert_eq!(delivered + given_up, SCHEDULES);
    assert!(delivered > 0 && given_up > 0, "both happened");
    until_metric(&relay, "lockrelay_locks_held", 0.0).await;
    until_metric(&relay, "lockrelay_locks_waiting", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_double_releases_never_disturb_the_next_holder() {
    let redis = RedisServer::start().await;
    let relay = RelayProcess::start(&redis, &LONG).await;
    let proxy = Proxy::start(relay.address(), Duration::ZERO).await;
    let first = NativeClient::connect(&[proxy.url()]);
    let second = NativeClient::connect(&[relay.url()]);
    let third = NativeClient::connect(&[relay.url()]);

    let lock = hold(&first, options("m")).await;
    lock.release_later();
    lock.release().await;
    let next = hold(&second, options("m")).await;
    lock.release().await;
    lock.release().await;
    assert!(!is_free(&third, "m").await, "a late release frees nothing");
    assert!(!next.is_released());
    next.release().await;

    let lost = hold(&first, options("m")).await;
    proxy.cut();
    assert_eq!(lost.released().await, ReleaseReason::ConnectionLost);
    let next = hold(&second, options("m")).await;
    first.until(ConnectionState::Connected).await;
    lost.release().await;
    // Whatever the release led to has arrived before the answer to this.
    assert!(is_free(&first, "another").await);
    assert!(!is_free(&third, "m").await, "a release after loss frees nothing");
    assert!(!next.is_released());
}

#[tokio::test(flavor = "multi_thread")]
async fn close_while_acquiring_leaves_nothing_behind() {
    let redis = RedisServer::start().await;
    let relay = RelayProcess::start(&redis, &LONG).await;
    let other = NativeClient::connect(&[relay.url()]);
    for waits in [false, true] {
        let holder = if waits {
            Some(hold(&other, options("m")).await)
        } else {
            None
        };
        let client = NativeClient::connect(&[relay.url()]);
        client.until(ConnectionState::Connected).await;
        let pending: Vec<_> = (0..20)
            .map(|n| client.start(patient(if n == 0 { "m" } else { "n" })))
            .collect();
        client.close().await;
        let mut rejected = 0;
        for pending in pending {
            match pending.answer().await {
                Ok(lock) => assert_eq!(lock.expect("a lock").released().await, ReleaseReason::ClientClosed),
                Err(failure) => {
                    assert_eq!(failure.code, ErrorCode::ClientClosed);
                    rejected += 1;
                }
            }
        }
        assert!(rejected >= 18, "at most the two heads were granted before: {rejected}");
        if let Some(holder) = holder {
            holder.release().await;
        }
        until_metric(&relay, "lockrelay_locks_held", 0.0).await;
        until_metric(&relay, "lockrelay_locks_waiting", 0.0).await;
        assert!(is_free(&other, "m").await && is_free(&other, "n").await);
    }
}

/// Client-sent Redis commands per second, over a window of several renewals.
async fn commands_per_second(redis: &RedisServer) -> f64 {
    const WINDOW: Duration = Duration::from_secs(9);
    let (before, began) = (redis.client_commands().await, Instant::now());
    tokio::time::sleep(WINDOW).await;
    (redis.client_commands().await - before) as f64 / began.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_does_not_grow_with_what_is_held_or_waits() {
    let measure = async |durations: &[&str], holders: usize, waiters: usize| {
        let redis = RedisServer::start().await;
        let relay = RelayProcess::start(&redis, durations).await;
        let client = NativeClient::connect(&[relay.url()]);
        let mut locks = Vec::new();
        for n in 0..holders {
            locks.push(hold(&client, options(&format!("m-{n}"))).await);
        }
        let waiting: Vec<_> = (0..waiters).map(|_| client.start(patient("m-0"))).collect();
        until_metric(&relay, "lockrelay_locks_held", holders as f64).await;
        until_metric(&relay, "lockrelay_locks_waiting", waiters as f64).await;
        let rate = commands_per_second(&redis).await;
        drop((waiting, locks));
        rate
    };
    let (many, queue) = tokio::join!(measure(&[], 1_000, 0), measure(&[], 1, 1_000));
    println!("Redis commands per second: 1,000 locks held {many:.2}, 1,000 waiters on one mutex {queue:.2}");
    assert!(many < 1.0, "{many}");
    assert!(queue <= 1.5, "{queue}");
    // With renewals that come six times as often a window holds enough of them to compare.
    let (few, many) = tokio::join!(measure(&SHORT, 10, 0), measure(&SHORT, 1_000, 0));
    println!("with renewals every 500 ms: 10 locks {few:.2}, 1,000 locks {many:.2}");
    assert!((many - few).abs() <= 0.1 * few, "10: {few}, 1,000: {many}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_in_redis_after_clean_stops_and_reaping() {
    let redis = RedisServer::start().await;
    let (doomed, other) = tokio::join!(RelayProcess::start(&redis, &SHORT), RelayProcess::start(&redis, &SHORT));
    let clients = [
        NativeClient::connect(&[doomed.url()]),
        NativeClient::connect(&[other.url()]),
    ];
    let mut kept = Vec::new();
    for (n, client) in clients.iter().enumerate() {
        for m in 0..50 {
            kept.push(hold(client, options(&format!("m-{n}-{m}"))).await);
        }
    }
    // Some wait at each relay for what the other's clients hold.
    let waiting: Vec<_> = (0..50)
        .flat_map(|m| {
            [
                clients[0].start(patient(&format!("m-1-{m}"))),
                clients[1].start(patient(&format!("m-0-{m}"))),
            ]
        })
        .collect();
    until_metric(&other, "lockrelay_locks_waiting", 50.0).await;
    until_metric(&doomed, "lockrelay_locks_waiting", 50.0).await;
    doomed.kill().await;
    // Reaped: what the dead relay's clients held has gone to the other's.
    until_metric(&other, "lockrelay_locks_held", 100.0).await;
    drop((waiting, kept));
    other.stop().await;
    println!(
        "left in Redis: keys {:?}, fields {:?}",
        redis.keys().await,
        redis.partition().await
    );
    assert_eq!(redis.keys().await, ["lockrelay:{0}"]);
    assert_eq!(leftovers(&redis).await, Vec::<String>::new());
}
