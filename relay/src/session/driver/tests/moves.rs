//! The store begins a new generation: what is held moves into it, or is lost truthfully.

use super::store::Mood;
use super::*;
use crate::session::Drained;
use crate::store::{LockStore as _, Partition, SessionId};
use futures_util::future::join_all;
use lockrelay_protocol::ReleaseReason;

/// The time from then on, in milliseconds.
fn since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap()
}

/// The next grant; until it comes, the request may be queued anew.
async fn granted_at_last(client: &mut Client) -> (LockId, u64) {
    loop {
        match client.message().await {
            ServerMessage::Granted {
                lock_id, fencing_token, ..
            } => return (lock_id, fencing_token),
            ServerMessage::Queued { .. } => {}
            other => panic!("not granted: {other:?}"),
        }
    }
}

/// They answer heartbeats, and hear nothing but that they wait; for ever.
async fn nothing_happens_to(clients: Vec<&mut Client>) {
    join_all(clients.into_iter().map(async |client| {
        loop {
            let said = client.listen().await;
            let queued = matches!(said, Outgoing::Message(ServerMessage::Queued { .. }));
            assert!(queued, "{said:?}");
        }
    }))
    .await;
}

/// Each holder keeps its lock, whatever the store is left with, and nobody is granted anything that somebody may still hold
/// by the old generation. Waiters are served in their order, and tokens rise.
#[tokio::test(start_paused = true)]
async fn what_is_held_is_kept_whatever_the_store_forgot() {
    for left in ["everything", "a state in which another held it", "nothing"] {
        let store = Moody::new();
        let empty = store.inner[0].snapshot();
        let (r1, r2) = (Relay::start(&store).await, Relay::start(&store).await);
        let mut former = r2.connect().await;
        let (formerly, _) = former.lock("held").await;
        let old = store.inner[0].snapshot();
        former.release(&formerly).await;
        assert!(former.released().await);

        let mut holder = r1.connect().await;
        let (lock, token) = holder.lock("held").await;
        let mut reader = r2.connect().await;
        reader
            .acquire_with("1", "shared", |acquire| acquire.mode = Mode::Shared)
            .await;
        reader.granted().await;
        let (mut first, mut second) = (r2.connect().await, r2.connect().await);
        for waiter in [&mut first, &mut second] {
            waiter.acquire("1", "held").await;
            waiter.queued().await;
        }
        let start = Instant::now();
        let snapshot = match left {
            "everything" => store.inner[0].snapshot(),
            "nothing" => empty,
            _ => old,
        };
        store.inner[0].restore(&snapshot);
        // Another mutex is free, and is not granted before everybody's old lease must be over.
        let mut newcomer = r1.connect().await;
        newcomer.acquire("1", "free").await;
        tokio::select! {
            _ = granted_at_last(&mut newcomer) => {}
            () = nothing_happens_to(vec![&mut holder, &mut reader, &mut first, &mut second]) => {}
        }
        let durations = Durations::default();
        assert!(
            since(start) >= durations.standstill(),
            "{left}: {} ms is too soon",
            since(start)
        );
        let late = durations.standstill() + 2 * durations.renew_every_millis;
        assert!(since(start) <= late, "{left}: {} ms", since(start));
        for client in [&holder, &reader] {
            assert!(client.valid_until > client.t(), "{left}: it believed all the time");
        }
        holder.release(&lock).await;
        assert!(holder.released().await);
        let (lock, next) = granted_at_last(&mut first).await;
        assert!(next > token, "{left}");
        first.release(&lock).await;
        assert!(first.released().await);
        let (_, last) = granted_at_last(&mut second).await;
        assert!(last > next, "{left}: in their order");
        assert!(!r1.metrics.encode().contains("store_lost"), "{left}: nothing was lost");
        for client in [holder, reader, first, second, newcomer, former] {
            drop(client);
        }
        for relay in [r1, r2] {
            assert_eq!(relay.sessions.shutdown(Duration::from_secs(12)).await, Drained::Clean);
        }
        // What the store was left with of sessions of old goes when nobody renews it.
        assert_eq!(left_by_relays(&store).await, Vec::new(), "{left}");
    }
}

async fn left_by_relays(store: &Arc<Moody>) -> Vec<SessionId> {
    let left = store.left(0).await.into_iter();
    left.map(|(session, _)| session).collect()
}

/// A store that is away for so long that the lease runs out, and then has forgotten: all is lost, at the lease's end, and
/// nothing is claimed afterwards.
#[tokio::test(start_paused = true)]
async fn what_could_not_move_within_the_lease_is_lost_at_its_end() {
    for away_before in [true, false] {
        let store = Moody::new();
        let empty = store.inner[0].snapshot();
        let relay = Relay::start(&store).await;
        let mut holder = relay.connect().await;
        let (lock, token) = holder.lock("m").await;
        if away_before {
            store.set(Mood::Down);
        } else {
            // Claims are not answered, and so they may or may not be there.
            store
                .claims_unanswered
                .store(true, std::sync::atomic::Ordering::Relaxed);
        }
        store.inner[0].restore(&empty);
        let reason = ReleaseReason::StoreLost;
        let (took, lost) = millis(holder.message()).await;
        assert_eq!(lost, ServerMessage::Lost { lock_id: lock, reason });
        assert!(
            (8_400..=11_500).contains(&took),
            "{took} ms after a renewal within 3 s before"
        );
        assert!(
            holder.t() >= holder.valid_until,
            "no more was promised than the old lease"
        );
        assert_eq!(holder.closed().await, CloseCode::StoreLost);
        store.set(Mood::Good);
        store
            .claims_unanswered
            .store(false, std::sync::atomic::Ordering::Relaxed);
        let mut again = relay.connect().await;
        again.acquire("1", "m").await;
        let (_, higher) = granted_at_last(&mut again).await;
        assert!(higher > token);
    }
}

/// A relay that learns of the new generation only when others grant in it again has lost everything.
#[tokio::test(start_paused = true)]
async fn whoever_comes_after_the_recovery_has_lost() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let mut holder = relay.connect().await;
    let (lock, _) = holder.lock("m").await;
    store.inner[0].restore(&store.inner[0].snapshot());
    let stranger = SessionId::random();
    let opened = store.inner[0].open(Partition(0), stranger, 0, 0).await.unwrap();
    let caller = crate::store::Caller {
        session: stranger,
        generation: opened.generation.number,
        highest_token: 0,
        acknowledged: 0,
    };
    store.inner[0].end_recovery(Partition(0), &caller).await.unwrap();
    let reason = ReleaseReason::StoreLost;
    assert_eq!(holder.message().await, ServerMessage::Lost { lock_id: lock, reason });
    assert_eq!(holder.closed().await, CloseCode::StoreLost);
}
