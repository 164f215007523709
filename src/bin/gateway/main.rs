//! The command line: hand in tasks, look after them, and listen to rooms. One
//! file a subcommand; what a failure is worth as an exit code is `exit`'s, how
//! an answer is shown `show`'s.

mod cancel;
mod drain;
mod events;
mod exit;
mod get;
mod keep;
mod leader;
mod list;
mod listen;
mod ping;
mod show;
mod stepdown;
mod submit;
mod top;
mod update;
mod wait;
mod workers;

use std::{io::IsTerminal, process::ExitCode};

use audio_gateway::{bus::BusOptions, client::Gateway, telemetry};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use exit::Exit;
use show::Show;

const HELP: &str = "\
Exit codes:
  0    done; also `listen` without an end of its own, ended by Ctrl-C
  1    failed; also a task that was waited for and ended otherwise
  2    wrong usage, or a task that cannot be read
  3    there is no such task
  4    refused: it contradicts what is there, or breaks a bound
  5    too many at once: come back later
  6    the server cannot be reached, or nobody serves the request
  7    not in time
  130  interrupted

Output is a table on a terminal, else one line a row with tabs between, in the
order of the table and without its head; --json is for programs. Logs and
progress go to stderr, filtered by RUST_LOG (default: warn).";

/// Voice rooms on NATS: hand in tasks, look after them, listen
#[derive(Debug, Parser)]
#[command(name = "gateway", version, after_help = HELP)]
struct Cli {
    #[command(flatten)]
    bus: BusOptions,
    /// Answer in JSON, one value a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hand in a task
    Submit(Box<submit::Args>),
    /// Keep a room pulled: hand in a task, and the next one where it ends
    Keep(Box<keep::Args>),
    /// Show one task
    Get(get::Args),
    /// Show tasks, newest first
    List(list::Args),
    /// Change a task that waits or runs: whom it pulls, its priority, its end
    Update(Box<update::Args>),
    /// End a task
    Cancel(cancel::Args),
    /// Listen to a room: watch it, keep it as WAV, or pipe it on
    Listen(Box<listen::Args>),
    /// Follow the changes of tasks as they happen, or tell those that were
    Events(events::Args),
    /// Show the workers
    Workers,
    /// Show which dispatcher leads
    Leader,
    /// The whole, live: workers, rooms, what waits and why
    Top,
    /// Have a worker give its rooms away and take none
    Drain(drain::DrainArgs),
    /// Have a drained worker take rooms again
    Undrain(drain::UndrainArgs),
    /// Have another dispatcher lead: before its host goes down, say
    Stepdown(stepdown::Args),
    /// Ask a dispatcher or a worker for a sign of life
    Ping(ping::Args),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What is logged would stand in the middle of the picture.
    if !(matches!(cli.command, Command::Top) && std::io::stderr().is_terminal()) {
        telemetry::init("warn");
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&error.into(), cli.json).into(),
    };
    let json = cli.json;
    let exit = runtime.block_on(run(cli)).unwrap_or_else(|error| exit::report(&error, json));
    // A write to a reader that has stopped reading is not waited for.
    runtime.shutdown_background();
    exit.into()
}

async fn run(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { bus, json, command } = cli;
    let show = Show::new(json);
    let connect = || Gateway::connect(&bus);
    match command {
        // What can be wrong without the server is said without it.
        Command::Submit(args) => {
            let spec = args.task.spec()?;
            submit::run(&args, &spec, &connect().await?, &show).await
        }
        Command::Keep(args) => {
            let spec = args.task.spec()?;
            keep::run(&args, &spec, &connect().await?, &show).await
        }
        Command::Listen(args) => {
            let plan = args.plan()?;
            listen::run(plan, &connect().await?, show).await
        }
        Command::Get(args) => get::run(&args, &connect().await?, &show).await,
        Command::List(args) => list::run(args, &connect().await?, &show).await,
        Command::Update(args) => {
            let update = args.update()?;
            update::run(&args, &update, &connect().await?, &show).await
        }
        Command::Cancel(args) => cancel::run(&args, &connect().await?, &show).await,
        Command::Events(args) => events::run(&args, &connect().await?, &show).await,
        Command::Workers => workers::run(&connect().await?, &show).await,
        Command::Leader => leader::run(&connect().await?, &show).await,
        Command::Top => {
            top::check(json)?;
            top::run(&bus).await
        }
        Command::Drain(args) => drain::drain(&args, &connect().await?, &show).await,
        Command::Undrain(args) => drain::undrain(&args, &connect().await?, &show).await,
        Command::Stepdown(args) => stepdown::run(&args, &connect().await?, &show).await,
        Command::Ping(args) => ping::run(&args, &connect().await?, &show).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "gateway", &mut script);
            show.bytes(&script)?;
            Ok(Exit::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
