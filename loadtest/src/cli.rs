//! The command line: one command for each scenario.

use clap::{Parser, Subcommand};

use crate::arguments::{EXIT_CODES, help};
use crate::figures::specs;
use crate::{chat, compare, documents, idle, million, reconnect, rooms, scaling, storm, walk};

/// Load test for corelay: many players on io_uring, each sending at its own pace whatever the relay does.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Rooms full of players that move: reach, latency, and what a delivered frame costs
    #[command(after_long_help = help(rooms::HELP, &specs(rooms::FIGURES), rooms::EXAMPLE))]
    Rooms(rooms::Arguments),
    /// Players that joined and are silent: memory per player
    #[command(after_long_help = help(idle::HELP, &specs(idle::FIGURES), idle::EXAMPLE))]
    Idle(idle::Arguments),
    /// Thousands of Phoenix clients join one topic at once: join latency, presence messages
    #[command(after_long_help = help(storm::HELP, &specs(storm::FIGURES), storm::EXAMPLE))]
    Storm(storm::Arguments),
    /// A million players in one relay, most of them silent: memory, processor time and latency
    #[command(after_long_help = help(million::HELP, &specs(million::FIGURES), million::EXAMPLE))]
    Million(million::Arguments),
    /// Chat rooms: whether every message reaches everybody once and in order, how late, and what it costs
    #[command(after_long_help = help(chat::HELP, &specs(chat::FIGURES), chat::EXAMPLE))]
    Chat(chat::Arguments),
    /// Documents that several edit at once: whether all end with the same text, how late, and what it costs a game
    #[command(after_long_help = help(documents::HELP, &specs(documents::FIGURES), documents::EXAMPLE))]
    Documents(documents::Arguments),
    /// Everybody loses its connection at once, or the relay is restarted: who is back when, and what was lost
    #[command(after_long_help = help(reconnect::HELP, &specs(reconnect::FIGURES), reconnect::EXAMPLE))]
    Reconnect(reconnect::Arguments),
    /// A world in which players walk: whether everybody sees whom it should and nobody else, how late, and what it costs
    #[command(after_long_help = help(walk::HELP, &specs(walk::FIGURES), walk::EXAMPLE))]
    Walk(walk::Arguments),
    /// One run for each number of connections up to a million: what grows, as a page of charts
    #[command(after_long_help = help(scaling::HELP, &specs(scaling::FIGURES), scaling::EXAMPLE))]
    Scaling(scaling::Arguments),
    /// corelay beside relays on other libraries: deliveries per CPU second, latency, memory, as ratios
    #[command(after_long_help = compare::help())]
    Compare(compare::Arguments),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn names_are_unique_in_the_json_too() {
        let (chat, reconnect) = (specs(chat::FIGURES), specs(reconnect::FIGURES));
        let (rooms, idle, storm) = (specs(rooms::FIGURES), specs(idle::FIGURES), specs(storm::FIGURES));
        let (million, scaling, documents) =
            (specs(million::FIGURES), specs(scaling::FIGURES), specs(documents::FIGURES));
        let walk = specs(walk::FIGURES);
        for specs in [rooms, idle, storm, million, scaling, chat, documents, reconnect, walk] {
            let paths: std::collections::BTreeSet<_> = specs.iter().map(|spec| spec.json_path()).collect();
            assert_eq!(paths.len(), specs.len());
        }
    }
}
