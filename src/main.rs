//! The `narthex` program: command line in, exit code out. Everything else is the library's.

use std::io;
use std::process::ExitCode;

use narthex::cli::{self, Action};
use narthex::{app, config};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let environment = config::Environment::of_process();
    let action = cli::main(std::env::args_os(), environment, &mut io::stdout(), &mut io::stderr());
    match action {
        Ok(Action::Run(config)) => app::run(*config).into(),
        Ok(Action::Exit(code)) => code.into(),
        // stdout was closed by its reader: that is the reader's business.
        Err(_closed) => ExitCode::SUCCESS,
    }
}
