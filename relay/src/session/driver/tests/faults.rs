use super::store::Mood;
use super::*;
use crate::session::Drained;
use crate::store::Partition;
use lockrelay_protocol::{ErrorCode, ReleaseReason};
use std::sync::atomic::Ordering;

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_less_than_the_lease_costs_no_lock() {
    for mood in [Mood::Down, Mood::Deaf, Mood::Hanging, Mood::Broken] {
        let store = Moody::new();
        let relay = Relay::start(&store).await;
        let mut holder = relay.connect().await;
        let (lock, _) = holder.lock("m").await;
        let mut waiter = relay.connect().await;
        waiter.acquire("1", "m").await;
        waiter.queued().await;
        store.set(mood.clone());
        // On its way while the store is away, outcome unknown.
        waiter.acquire("2", "n").await;
        holder.release(&lock).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        while let Ok(said) = waiter.outbox.try_recv() {
            assert!(
                matches!(said, Outgoing::Message(ServerMessage::Heartbeat { .. })),
                "{mood:?}: {said:?}"
            );
        }
        store.set(Mood::Good);
        let (took, _) = millis(async { (waiter.granted().await, waiter.granted().await) }).await;
        assert!(took <= 3_000, "{mood:?}: {took} ms");
        assert!(
            holder.released().await,
            "{mood:?}: repeated, and still this release freed it"
        );
        assert!(relay.metric("lockrelay_grants_total 3"), "{mood:?}: none twice");
        assert_eq!(store.sessions.lock().unwrap().len(), 1, "{mood:?}: the session lasted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_longer_ends_every_lock_by_the_lease_and_truthfully() {
    for mood in [Mood::Down, Mood::Hanging] {
        let store = Moody::new();
        let relay = Relay::start(&store).await;
        let mut holder = relay.connect().await;
        let (lock, _) = holder.lock("m").await;
        store.set(mood.clone());
        let reason = ReleaseReason::StoreLost;
        let (took, lost) = millis(holder.message()).await;
        assert_eq!(lost, ServerMessage::Lost { lock_id: lock, reason });
        assert!(
            (8_400..=11_500).contains(&took),
            "{mood:?}: {took} ms after a renewal within 3 s before"
        );
        assert!(
            holder.t() >= holder.valid_until,
            "nobody was promised more than the relay had"
        );
        assert_eq!(holder.closed().await, CloseCode::StoreLost);
        assert!(!relay.sessions.ready());
        // Whoever comes meanwhile waits for the next session, within the limits of its requests.
        let mut newcomer = relay.connect().await;
        newcomer
            .acquire_with("1", "m", |acquire| acquire.wait_millis = Some(2_000))
            .await;
        newcomer.acquire("2", "m").await;
        let (took, message) = millis(newcomer.message()).await;
        assert!((3_000..3_010).contains(&took), "{took} ms");
        let ServerMessage::Error { code, .. } = message else {
            panic!("{message:?}")
        };
        assert_eq!(code, ErrorCode::StoreUnavailable);
        tokio::time::sleep(Duration::from_secs(60)).await;
        store.set(Mood::Good);
        let (took, _) = millis(newcomer.granted()).await;
        assert!(took <= 4_000, "{mood:?}: {took} ms");
        relay.sessions.wait_until_ready().await;
        // The old session is gone, and only the new one is there.
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(store.left(0).await.len(), 1, "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_whose_session_was_reaped_gives_everything_up_and_begins_anew() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let mut holder = relay.connect().await;
    let (lock, token) = holder.lock("m").await;
    store.inner[0].close(Partition(0), store.session(0)).await.unwrap();
    let reason = ReleaseReason::StoreLost;
    let (took, lost) = millis(holder.message()).await;
    assert_eq!(lost, ServerMessage::Lost { lock_id: lock, reason });
    assert!(
        took <= 3_010,
        "the next renewal tells, not the end of the lease after {took} ms"
    );
    assert_eq!(holder.closed().await, CloseCode::StoreLost);
    let mut again = relay.connect().await;
    let (_, higher) = again.lock("m").await;
    assert!(higher > token);
    assert_ne!(store.session(0), store.session(1));
    assert!(relay.metric("lockrelay_losses_total{reason=\"store_lost\"} 1"));
    assert!(relay.sessions.ready());
}

#[tokio::test(start_paused = true)]
async fn one_partition_that_is_away_ends_the_connections_that_have_anything_there() {
    let store = Moody::with_partitions(3);
    let relay = Relay::start(&store).await;
    let mut holder = relay.connect().await;
    for n in 0..20 {
        holder.acquire(&n.to_string(), &format!("m{n}")).await;
    }
    for _ in 0..20 {
        holder.granted().await;
    }
    for partition in 0..3 {
        let entries = store.left(partition).await[0].1;
        assert!(entries > 0, "no mutex in partition {partition}");
    }
    let elsewhere = (20..).map(|n| format!("m{n}"));
    let elsewhere = elsewhere.filter(|name| crate::session::hub::partition_of(&MutexName::new(name).unwrap(), 3) != 1);
    let mut other = relay.connect().await;
    let (kept, _) = other.lock(&elsewhere.take(1).collect::<String>()).await;
    store.only.store(1, Ordering::Relaxed);
    store.set(Mood::Down);
    let lost = async {
        for _ in 0..20 {
            let message = holder.message().await;
            assert!(matches!(message, ServerMessage::Lost { .. }), "{message:?}");
        }
        assert!(holder.t() >= holder.valid_until, "the shortest lease counts");
        assert_eq!(holder.closed().await, CloseCode::StoreLost);
    };
    tokio::select! {
        () = lost => {}
        said = other.next() => panic!("nothing of it is there: {said:?}"),
    }
    store.set(Mood::Good);
    other.release(&kept).await;
    assert!(other.released().await);
    drop(holder);
    let mut again = relay.connect().await;
    again.lock("m0").await;
    assert_eq!(relay.sessions.shutdown(Duration::from_secs(12)).await, Drained::Clean);
    for partition in 0..3 {
        assert_eq!(store.left(partition).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_store_says_so_and_still_frees() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let mut client = relay.connect().await;
    let (lock, _) = client.lock("m").await;
    store.set(Mood::Full);
    client.acquire("2", "n").await;
    let ServerMessage::Error { code, .. } = client.message().await else {
        panic!("not refused")
    };
    assert_eq!(code, ErrorCode::StoreUnavailable);
    client.release(&lock).await;
    assert!(client.released().await);
}

#[tokio::test(start_paused = true)]
async fn an_unfit_store_stops_the_start_and_one_that_is_away_does_not() {
    let store = Moody::new();
    store.set(Mood::Unfit);
    let error = Relay::try_start(&store).await.err().expect("refused");
    assert!(
        matches!(&error, StartError::Unfit(problem) if problem.contains("maxmemory-policy")),
        "{error}"
    );
    store.set(Mood::Down);
    let relay = Relay::start(&store).await;
    assert!(!relay.sessions.ready());
    store.set(Mood::Good);
    relay.sessions.wait_until_ready().await;
    assert!(relay.sessions.ready());
}

#[tokio::test(start_paused = true)]
async fn durations_that_contradict_one_another_stop_the_start() {
    let durations = Durations {
        silence_millis: 1,
        ..Durations::default()
    };
    let error = Sessions::start(Moody::new(), durations, Metrics::new())
        .await
        .expect_err("refused");
    assert!(matches!(error, StartError::Durations(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_a_store_does_not_hang() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let mut holder = relay.connect().await;
    holder.lock("m").await;
    store.set(Mood::Hanging);
    let (took, drained) = millis(relay.sessions.shutdown(Duration::from_secs(3))).await;
    assert_eq!(drained, Drained::Left);
    assert!(took <= 12_000, "{took} ms");
}
