//! `clusterctl`: the one binary. Wiring and commands; what is decided is decided in the crates below.

mod cli;
mod commands;
mod control;
mod instance;
mod print;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A closed pipe (`clusterctl get … | head`) ends the program in silence, as it does for other tools.
    let _ = std::panic::take_hook();
    let cli = cli::Cli::parse();
    pki::install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return print::failure(&anyhow::Error::new(error).context("failed to start the runtime")),
    };
    let code = match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(error) => print::failure(&error),
    };
    // Blocking reads of the terminal must not hold up the exit.
    runtime.shutdown_background();
    code
}
