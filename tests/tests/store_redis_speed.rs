//! How much an uncontended lock costs Redis, beside the simplest lock that Redis could do. Prints, judges nothing:
//! `cargo test -p lockrelay-tests --test store_redis_speed -- --ignored --nocapture`.

use lockrelay::store::redis::{RedisOptions, RedisStore};
use lockrelay::store::{Admission, Op, Outcome};
use lockrelay_protocol::Mode;
use lockrelay_tests::redis_server::RedisServer;
use lockrelay_tests::store_session::StoreSession;
use redis::Script;
use std::time::{Duration, Instant};

/// How long each side runs, in seconds.
const SPAN: Duration = Duration::from_secs(3);

fn per_second(count: u32, start: Instant) -> f64 {
    f64::from(count) / start.elapsed().as_secs_f64()
}

#[tokio::test]
#[ignore = "measures, and takes some seconds"]
async fn uncontended_lock_beside_set_nx() {
    let server = RedisServer::start().await;

    let mut connection = server.connection().await;
    let unlock =
        Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0");
    let (mut count, start) = (0, Instant::now());
    while start.elapsed() < SPAN {
        let locked: Option<String> = redis::cmd("SET")
            .arg(&["lock", "0123456789abcdef", "NX", "PX", "30000"])
            .query_async(&mut connection)
            .await
            .unwrap();
        assert!(locked.is_some());
        let unlocked: u32 = unlock
            .key("lock")
            .arg("0123456789abcdef")
            .invoke_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(unlocked, 1);
        count += 1;
    }
    let plain = per_second(count, start);

    let options = RedisOptions {
        assume_first_start: true,
        ..RedisOptions::new(server.url())
    };
    let mut session = StoreSession::open(RedisStore::connect(options).await.unwrap()).await;
    for size in [1, 50] {
        let (mut count, start) = (0, Instant::now());
        while start.elapsed() < SPAN {
            session.restart_slots();
            let (acquires, removals): (Vec<_>, Vec<_>) = (0..size)
                .map(|n| {
                    let request = session.request(&format!("lock{n}"), Mode::Exclusive, Admission::Queue);
                    let (slot, lock_id) = (request.slot, request.lock_id.clone());
                    (Op::Acquire(request), Op::Remove { slot, lock_id })
                })
                .unzip();
            let granted = session.run(acquires).await.outcomes;
            assert!(granted.iter().all(|outcome| matches!(outcome, Outcome::Granted { .. })));
            let released = session.run(removals).await.outcomes;
            assert!(released.iter().all(|outcome| *outcome == Outcome::Released));
            count += size;
        }
        let ours = per_second(count, start);
        println!(
            "acquire + release, {size} per batch: {ours:.0}/s; SET NX PX + compare-and-delete, one by one: {plain:.0}/s; \
             ratio {:.2}",
            ours / plain
        );
    }
}
