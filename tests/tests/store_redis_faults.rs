//! What only a real Redis can do to its relays: be full, be emptied, forget scripts, drop connections, restart, be unfit.

#![expect(clippy::unwrap_used, reason = "what the tests share is test too")]

use lockrelay::store::redis::{RedisOptions, RedisStore};
use lockrelay::store::{Admission, Answer, Hint, LockStore as _, Op, Outcome, SessionId, Slot, StoreError};
use lockrelay_protocol::{Mode, MutexName};
use lockrelay_tests::redis_server::RedisServer;
use lockrelay_tests::store_session::{PARTITION, StoreSession};
use redis::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

type Session = StoreSession<RedisStore>;

fn options(url: String) -> RedisOptions {
    RedisOptions {
        assume_first_start: true,
        ..RedisOptions::new(url)
    }
}

async fn connect(server: &RedisServer) -> RedisStore {
    RedisStore::connect(options(server.url())).await.expect("it is fit")
}

async fn session(server: &RedisServer) -> Session {
    Session::open(connect(server).await).await
}

fn token(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Granted { token } => token,
        other => panic!("not granted: {other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_left_but_the_partition_once_all_have_closed() {
    let server = RedisServer::start().await;
    let (mut a, mut b) = (session(&server).await, session(&server).await);
    for name in ["plain", "with {braces}: and spaces", "ünï-码"] {
        token(a.exclusive(name).await.1);
        assert_eq!(b.exclusive(name).await.1, Outcome::Queued { ahead: 0 });
        let mut thief = b.request(name, Mode::Exclusive, Admission::Steal);
        thief.metadata = Some("line\nbreak, \0 and \u{7f}".to_owned());
        assert_eq!(
            b.run(vec![Op::Acquire(thief)]).await.outcomes,
            [Outcome::Queued { ahead: 0 }]
        );
    }
    let shared = (0..20)
        .map(|_| Op::Acquire(a.request("shared", Mode::Shared, Admission::Queue)))
        .collect();
    a.run(shared).await;
    assert!(server.partition().await.len() > 30, "there is something to clear away");
    a.close().await;
    b.close().await;

    let left = server.partition().await;
    println!("left in the partition: {left:?}");
    assert_eq!(server.keys().await, ["lockrelay:{0}"]);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["f", "g", "v"]);
}

#[tokio::test]
async fn tokens_keep_every_digit_up_to_2_53() {
    let server = RedisServer::start().await;
    let start = (1 << 53) - 40;
    let mut a = Session::try_open(connect(&server).await, 0, start).await.unwrap();
    for n in 1..30 {
        let (removal, outcome) = a.exclusive("m").await;
        assert_eq!(token(outcome), start + n);
        let listed = a.store.list(PARTITION, a.caller.session, Slot(0)).await.unwrap().0;
        assert_eq!(listed[0].token, Some(start + n));
        assert_eq!(server.partition().await["f"], (start + n).to_string());
        a.run(vec![removal]).await;
    }
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let server = RedisServer::start().await;
    let mut a = session(&server).await;
    let (removal, outcome) = a.exclusive("m").await;
    token(outcome);
    server.command("SCRIPT FLUSH").await;
    assert_eq!(a.run(vec![removal]).await.outcomes, [Outcome::Released]);
    a.renew().await;
    token(a.exclusive("m").await.1);
}

#[tokio::test]
async fn killed_connection_costs_one_call_and_repeating_it_is_harmless() {
    let server = RedisServer::start().await;
    let mut a = session(&server).await;
    let (_, first) = a.exclusive("m").await;
    server.command("CLIENT KILL TYPE normal").await;
    // The store does not repeat by itself. Whether the call still reached the server is unknown, so the same is sent again.
    let mut failures = 0;
    let again = loop {
        match a.repeat().await {
            Ok(Answer::Done(reply)) => break reply.outcomes[0],
            Err(StoreError::Unavailable(_)) => failures += 1,
            other => panic!("{other:?}"),
        }
        assert!(failures < 10, "it never connects again");
    };
    assert_eq!(again, first);
    assert_eq!(a.renew().await.entries, 1);
}

/// Passes TCP connections on, until it holds them: then those that exist stay open and hear nothing more, as when a firewall
/// has forgotten them. New ones work.
async fn holding_proxy(server: &RedisServer) -> (SocketAddr, watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = server.url().replace("redis://", "").replace('/', "");
    let (hold, held) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (target, mut held) = (target.clone(), held.clone());
            tokio::spawn(async move {
                held.mark_unchanged();
                let mut upstream = TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
                    changed = held.changed() => if changed.is_ok() { std::future::pending().await },
                }
            });
        }
    });
    (address, hold)
}

#[tokio::test]
async fn silent_connection_is_replaced_after_one_unanswered_call() {
    let server = RedisServer::start().await;
    let (address, hold) = holding_proxy(&server).await;
    for own_limit in [None, Some(Duration::from_millis(100))] {
        let options = RedisOptions {
            response_millis: if own_limit.is_some() { 60_000 } else { 200 },
            ..options(format!("redis://{address}/"))
        };
        let mut a = Session::open(RedisStore::connect(options).await.unwrap()).await;
        let (removal, outcome) = a.exclusive("m").await;
        let before = token(outcome);
        hold.send_modify(|times| *times += 1);
        if let Some(limit) = own_limit {
            // The caller gives up before the store does.
            assert!(tokio::time::timeout(limit, a.repeat()).await.is_err());
        } else {
            assert!(matches!(a.repeat().await, Err(StoreError::Unavailable(_))));
        }
        let Ok(Answer::Done(reply)) = a.repeat().await else {
            panic!("the next call goes over a new connection");
        };
        assert_eq!(reply.outcomes, [Outcome::Granted { token: before }]);
        a.run(vec![removal]).await;
        a.close().await;
    }
}

#[tokio::test]
async fn full_server_grants_nothing_new_and_still_frees() {
    let server = RedisServer::start().await;
    let (mut a, mut b, c) = (session(&server).await, session(&server).await, session(&server).await);
    let (removal, outcome) = a.exclusive("m").await;
    let first = token(outcome);
    let (_, queued) = b.exclusive("m").await;
    assert_eq!(queued, Outcome::Queued { ahead: 0 });
    token(b.exclusive("other").await.1);
    server.command("CONFIG SET maxmemory 1").await;

    let request = a.request("another", Mode::Exclusive, Admission::Queue);
    let before = server.partition().await;
    let full = a.execute(vec![Op::Acquire(request)]).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    assert_eq!(server.partition().await, before, "nothing was changed");
    // Nothing of it was done, so its number is free.
    a.last.seq -= 1;

    // Also when the scripts must be sent again.
    server.command("SCRIPT FLUSH").await;
    assert_eq!(a.run(vec![removal]).await.outcomes, [Outcome::Released]);
    assert_eq!(b.renew().await.highest_token, first + 2, "the waiter has it");
    assert_eq!(
        a.store
            .list(PARTITION, b.caller.session, Slot(0))
            .await
            .unwrap()
            .0
            .len(),
        2
    );
    a.reap(c.caller.session).await;
    a.reap(b.caller.session).await;
    // A relay that starts now must be able to free what its predecessor left.
    let mut d = session(&server).await;
    d.reap(a.caller.session).await;
    d.close().await;
    assert_eq!(
        server.partition().await.into_keys().collect::<Vec<_>>(),
        ["f", "g", "v"]
    );
}

/// Whatever makes the server another, nobody is granted what another may still believe to hold.
async fn grants_nothing_after(server: &RedisServer, what: &str) {
    let (mut a, mut b) = (session(server).await, session(server).await);
    let (removal, outcome) = a.exclusive("m").await;
    let before = token(outcome);
    assert_eq!(b.exclusive("m").await.1, Outcome::Queued { ahead: 0 });
    b.caller.highest_token = before;
    server.command(what).await;

    // The first to notice is told, and so is everybody after it.
    let generations = [a.execute(vec![removal]).await, b.repeat().await].map(|answer| match answer.unwrap() {
        Answer::NewGeneration(generation) => generation,
        other => panic!("{what}: {other:?}"),
    });
    assert!(
        generations[0].recovering && generations[0].number > a.caller.generation,
        "{generations:?}"
    );
    assert_eq!(generations[0], generations[1]);
    let renewed = a.store.renew(PARTITION, &a.caller).await.unwrap();
    assert_eq!(renewed, Answer::NewGeneration(generations[0]));

    // Not even one that knows nothing of what was is given an old token.
    let mut again = session(server).await;
    assert!(again.recovering);
    let (_, outcome) = again.exclusive("n").await;
    assert_eq!(outcome, Outcome::Queued { ahead: 0 }, "{what}");
    let done = again.store.end_recovery(PARTITION, &again.caller).await.unwrap();
    assert_eq!(done, Answer::Done(()));
    let (_, outcome) = again.exclusive("free").await;
    assert!(token(outcome) > before, "{what}");
}

#[tokio::test]
async fn emptied_server_grants_nothing_until_recovered() {
    grants_nothing_after(&RedisServer::start().await, "FLUSHALL").await;
}

#[tokio::test]
async fn server_with_another_replication_id_grants_nothing_until_recovered() {
    let server = RedisServer::start_with(&["--enable-debug-command", "local"]).await;
    grants_nothing_after(&server, "DEBUG CHANGE-REPL-ID").await;
}

/// The server's own clock is what counts here, and it tells it in whole seconds.
async fn up_for_a_second(server: &RedisServer) {
    loop {
        let info: String = redis::from_redis_value(server.command("INFO server").await).unwrap();
        if !info.contains("uptime_in_seconds:0") {
            return;
        }
        server.command("BLPOP nothing 0.1").await;
    }
}

#[tokio::test]
async fn only_a_certain_first_start_grants_at_once() {
    let server = RedisServer::start().await;
    let cautious = |lease_millis| RedisOptions {
        lease_millis,
        assume_first_start: false,
        ..RedisOptions::new(server.url())
    };
    let open = async |options| Session::open(RedisStore::connect(options).await.unwrap()).await;

    // Just started: a lease of an earlier life may still be believed in.
    let mut a = open(cautious(12_500)).await;
    assert!(a.recovering);
    assert_eq!(a.exclusive("m").await.1, Outcome::Queued { ahead: 0 });
    assert_eq!(a.store.end_recovery(PARTITION, &a.caller).await, Ok(Answer::Done(())));
    let settled = a
        .run(vec![Op::Settle {
            mutex: MutexName::new("m").unwrap(),
        }])
        .await;
    assert_eq!(settled.outcomes, [Outcome::Settled]);
    assert_eq!(settled.events.len(), 1, "the waiter is granted");

    // Up for longer than any lease, but a relay has been here: the data is lost.
    server.command("FLUSHALL").await;
    up_for_a_second(&server).await;
    assert!(open(cautious(0)).await.recovering);

    // Nor has any relay been here.
    server.command("FLUSHALL").await;
    server.command("SCRIPT FLUSH").await;
    assert!(open(cautious(3_600_000)).await.recovering, "too young");
    server.command("FLUSHALL").await;
    server.command("SCRIPT FLUSH").await;
    let mut first = open(cautious(0)).await;
    assert!(!first.recovering);
    token(first.exclusive("m").await.1);
    // And whoever comes later finds it running.
    assert!(!open(cautious(3_600_000)).await.recovering);
}

async fn refusal(options: RedisOptions) -> String {
    let refused = match RedisStore::connect(options).await {
        Err(error) => Err(error),
        Ok(store) => Session::try_open(store, 0, 0).await.map(drop),
    };
    match refused {
        Err(StoreError::Unfit(problem)) => problem,
        other => panic!("not unfit: {other:?}"),
    }
}

#[tokio::test]
async fn unfit_servers_are_refused_with_what_to_change() {
    let server = RedisServer::start().await;
    let told = |problem: String, words: &[&str]| {
        println!("{problem}");
        for word in words {
            assert!(problem.contains(word), "{problem:?} lacks {word:?}");
        }
    };
    for url in ["not a url", "http://127.0.0.1/", ""] {
        told(refusal(options(url.to_owned())).await, &["redis://host:port"]);
    }
    server.command("CONFIG SET maxmemory-policy allkeys-lru").await;
    told(refusal(options(server.url())).await, &["allkeys-lru", "noeviction"]);
    server.command("CONFIG SET maxmemory-policy volatile-lru").await;
    session(&server).await.close().await;

    for version in ["0 1", "1 16"] {
        redis::cmd("HSET")
            .arg(&["lockrelay:{0}", "v", version])
            .query_async::<Value>(&mut server.connection().await)
            .await
            .unwrap();
        told(
            refusal(options(server.url())).await,
            &[version, "same number of partitions"],
        );
    }
    server.command("FLUSHALL").await;

    server.command("ACL SETUSER visitor on >secret ~* &* +@all -info").await;
    let as_user = |user: &str| options(server.url().replace("redis://", &format!("redis://{user}@")));
    told(refusal(as_user("visitor:wrong")).await, &["password"]);
    told(refusal(as_user("visitor:secret")).await, &["permit", "INFO"]);
    server.command("ACL SETUSER visitor resetkeys ~other +info").await;
    told(refusal(as_user("visitor:secret")).await, &["permit", "lockrelay:*"]);

    let master = RedisServer::start().await;
    let port = master.url().replace("redis://127.0.0.1:", "").replace('/', "");
    server.command(&format!("REPLICAOF 127.0.0.1 {port}")).await;
    told(refusal(options(server.url())).await, &["replica", "URL of its master"]);
}

/// The next hint. Bounded, so that a test in which none comes fails and does not hang.
async fn next(hints: &mut mpsc::Receiver<Hint>) -> Hint {
    let hint = tokio::time::timeout(Duration::from_secs(20), hints.recv()).await;
    hint.expect("a hint comes in time").expect("hints go on")
}

#[tokio::test]
async fn subscription_comes_back_and_asks_for_a_renewal() {
    let server = RedisServer::start().await;
    let (mut a, mut b) = (session(&server).await, session(&server).await);
    let mut hints = b.store.hints(PARTITION, b.caller.session);
    assert_eq!(next(&mut hints).await, Hint::Renew, "the first subscription");
    server.command("CLIENT KILL TYPE pubsub").await;
    assert_eq!(next(&mut hints).await, Hint::Renew, "the second");

    let (removal, _) = a.exclusive("m").await;
    b.exclusive("m").await;
    a.run(vec![removal]).await;
    let Hint::Event(event) = next(&mut hints).await else {
        panic!("no event");
    };
    assert_eq!(b.renew().await.events, [event]);
}

/// The slowest call since the server started, in microseconds. Printed and not judged: it is the machine's as much as ours.
async fn slowest_call(server: &RedisServer) -> i64 {
    let log: Vec<(i64, i64, i64, Vec<Value>, String, String)> = redis::cmd("SLOWLOG")
        .arg(&["GET", "-1"])
        .query_async(&mut server.connection().await)
        .await
        .unwrap();
    log.iter().map(|entry| entry.2).max().unwrap_or_default()
}

async fn watched_server() -> RedisServer {
    RedisServer::start_with(&["--slowlog-log-slower-than", "500", "--slowlog-max-len", "100000"]).await
}

async fn fill(session: &mut Session, names: impl Iterator<Item = String>, mode: Mode) {
    let mut names = names.peekable();
    while names.peek().is_some() {
        let ops = names
            .by_ref()
            .take(500)
            .map(|name| Op::Acquire(session.request(&name, mode, Admission::Queue)));
        // `map` borrows the session, which the call needs too.
        let ops = ops.collect();
        session.run(ops).await;
    }
}

#[tokio::test]
async fn ten_thousand_waiters_are_granted_in_bounded_calls() {
    let server = watched_server().await;
    let (mut a, mut b) = (session(&server).await, session(&server).await);
    let (removal, _) = a.exclusive("m").await;
    fill(&mut b, (0..10_000).map(|_| "m".to_owned()), Mode::Shared).await;
    let mut reply = a.run(vec![removal]).await;
    let mut calls = 1;
    while let Some(mutex) = reply.unsettled.pop() {
        reply = a.run(vec![Op::Settle { mutex }]).await;
        calls += 1;
    }
    let slowest = slowest_call(&server).await;
    println!("10,000 shared waiters granted in {calls} calls, the slowest of all took {slowest} microseconds");
    assert_eq!(calls, 20);
    let mut granted = 0;
    loop {
        match b.renew().await.events.len() {
            0 => break,
            events => granted += events,
        }
    }
    assert_eq!(granted, 10_000);
}

#[tokio::test]
async fn session_of_many_entries_is_reaped_in_bounded_calls() {
    let server = watched_server().await;
    let (mut a, mut b) = (session(&server).await, session(&server).await);
    // Half of them on a mutex of their own, half in one queue.
    fill(&mut b, (0..10_000).map(|n| format!("m{n}")), Mode::Exclusive).await;
    fill(&mut b, (0..10_000).map(|_| "m".to_owned()), Mode::Exclusive).await;
    let dead: SessionId = b.caller.session;
    let calls = a.reap(dead).await;
    let slowest = slowest_call(&server).await;
    println!("20,000 entries reaped in {calls} calls, the slowest of all took {slowest} microseconds");
    assert!(calls >= 40);
    a.close().await;
    assert_eq!(
        server.partition().await.into_keys().collect::<Vec<_>>(),
        ["f", "g", "v"]
    );
}
