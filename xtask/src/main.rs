//! The command `cargo xtask`: each task writes files of the source tree, which a test compares.

use clap::{Parser, Subcommand};
use std::{
    error::Error,
    fs,
    os::unix::fs::MetadataExt,
    process::{Command, ExitCode},
};
use xtask::{
    completions::completions,
    engine_table,
    golden::{self, GoldenTest},
    manual, replace_files, source_root,
};

/// Write the files of the source tree that are made from the programs
///
/// Run a task after a change of its sources, and read the diff. The tests named below fail until then.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct XtaskArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Write packaging/man from the command lines, config.toml and docs (test: manual)
    Man,
    /// Write packaging/completions from the command lines (test: manual)
    Completions,
    /// Write expected outputs of tests, running them (tests: see --help)
    ///
    /// picture, and kubelet_labels without slices that have graphics, need no root; the others do. golden writes tests/golden/presets and tests/golden/faults; picture writes tests/golden/pictures, docs/picture.svg
    /// and the picture in docs/map.md; kubelet_labels writes tests/golden/labels; configure writes config/engines;
    /// kubernetes_chart writes packaging/kubernetes/mig-cdi.yaml.
    Golden {
        /// Tests to run: golden, picture, kubelet_labels, configure, kubernetes_chart [default: all]
        tests: Vec<String>,
    },
    /// Write the table of docs/engines.md by running engines as root (tests: engine_rows)
    EngineTable,
}

fn main() -> ExitCode {
    match run(&XtaskArgs::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<(), Box<dyn Error>> {
    let packaging = source_root().join("packaging");
    match task {
        Task::Man => Ok(replace_files(&packaging.join("man"), &manual::pages()?)?),
        Task::Completions => Ok(replace_files(&packaging.join("completions"), &completions())?),
        Task::Golden { tests } => update_golden_files(tests),
        Task::EngineTable => update_engine_table(),
    }
}

fn update_golden_files(files: &[String]) -> Result<(), Box<dyn Error>> {
    let tests = golden::selected(files)?;
    let (of_root, of_anyone): (Vec<_>, Vec<_>) = tests.iter().partition(|test| test.needs_root());
    for test in of_anyone {
        write_expected(test, cargo_test(&[]))?;
    }
    if !of_root.is_empty() {
        // A process has an entry of its own in /proc, which belongs to its user.
        if fs::metadata("/proc/self")?.uid() != 0 {
            let lacking: Vec<_> = of_root.iter().map(|test| test.filter).collect();
            let cure = "sudo -E env \"PATH=$PATH\" cargo xtask golden";
            return Err(format!("{} need root: {cure}", lacking.join(", ")).into());
        }
        stage()?;
    }
    for test in of_root {
        write_expected(test, staged_cargo_test(&[]))?;
    }
    println!("read the diff: git diff");
    Ok(())
}

fn write_expected(test: &GoldenTest, mut cargo: Command) -> Result<(), Box<dyn Error>> {
    cargo.args(["--test", test.target, "--", test.filter]).env("UPDATE_GOLDEN", "1");
    if cargo.status()?.success() {
        return Ok(());
    }
    Err(format!("{} failed while it wrote its expected output; see above", test.filter).into())
}

fn update_engine_table() -> Result<(), Box<dyn Error>> {
    // A test fails when its row differs from the document, so the exit status proves nothing. No table is written
    // when an engine does not do what it should.
    let table = engine_table::path_of_last_run();
    if table.exists() {
        fs::remove_file(&table)?;
    }
    stage()?;
    // With these the tests run engines that the document does not describe.
    let mut cargo = staged_cargo_test(&["--test", "engine-rows"]);
    cargo.env_remove("MIG_CDI_TEST_ROOT").env_remove("CRIO").status()?;
    let table = fs::read_to_string(&table).map_err(|e| {
        format!("read {}: {e}; an engine failed, and the test names it", table.display())
    })?;
    let document = source_root().join("docs/engines.md");
    let text = fs::read_to_string(&document)?;
    fs::write(&document, engine_table::with_table(&text, &table)?)?;
    Ok(())
}

/// Builds the programs that the tests run.
fn stage() -> Result<(), Box<dyn Error>> {
    let status = Command::new(source_root().join("tests/stage")).status()?;
    if status.success() { Ok(()) } else { Err("tests/stage failed".into()) }
}

/// Returns `cargo test` with these arguments, of the tests that anyone can run.
fn cargo_test(args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--workspace"]).args(args).current_dir(source_root());
    command
}

/// Returns `cargo test` with these arguments, of all tests, with the programs of `tests/stage`.
fn staged_cargo_test(args: &[&str]) -> Command {
    let mut command = cargo_test(&["--all-features"]);
    command.args(args).env("MIG_CDI_BIN_DIR", source_root().join("target/stage"));
    command
}
