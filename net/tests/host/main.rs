//! The runtimes of a real machine, on this machine's kernel and disk. Where no ring can be opened the tests of `uring` fail and say
//! why, they never skip; `PYRITE_RUNTIME=portable` leaves them out.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and show what they saw"
)]

mod laws;
#[path = "../runtime/suite.rs"]
mod suite;
mod wal;
mod worker;

macro_rules! laws_hold {
    ($runtime:ident: $($module:ident::$law:ident,)*) => {
        $(
            #[test]
            fn $law() {
                if $runtime::is_asked_for() {
                    super::$module::$law::<$runtime>();
                }
            }
        )*
    };
}

macro_rules! on_both {
    ($($laws:tt)*) => {
        mod uring {
            use super::worker::Tested as _;
            use net::runtime::uring::Uring;
            laws_hold! { Uring: $($laws)* }
        }
        mod portable {
            use super::worker::Tested as _;
            use net::runtime::portable::Portable;
            laws_hold! { Portable: $($laws)* }
        }
    };
}

on_both! {
    laws::every_law_of_the_runtime_traits_holds,
    laws::a_freshly_written_file_reads_back_as_written,
    laws::allocated_space_reads_as_zero_and_truncation_shortens,
    laws::a_write_larger_than_one_transfer_is_whole,
    laws::names_appear_move_and_vanish,
    laws::several_listeners_share_an_address_and_echo,
    laws::a_spawned_task_is_not_polled_inside_the_call,
    laws::sleep_takes_its_time_and_the_clocks_run,
    laws::a_busy_shard_hears_other_threads_whatever_class_is_busy,
    laws::a_long_pass_gives_way_to_a_class_before_it,
    laws::an_idle_shard_keeps_beating,
    laws::more_operations_than_a_queue_takes_all_end,
    laws::operations_that_nobody_waits_for_end_and_are_counted_out,
    laws::what_a_shard_returns_comes_back_and_its_thread_ends,
    wal::many_writers_share_syncs_and_everything_is_replayed,
}
