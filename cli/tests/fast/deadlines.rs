//! The deadlines of the tests themselves: nothing that a test waits for can hang it.

use mig_cdi_tests::{
    deadline::{StopOnDrop, read_line, run_within, wait_within},
    watch::until,
};
use std::{
    fs,
    io::BufReader,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

/// Time that the programs of these tests get. Each begins its work in a small part of it, and none ends.
const LIMIT: Duration = Duration::from_secs(2);

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Returns the message with which the work panics.
fn message<T>(work: impl FnOnce() -> T) -> String {
    let Err(why) = catch_unwind(AssertUnwindSafe(work)) else { panic!("it does not panic") };
    *why.downcast::<String>().expect("a message")
}

/// Waits until the process has ended that a program printed as `name=PID`.
fn assert_ends(message: &str, name: &str) {
    let pid = |word: &str| word.strip_prefix(name)?.strip_prefix('=')?.parse::<u32>().ok();
    let pid = message.split_whitespace().find_map(pid).expect("it was printed");
    // A killed process stays as a zombie where the first process of the machine waits for none.
    until(name, || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_has_started() {
    let mut command = sh(
        "echo begun; echo why >&2; sleep 1000 & echo own=$!; setsid sleep 1000 & echo other=$!; wait",
    );
    let message = message(|| run_within(&mut command, None, LIMIT));
    for part in ["deadline: ", "sleep 1000", "still runs after 2", "begun\n", "error:\nwhy\n"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_ends(&message, "own");
    assert_ends(&message, "other");
}

#[test]
fn a_process_that_outlives_its_parent_and_holds_the_output_is_killed() {
    let message = message(|| run_within(&mut sh("sleep 1000 & echo left=$!"), None, LIMIT));
    assert!(message.contains("another process holds its output open"), "{message}");
    assert_ends(&message, "left");
}

#[test]
fn a_program_that_reads_no_input_is_killed() {
    let input = vec![b'x'; 1 << 20];
    let message = message(|| run_within(&mut sh("exec sleep 1000"), Some(&input), LIMIT));
    assert!(message.contains("still runs"), "{message}");
    let message = self::message(|| run_within(&mut sh("true"), Some(&input), LIMIT));
    assert!(message.contains("did not read its input to the end"), "{message}");
}

#[test]
fn a_child_that_does_not_end_is_killed() {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let message = message(|| wait_within(&mut child, Duration::from_millis(50)));
    assert!(message.contains("still ran after"), "{message}");
    assert_eq!(child.try_wait().unwrap().expect("it has ended").code(), None, "by a signal");
}

#[test]
fn more_than_a_pipe_holds_passes_in_both_directions() {
    let input = "0123456789abcde\n".repeat(1 << 16);
    let run = run_within(&mut sh("tee /dev/stderr"), Some(input.as_bytes()), LIMIT * 30);
    assert!(run.assert_code(0).stdout == input && run.stderr == input);
    // A program may close its output before it reads.
    let run = run_within(
        &mut sh("exec >&- 2>&-; exec cat >/dev/null"),
        Some(input.as_bytes()),
        LIMIT * 30,
    );
    assert_eq!(run.assert_code(0).stdout, "");
}

#[test]
fn lines_are_read_one_by_one() {
    let mut child = sh("printf 'one\\ntw'; sleep 0.1; printf 'o\\nend'")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let lines = [(); 4].map(|()| read_line(&mut reader).unwrap());
    assert_eq!(lines, ["one\n", "two\n", "end", ""]);
    assert!(wait_within(&mut child, LIMIT * 30).success());
}

#[test]
fn a_thread_that_panics_ends_the_others() {
    let stop = AtomicBool::new(false);
    let failed = catch_unwind(|| {
        std::thread::scope(|scope| {
            let _stop = StopOnDrop(&stop);
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    std::thread::yield_now();
                }
            });
            assert!(stop.load(Relaxed), "the test fails");
        });
    });
    assert!(failed.is_err() && stop.load(Relaxed));
}
