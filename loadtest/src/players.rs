//! Players that move, in whole rooms, on several threads: a crew that plays, and a director who keeps the time.

mod crew;
mod director;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crew::{Crew, play};

pub use crew::{Pace, Part, Phase, Shared, Tallies};
pub use director::{Director, Waited, Window};

/// Runs `parts`, each on a thread of its own, until `direct` has ended, and sums up what they measured. What the threads say
/// explains an error of `direct`.
pub fn run<T>(
    parts: impl IntoIterator<Item = Part>,
    shared: &Shared,
    direct: impl FnOnce(&Crew<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Tallies)> {
    let (directed, sum, first_error) = std::thread::scope(|scope| {
        let start = |part| {
            let thread = std::thread::Builder::new().name("players".into());
            thread.spawn_scoped(scope, || play(part, shared))
        };
        let crew = parts.into_iter().map(start).collect::<std::io::Result<Crew<'_>>>();
        let crew = crew.inspect_err(|_| shared.enter(Phase::Abort)).context("starting a thread")?;
        let directed = direct(&crew);
        shared.enter(Phase::Abort);
        let (mut sum, mut first_error) = (Tallies::default(), None);
        for thread in crew {
            match thread.join().expect("a thread does not panic") {
                Ok(tallies) => sum.add(&tallies),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        anyhow::Ok((directed, sum, first_error))
    })?;
    match (directed, first_error) {
        (Ok(directed), None) => Ok((directed, sum)),
        (Ok(_), Some(error)) => Err(error),
        (Err(error), None) => bail!("{error:#}{}", sum.endings.causes()),
        (Err(error), Some(cause)) => bail!("{error:#}: {cause:#}{}", sum.endings.causes()),
    }
}

/// A bar on standard error that tells the phase of a run; hidden when that is no terminal.
pub fn bar(connections: u32) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:10} {bar:30} {pos}/{len} {elapsed} {msg}");
    ProgressBar::new(connections.into()).with_style(style.expect("the template is constant and valid"))
}
