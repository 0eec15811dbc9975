//! The one binary. What it does is in `keyval::cli`.

fn main() -> std::process::ExitCode {
    keyval::cli::run()
}
