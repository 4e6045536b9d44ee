//! The public API: its connection, its observers, and its locks at a real relay.
//!
//! The relay's address is compiled in from `RELAY_URL`; `npm test wasm` starts one and sets it.
#![cfg(target_arch = "wasm32")]

mod harness;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

pages! { wire in "/tests/pages/wire.js":
    hello_comes_first_with_the_subprotocol_the_clients_name_and_the_token
    a_token_function_is_asked_at_each_connection_and_again_when_it_fails
    a_heartbeat_is_answered_inside_its_handler
    the_state_is_told_at_each_change_until_unsubscribed
    when_a_connection_is_lost_the_next_url_is_tried_and_pending_requests_go_there
    the_relays_errors_reach_the_call
    a_relay_that_refuses_the_client_ends_it_for_good
    without_a_relay_a_call_gives_up_after_two_seconds_or_its_own_limit
    a_frame_that_is_no_message_ends_the_connection_and_an_unknown_type_does_not
    a_lock_is_lost_inside_the_handler_of_its_sockets_end_and_never_comes_back
    a_lease_ends_by_the_clock_even_when_the_page_stands_still
    a_lock_is_held_for_its_maximum_at_most
    release_is_over_before_it_returns_and_resolves_when_the_relay_confirms
    release_resolves_at_the_connections_end_too
    a_lock_object_that_is_freed_is_released
    leaving_the_page_lets_go_and_coming_back_connects_again
    an_aborted_call_is_cancelled_and_its_listener_goes
    whoever_has_to_wait_is_told_its_place
    callbacks_may_call_back_at_once
}

pages! { observers in "/tests/pages/observers.js":
    an_observable_emits_once_and_completes_for_early_and_late_subscribers
    one_observable_has_many_subscribers_and_observers_may_be_partial
    the_platforms_own_observable_takes_it
    for_await_takes_it
    whoever_unsubscribes_is_told_nothing
    a_late_callback_is_called_before_it_returns_and_can_be_unsubscribed_still
    one_callback_may_unsubscribe_another_or_itself
    a_callback_that_throws_is_reported_and_disturbs_nobody
    a_loss_that_nobody_observes_is_no_unhandled_rejection
}

pages! { locks in "/tests/pages/locks.js":
    a_lock_has_what_it_promises
    one_after_the_other_in_the_order_of_the_calls
    shared_beside_shared_and_never_beside_exclusive
    a_wait_ends_in_time
    what_no_rule_allows_is_denied
    an_aborted_call_leaves_nothing_behind
    a_stolen_lock_is_lost_to_all_who_observe_it_once
    with_lock_returns_what_its_callback_returns
    with_lock_throws_what_its_callback_throws_and_releases
    with_lock_rejects_when_the_lock_was_lost_but_the_callbacks_own_error_wins
    close_releases_all_and_rejects_what_waits_and_what_comes_later
    close_while_a_call_is_on_its_way_leaves_nothing_behind
}
