//! `walk`: a world in which players walk; whether everybody is shown whom it should see and nobody else, how late, and what it
//! costs: without views, and with views.

mod arguments;
mod game;
mod grid;
mod oracle;
mod pauses;
mod sight;
mod summary;
mod trails;
mod walker;
mod world;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, bail};

use crate::arguments::Site;
use crate::figures::specs;
use crate::limits::make_room;
use crate::players::bar;
use crate::relay::{Relay, Settings, relay_binary};
use crate::report::{self, Report};
use crate::target::Target;
use crate::tokens::Tokens;
use game::{Played, play};
use summary::Measured;

pub use arguments::{Arguments, EXAMPLE, HELP};
pub use summary::FIGURES;

/// Runs the scenario; whether all assertions hold.
pub fn run(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<bool> {
    arguments.check()?;
    if arguments.only_fill {
        play_there(arguments, interrupted)?;
        return Ok(true);
    }
    report::run(&arguments.output, &specs(FIGURES), || measure(arguments, interrupted))
}

/// Runs the scenario, and writes nothing.
fn measure(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Report> {
    let mut measured = Measured::default();
    let mut add = |played: Option<Played>| {
        let Some(played) = played else { bail!("interrupted before the measured window began") };
        let views = played.world.view.is_some();
        let side = if views { &mut measured.views } else { &mut measured.plain };
        *side = Some(played);
        Ok(())
    };
    if arguments.url.is_some() {
        add(play_there(arguments, interrupted)?)?;
    } else {
        add(play_here(arguments, false, interrupted)?)?;
        if !arguments.no_views {
            add(play_here(arguments, true, interrupted).context("with views")?)?;
        }
    }
    measured.complete = !interrupted.load(Relaxed);
    Ok(summary::report(arguments, &measured))
}

/// On a relay that runs already.
fn play_there(arguments: &Arguments, interrupted: &AtomicBool) -> anyhow::Result<Option<Played>> {
    let site = arguments.access.site(arguments.url.as_deref().unwrap_or_default())?;
    let bar = bar(arguments.players);
    make_room(arguments.players, 1, site.target.address)?;
    let played = play(arguments, &site, &bar, interrupted);
    bar.finish_and_clear();
    played
}

/// On a relay that is started for it, and ended.
fn play_here(
    arguments: &Arguments,
    has_views: bool,
    interrupted: &AtomicBool,
) -> anyhow::Result<Option<Played>> {
    arguments.access.ensure_unset()?;
    let configuration = arguments.configuration(has_views);
    let settings = Settings { connections: arguments.players, configuration: &configuration, data_dir: None };
    let relay = Relay::start(&relay_binary(arguments.relay.as_deref())?, settings, interrupted)?;
    let target = Target::parse(&relay.url, None)?;
    make_room(arguments.players, 1, target.address)?;
    let site = Site { target, server: relay.server(), tokens: Tokens::None };
    let bar = bar(arguments.players);
    let played = play(arguments, &site, &bar, interrupted)?;
    bar.finish_and_clear();
    relay.stop()?;
    if played.as_ref().is_some_and(|played| played.world.view.is_some() != has_views) {
        bail!("the relay's Layout does not say what was configured: views {has_views}");
    }
    Ok(played)
}
