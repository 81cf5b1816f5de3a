//! What every database must do. `database_tests!(open())` makes a test of each function that it names; `open()` gives a
//! guard that is kept for the test's length, and a database in which nothing is.

pub(crate) mod fixture;
pub(crate) mod gone;
pub(crate) mod lists;
pub(crate) mod media;
pub(crate) mod retries;
pub(crate) mod search;
pub(crate) mod uploads;
pub(crate) mod uses;

macro_rules! database_tests {
    ($open:expr) => {
        $crate::db::contract::database_tests!(
            $open;
            media::tells_what_was_stored, media::nobody_changes_the_row_of_another,
            media::the_first_preferred_owner_speaks_for_a_content, media::lists_all_of_some_owners_newest_first,
            media::notes_and_forgets_keys,
            lists::pages_lose_and_repeat_nothing, lists::lists_templates, lists::of_a_content_one_row_is_the_template, lists::counts_purchases,
            lists::an_owner_changes_what_it_says, lists::a_template_stays_one,
            search::finds_by_words, search::any_term_is_a_search,
            search::a_name_counts_more_than_a_description_than_a_tag,
            search::finds_what_anybody_may_find_and_nothing_else, search::a_search_follows_what_owners_say,
            search::names_a_content_once_by_its_best_row, search::a_search_has_pages,
            search::of_very_many_the_best_come_first_however_old,
            search::what_comes_between_two_pages_hides_and_repeats_nothing,
            search::all_words_in_the_name_count_more_than_some,
            gone::a_content_goes_with_its_last_owner, gone::what_is_expired_is_as_good_as_gone,
            gone::expires_no_more_than_asked, gone::pictures_go_with_their_file,
            gone::a_picture_is_kept_once, gone::a_quota_is_kept, gone::says_what_an_owner_has,
            gone::a_slow_store_holds_nobody_up_and_cannot_speak_of_what_is_gone,
            gone::an_upload_that_races_the_end_of_its_content_keeps_it,
            uploads::leaves_no_trace_of_a_failed_upload, uploads::stores_equal_content_once,
            uploads::replaces_a_copy_that_is_not_whole,
            uploads::replaces_a_copy_that_is_sealed_otherwise, uploads::a_store_that_fails_changes_nothing,
            uploads::a_late_upload_is_stored_until_it_is_swept, uploads::a_renewed_lease_is_not_swept,
            uploads::sweeps_no_more_than_asked, uploads::removes_no_row_of_a_stored_copy,
            uploads::of_a_race_one_copy_is_stored, uploads::a_copy_of_another_length_stands_for_none,
            media::takes_any_text,
            uses::a_use_is_held_and_then_spent, uses::a_failed_upload_gives_its_use_back,
            uses::an_ended_lease_gives_its_use_back, uses::every_counter_needs_room,
            uses::payments_count_apart, uses::a_token_without_counters_is_not_limited,
            uses::nobody_is_charged_twice_for_one_content,
            uses::each_owner_of_a_content_costs_a_use, uses::a_spent_use_outlives_the_copy_that_lost,
            uses::of_a_hundred_at_once_one_begins, uses::many_at_once_never_store_more_than_was_sold,
            uses::a_late_upload_never_stores_a_use_that_was_given_on,
            retries::only_what_is_like_what_was_stored_is_let_through,
            retries::one_at_a_time_and_five_an_hour_of_each_use, retries::of_many_retries_at_once_one_begins,
            uses::one_content_sent_many_times_at_once_costs_one_use,
        );
    };
    ($open:expr; $($module:ident::$test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let (_guard, database) = $open.await;
                $crate::db::contract::$module::$test(&database).await;
            }
        )*
    };
}
pub(crate) use database_tests;
