//! Instructions a batch of each piece of the audio path, as `valgrind` counts
//! them: the same on a busy machine as on an idle one, and the same tomorrow
//! unless the code changes.
//!
//! Each piece is run twice, for more and for fewer steps; the difference is the
//! steps'. Started with a file, it writes its table between the marks there.

mod workloads;

use std::{
    fmt::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use clap::Parser;

/// Steps of the two runs: a ring is full after 50, so both are beyond that.
const FEW: u64 = 200;
const MANY: u64 = 1_200;
/// Between these stands the table.
const BEGIN: &str = "<!-- counted: begin -->";
const END: &str = "<!-- counted: end -->";

/// Instructions a batch of the pieces of the audio path
#[derive(Debug, Parser)]
struct Options {
    /// Puts the table between its marks in this file
    #[arg(long)]
    write: Option<PathBuf>,
    /// Runs one piece so many times, for whoever counts
    #[arg(long, hide = true, num_args = 2)]
    run: Option<Vec<String>>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some([name, steps]) = options.run.as_deref() {
        let workload = workloads::named(name).with_context(|| format!("no workload {name}"))?;
        let mut step = (workload.make)();
        (0..steps.parse::<u64>()?).for_each(|_| step());
        return Ok(());
    }
    let mut table =
        String::from("| work | instructions a batch | a frame | what |\n|---|---:|---:|---|\n");
    for workload in workloads::ALL {
        let name = workload.name;
        let steps = counted(name, MANY)? - counted(name, FEW)?;
        let batch = steps as f64 / (MANY - FEW) as f64;
        let frame = batch / workloads::FRAMES as f64;
        writeln!(table, "| {name} | {batch:.0} | {frame:.0} | {} |", workload.what)?;
    }
    print!("{table}");
    if let Some(path) = options.write {
        let text = std::fs::read_to_string(&path)?;
        let (before, rest) = text.split_once(BEGIN).context("the mark of the beginning is gone")?;
        let (_, after) = rest.split_once(END).context("the mark of the end is gone")?;
        std::fs::write(&path, format!("{before}{BEGIN}\n{table}{END}{after}"))?;
    }
    Ok(())
}

/// All instructions of a run of so many steps.
fn counted(name: &str, steps: u64) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--run", name, &steps.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .context("cannot start valgrind: install it (Debian: valgrind)")?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {log}");
    let count = log.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count.with_context(|| format!("valgrind counted nothing: {log}"))
}
