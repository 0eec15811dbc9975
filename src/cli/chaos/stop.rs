//! When somebody wants it to end: Ctrl-C, SIGTERM or SIGHUP once, and what was begun is finished and judged; twice, and what was
//! done to the mesh is made good and the process ends at once.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::process::make_amends;
use crate::cli::local::Signals;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Whether to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
}

impl Stop {
    /// Hears signals from now on. A panic makes amends, too, before it ends the process.
    pub(super) fn listen() -> Result<Self, String> {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            make_amends();
            usual(panic);
        }));
        let stop = Self::default();
        let asked = Arc::clone(&stop.asked);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?
        };
        thread::spawn(move || {
            runtime.block_on(async {
                signals.asked().await;
                asked.store(true, Ordering::Relaxed);
                signals.asked().await;
            });
            make_amends();
            process::exit(1);
        });
        Ok(stop)
    }

    /// Whether it was asked for.
    pub(super) fn is_urgent(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Lets time pass, unless it is asked for.
    pub(super) fn wait(&self, span: Duration) {
        let start = Instant::now();
        while !self.is_urgent() && start.elapsed() < span {
            thread::sleep(LOOK.min(span.saturating_sub(start.elapsed()))); // between looks
        }
    }
}
