use super::*;
use crate::session::{Drained, End};
use crate::store::{Admission, Op, Request, Slot, random_lock_id};
use futures_util::FutureExt;
use lockrelay_protocol::ReleaseReason;
use std::sync::atomic::Ordering;

#[tokio::test(start_paused = true)]
async fn waiters_of_two_relays_are_served_in_the_order_in_which_they_came() {
    let store = Moody::new();
    let (r1, r2) = (Relay::start(&store).await, Relay::start(&store).await);
    let mut holder = r1.connect().await;
    let (mut lock, mut token) = holder.lock("m").await;
    let mut waiters = Vec::new();
    for n in 0..6 {
        let mut waiter = if n % 2 == 0 { &r2 } else { &r1 }.connect().await;
        waiter.acquire("1", "m").await;
        waiter.queued().await;
        waiters.push(waiter);
    }
    for mut waiter in waiters {
        assert!(waiter.outbox.is_empty(), "not before its turn");
        holder.release(&lock).await;
        let (took, (next, higher)) = millis(waiter.granted()).await;
        assert!(took < 10, "the announcement did it, not a look after {took} ms");
        assert!(higher > token);
        assert!(holder.released().await);
        (holder, lock, token) = (waiter, next, higher);
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_announcement_was_lost_is_found_within_a_second() {
    let store = Moody::new();
    store.mute.store(true, Ordering::Relaxed);
    let (r1, r2) = (Relay::start(&store).await, Relay::start(&store).await);
    let mut holder = r1.connect().await;
    let (lock, _) = holder.lock("m").await;
    let mut waiter = r2.connect().await;
    waiter.acquire("1", "m").await;
    waiter.queued().await;
    holder.release(&lock).await;
    let (took, _) = millis(waiter.granted()).await;
    assert!(took <= 1_010, "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn a_later_announcement_shows_that_one_was_lost_and_both_are_served_at_once() {
    let store = Moody::new();
    let (r1, r2) = (Relay::start(&store).await, Relay::start(&store).await);
    let mut holder = r1.connect().await;
    let (m, _) = holder.lock("m").await;
    holder.acquire("2", "n").await;
    let (n, _) = holder.granted().await;
    let mut waiter = r2.connect().await;
    for mutex in ["m", "n"] {
        waiter.acquire(mutex, mutex).await;
        waiter.queued().await;
    }
    store.losing.store(1, Ordering::Relaxed);
    holder.release(&m).await;
    assert!(holder.released().await);
    holder.release(&n).await;
    assert!(holder.released().await);
    let (took, _) = millis(async { (waiter.granted().await, waiter.granted().await) }).await;
    assert!(took < 10, "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_frees_its_locks_whether_told_or_dropped() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    for how in [None, Some(End::CloseFrame), Some(End::TcpEnded)] {
        let mut holder = relay.connect().await;
        holder.lock("m").await;
        let mut waiter = relay.connect().await;
        waiter.acquire("1", "m").await;
        waiter.queued().await;
        let connection = holder.connection.take().unwrap();
        match how {
            Some(how) => connection.end(how),
            // What a panic of its task does.
            None => drop(connection),
        }
        let (took, (lock, _)) = millis(waiter.granted()).await;
        assert!(took < 10, "{how:?}: {took} ms");
        waiter.release(&lock).await;
        assert!(waiter.released().await);
    }
    assert!(relay.metric("lockrelay_losses_total{reason=\"connection_lost\"} 2"));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_dies_is_reaped_and_its_locks_move_on() {
    let store = Moody::new();
    let (r1, r2) = (Relay::start(&store).await, Relay::start(&store).await);
    let mut holder = r1.connect().await;
    holder.lock("m").await;
    let mut waiter = r2.connect().await;
    waiter.acquire("1", "m").await;
    waiter.queued().await;
    // All at once, so that its driver has no time to say anything.
    drop((r1, holder));
    let (took, _) = millis(waiter.granted()).await;
    let durations = Durations::default();
    assert!(
        took > durations.relay_lease_millis - durations.renew_every_millis,
        "{took} ms is too soon"
    );
    let latest = durations.standstill() + durations.renew_every_millis + 1_000;
    assert!(took <= latest, "{took} ms, at most {latest}");
    assert_eq!(store.left(0).await.len(), 1);
    assert!(r2.metric("lockrelay_store_calls_total{call=\"reap\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_theft_is_told_and_the_thief_served_at_the_answer() {
    let store = Moody::new();
    let (r1, r2) = (Relay::start(&store).await, Relay::start(&store).await);
    let mut holder = r1.connect().await;
    let (lock, _) = holder.lock("m").await;
    let mut thief = r2.connect().await;
    thief.acquire_with("1", "m", |acquire| acquire.steal = true).await;
    let lost = holder.message().await;
    let reason = ReleaseReason::Stolen;
    assert_eq!(
        lost,
        ServerMessage::Lost {
            lock_id: lock.clone(),
            reason
        }
    );
    thief.queued().await;
    holder.release(&lock).await;
    let (took, _) = millis(thief.granted()).await;
    assert!(took < 10, "{took} ms");
    assert!(holder.released().await);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_locks_cost_no_more_upkeep_than_one_and_a_thousand_waiters_a_look_per_second() {
    let calls = |relay: &Relay| -> f64 {
        let text = relay.metrics.encode();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("lockrelay_store_calls_total"));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let mut holder = relay.connect().await;
    for n in 0..1_000 {
        holder.acquire(&n.to_string(), &format!("m{n}")).await;
        holder.granted().await;
    }
    let listen = async |client: &mut Client, seconds| {
        tokio::time::timeout(Duration::from_secs(seconds), client.next())
            .await
            .unwrap_err();
    };
    let before = calls(&relay);
    listen(&mut holder, 60).await;
    let held = calls(&relay) - before;
    assert!(held <= 21.0, "{held} calls in a minute");
    for n in 0..1_000 {
        holder.acquire(&format!("w{n}"), "m0").await;
        holder.queued().await;
    }
    let before = calls(&relay);
    listen(&mut holder, 60).await;
    let waiting = calls(&relay) - before;
    assert!(waiting <= 61.0, "{waiting} calls in a minute");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_batch_is_on_its_way_goes_out_together() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let mut client = relay.connect().await;
    for n in 0..50 {
        client.acquire(&n.to_string(), &format!("m{n}")).await;
    }
    for _ in 0..50 {
        client.granted().await;
    }
    let batches = relay.metrics.encode();
    let count = batches
        .lines()
        .find_map(|line| line.strip_prefix("lockrelay_batch_size_count "))
        .unwrap();
    assert!(count.parse::<u32>().unwrap() <= 4, "{count} batches");
    assert!(relay.metric("lockrelay_batch_size_sum 50.0"));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_nothing_in_the_store() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let mut holder = relay.connect().await;
    let (lock, _) = holder.lock("m").await;
    let mut idle = relay.connect().await;
    assert!(relay.sessions.ready());
    let sessions = relay.sessions.clone();
    let shutdown = tokio::spawn(async move { sessions.shutdown(Duration::from_secs(11)).await });
    let reason = ReleaseReason::RelayShutdown;
    assert_eq!(
        holder.message().await,
        ServerMessage::Lost {
            lock_id: lock.clone(),
            reason
        }
    );
    assert_eq!(holder.closed().await, CloseCode::GoingAway);
    assert_eq!(idle.closed().await, CloseCode::GoingAway);
    assert!(!relay.sessions.ready());
    let (sender, _outbox) = mpsc::channel(8);
    assert_eq!(
        relay.sessions.admit(0, sender).await.unwrap_err(),
        Refused::ShuttingDown
    );
    holder.release(&lock).await;
    let (took, drained) = millis(shutdown).await;
    assert_eq!(drained.unwrap(), Drained::Clean);
    assert!(took < 100, "{took} ms");
    assert_eq!(store.left(0).await, []);
    relay.sessions.ended().await;
    assert_eq!(
        relay.sessions.shutdown(Duration::ZERO).await,
        Drained::Left,
        "over already"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_frees_no_lock_that_a_silent_client_may_believe_in() {
    for (limit, drained) in [(10_000, Drained::Left), (11_500, Drained::Clean)] {
        let store = Moody::new();
        let relay = Relay::start(&store).await;
        let mut holder = relay.connect().await;
        holder.lock("m").await;
        let (took, how) = millis(relay.sessions.shutdown(Duration::from_millis(limit))).await;
        assert_eq!(how, drained);
        if drained == Drained::Left {
            assert_eq!(took, limit);
            assert_eq!(store.left(0).await, [(store.session(0), 1)]);
        } else {
            assert!((10_990..11_100).contains(&took), "F after its last word: {took} ms");
            assert_eq!(store.left(0).await, []);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let (sender, mut outbox) = mpsc::channel(4);
    let connection = relay.sessions.admit(0, sender).await.unwrap();
    assert!(connection.cut().now_or_never().is_none());
    for n in 0..5 {
        let lock_id = LockId::new(&format!("L{n}")).unwrap();
        connection.send(Command::Release { t: 0, lock_id }).await;
    }
    connection.cut().await;
    for _ in 0..3 {
        assert!(matches!(outbox.recv().await, Some(Outgoing::Message(_))));
    }
    assert!(
        matches!(outbox.recv().await, Some(Outgoing::Close(CloseCode::TooSlow, _))),
        "the code finds room"
    );
    assert_eq!(outbox.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_floods_is_read_no_further_until_the_hub_has_caught_up() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let client = relay.connect().await;
    let mut sent = 0;
    while client.say(Command::Ack { t: 0 }).now_or_never().is_some() {
        sent += 1;
    }
    assert_eq!(sent, crate::defaults::INBOX_MESSAGES);
    client.say(Command::Ack { t: 0 }).await;
}

#[tokio::test(start_paused = true)]
async fn an_outbox_without_any_room_is_refused() {
    let relay = Relay::start(&Moody::new()).await;
    let (sender, _outbox) = mpsc::channel(1);
    let _first = relay.sessions.admit(0, sender.clone()).await.unwrap();
    assert_eq!(relay.sessions.admit(0, sender).await.unwrap_err(), Refused::NoRoom);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_no_connection_knows_is_found_and_freed() {
    let store = Moody::new();
    let relay = Relay::start(&store).await;
    let mut client = relay.connect().await;
    // Slipped into a batch of the relay, far from its own slots.
    *store.stray.lock().unwrap() = Some(Op::Acquire(Request {
        slot: Slot(7),
        lock_id: random_lock_id(),
        mutex: MutexName::new("m").unwrap(),
        mode: Mode::Exclusive,
        admission: Admission::Queue,
        metadata: None,
    }));
    client.lock("other").await;
    client.acquire("1", "m").await;
    client.queued().await;
    let (took, _) = millis(client.granted()).await;
    assert!(took <= 2_100, "two looks, a list and a removal took {took} ms");
    assert!(relay.metric("lockrelay_store_calls_total{call=\"list\"} 1"));
}
