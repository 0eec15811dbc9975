//! The one binary. What it does is in `keyval::cli`.

/// See docs/decisions/0002-dependencies.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    keyval::cli::run()
}
