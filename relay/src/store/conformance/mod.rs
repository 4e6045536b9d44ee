//! ONE suite that every [`LockStore`] passes: a function for each rule of [`crate::store`], and random operations whose
//! outcomes must equal those of the pure [`queue`](crate::store::queue). It knows nothing of how a store works.
//!
//! | file | rules about |
//! |---|---|
//! | `harness` | (no rules) a relay as the rules see it |
//! | `granting` | who holds, who waits, who is next |
//! | `removing` | release and cancel |
//! | `stealing` | theft |
//! | `tokens` | fencing tokens |
//! | `streams` | repeated batches, events, hints |
//! | `sessions` | renewal, reaping, closing, generations |
//! | `reassertion` | locks that are carried into a new generation |
//! | `bounds` | what one call may not do at once |
//! | `random` | everything together |
//!
//! A store's test file is one line, which makes a `#[tokio::test]` of each rule, given an async function that returns
//! [`Stores`] without any data:
//!
//! ```text
//! lockrelay::store_conformance!(fresh);
//! ```

mod bounds;
mod granting;
mod harness;
mod random;
mod reassertion;
mod removing;
mod sessions;
mod stealing;
mod streams;
mod tokens;

pub use bounds::*;
pub use granting::*;
pub use random::random_operations_equal_the_queue;
pub use reassertion::*;
pub use removing::*;
pub use sessions::*;
pub use stealing::*;
pub use streams::*;
pub use tokens::*;

use super::LockStore;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Two handles on the same empty store, as two relays would have them. The rules use partition 0.
pub struct Stores {
    /// One relay's.
    pub here: Arc<dyn LockStore>,
    /// Another relay's.
    pub there: Arc<dyn LockStore>,
    keep: Option<Box<dyn Any + Send>>,
}

impl Stores {
    /// With these two handles.
    pub fn new(here: impl LockStore, there: impl LockStore) -> Self {
        Self {
            here: Arc::new(here),
            there: Arc::new(there),
            keep: None,
        }
    }

    /// Drops this when the rule has been tested, for example the guard of a server.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send) -> Self {
        self.keep = Some(Box::new(guard));
        self
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores")
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// Makes a `#[tokio::test]` of each rule of the suite. Takes the path of an `async fn() -> Stores`, which gives handles on
/// a store without any data each time it is called.
#[macro_export]
macro_rules! store_conformance {
    ($fresh:path) => {
        $crate::store_conformance! { @rules $fresh;
            // granting
            one_holder
            waiters_are_served_in_order_over_sessions
            shared_joins_shared
            shared_never_passes_a_waiting_exclusive
            cancelled_exclusive_head_lets_shared_ones_join
            shared_ones_at_the_head_are_granted_together
            zero_wait_is_refused_and_keeps_nothing
            zero_wait_does_not_pass_a_waiter
            same_entry_again_gets_its_present_state
            taken_slot_is_refused
            queued_tells_how_many_are_ahead
            one_batch_is_applied_in_order
            mutex_names_are_any_text
            // removing
            release_by_a_non_holder_is_not_held
            old_lock_id_is_not_held_after_its_slot_is_used_again
            cancel_that_meets_a_grant_releases_it
            cancelled_waiter_is_never_granted
            removal_of_a_waiter_in_the_middle_changes_no_order
            // stealing
            theft_of_a_free_mutex_is_a_grant
            thief_is_next_and_each_holder_is_told_once
            thief_waits_for_the_last_holder
            second_theft_tells_only_those_granted_since
            theft_ends_with_its_thief
            shared_theft_is_refused
            // tokens
            tokens_rise_over_mutexes_and_sessions
            tokens_rise_after_the_end_of_a_session
            highest_token_of_a_caller_lifts_the_counter
            tokens_keep_53_bits
            // streams
            repeated_batch_changes_nothing_and_answers_the_same
            repeated_batch_hands_nothing_on_twice
            older_batch_is_refused
            events_come_again_until_acknowledged
            events_are_numbered_without_gaps
            events_arrive_as_hints
            own_removal_tells_in_its_own_reply
            // sessions
            renewal_counts_entries_and_raises_the_counter
            opening_twice_is_one_session
            end_of_a_session_hands_on_each_of_its_locks
            reap_spares_a_session_that_lives
            reap_ends_a_session_that_stands_still
            reaped_session_is_told_so_and_writes_nothing
            closed_session_leaves_nothing
            caller_of_another_generation_gets_nothing
            recovering_store_grants_nothing_until_told
            list_tells_all_of_an_entry
            // reassertion
            claimed_lock_is_held
            claim_after_the_recovery_is_lost
            claim_replaces_the_same_lock_of_an_older_session
            higher_token_stays
            claim_displaces_a_stale_holder
            shared_claims_all_stay
            waiters_keep_their_order_beside_claims
            theft_before_a_claim_tells_its_holder
            repeated_claim_changes_nothing
            claim_of_another_generation_gets_nothing
            claim_displaces_no_more_than_the_bound
            // bounds
            oversized_batch_is_refused
            reap_is_bounded_and_ends_with_nothing_left
            waiters_of_dead_sessions_are_skipped
            more_shared_waiters_than_the_bound_are_all_granted
            more_holders_than_the_bound_are_all_told_of_a_theft
            list_comes_in_pages
        }

        #[tokio::test]
        async fn random_operations_equal_the_queue() {
            $crate::store::conformance::random_operations_equal_the_queue($fresh).await;
        }
    };
    (@rules $fresh:path; $($rule:ident)+) => {$(
        #[tokio::test]
        async fn $rule() {
            $crate::store::conformance::$rule($fresh().await).await;
        }
    )+};
}
