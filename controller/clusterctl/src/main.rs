//! `clusterctl`: the one binary. Wiring and commands; what is decided is decided in the crates below.

mod cli;
mod commands;
mod control;
mod data;
mod global;
mod instance;
mod print;

use clap::Parser;
use std::process::ExitCode;

/// A request makes hundreds of small allocations on several threads: the C library's allocator, which is made for neither,
/// took a quarter of the server's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    end_in_silence_on_a_closed_pipe();
    let cli = cli::Cli::parse();
    if let Some(args) = cli.name_server() {
        return match control::name_server::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => print::failure(&error),
        };
    }
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

/// `clusterctl get … | head` ends as other tools do. Printing to a closed pipe panics, and a panic may be anywhere, so the
/// hook is the one place to end from.
fn end_in_silence_on_a_closed_pipe() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload().downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        if words.starts_with("failed printing to std") && words.contains("Broken pipe") {
            // 128 + SIGPIPE, as a shell would see it.
            std::process::exit(141);
        }
        report(panic);
    }));
}
