//! Bugs on purpose, which show that the tests from seeds would find them. In a build with the feature `planted`, which only those
//! tests make, each can be switched on for a thread. In every other build `planted!` is `false`, and nothing of them
//! is left. A binary cannot be built with them.

#[cfg(all(feature = "planted", feature = "server"))]
compile_error!("planted bugs are for tests of the core: build with --no-default-features");

/// Whether this place has its bug: `if planted!(KeepsSubscriber) { … }`.
#[cfg(not(feature = "planted"))]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// Whether this place has its bug: `if planted!(KeepsSubscriber) { … }`.
#[cfg(feature = "planted")]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_planted($crate::planted::Bug::$bug)
    };
}

#[cfg(feature = "planted")]
pub use self::bugs::{Bug, is_planted, plant};

#[cfg(feature = "planted")]
mod bugs {
    use std::cell::Cell;

    macro_rules! bugs {
        ($($(#[$list_doc:meta])* $list:ident { $($(#[$doc:meta])* $name:ident,)+ })+) => {
            /// What can be planted.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Bug { $($($(#[$doc])* $name,)+)+ }

            impl Bug {
                $($(#[$list_doc])* pub const $list: &[Self] = &[$(Self::$name,)+];)+
            }
        };
    }

    bugs! {
        /// Those that the simulation (`tests/simulation/`) finds.
        ALL {
            /// Messages for members behind a full mailbox are lost in silence.
            LosesInSilence,
            /// A message is told before it is on disk.
            TellsBeforeDisk,
            /// What a message says after an edit or a deletion is not written to disk.
            AmendsInMemory,
            /// Pushes that wait for the store are forgotten.
            ForgetsWaiting,
            /// An operation is not transformed over the first that came since.
            TransformsOverTooFew,
            /// Of two texts that are inserted at one place the later stands left, as clients do not expect.
            LaterStandsLeft,
            /// An operation that is sent again is done again.
            ForgetsOpIds,
            /// What was refused is in the text all the same.
            KeepsRefusedOperations,
            /// The text is written to disk as it was before the operations that it is said to have.
            SavesTextOfBefore,
            /// The cursor of a member that has gone stays.
            KeepsCursors,
            /// Cursors stay where they are, whatever is inserted before them.
            ForgetsCursorMoves,
            /// An operation that waits is transformed over what is on its way to the disk, and may be refused there.
            TransformsTooEarly,
            /// What is told of a document comes between the parts of its text.
            InterleavesState,
            /// Whoever has made a version is told of it by `operation`, too.
            TellsAuthors,
            /// The text is written to disk without who wrote last.
            SavesNoWriters,
            /// A page of operations is said to be the last one.
            EndsPages,
            /// Whoever leaves a topic that is read again, and cannot be read, stays in it.
            KeepsLeavers,
            /// Members that are given up stay in the audience.
            KeepsGivenUp,
            /// A newcomer is named once more to itself.
            InformsTwice,
            /// The last missed event of a native player does not come back.
            ReplaysTooLittle,
            /// The first missed event of a channel does not come back.
            CatchesUpOffByOne,
            /// An event with one receiver does not reach a native one.
            LosesDirectEvent,
            /// A push is answered before what it caused.
            AnswersFirst,
            /// Members that leave stay in the others' lists.
            HidesLeave,
            /// A connection that is lost stays a member of its topics.
            KeepsLost,
            /// Typing does not end by itself.
            TypesForEver,
            /// A lost player's seat is freed at once.
            FreesLostSeat,
            /// The previous resume token is refused at once, though the message with the new one may be lost.
            ForgetsPreviousToken,
            /// A player id is given again.
            RepeatsPlayer,
            /// The rate limits of a lost player are kept when its seat is gone.
            KeepsHeldRates,
            /// A topic that nobody needs any more stays.
            KeepsTopic,
            /// Bytes behind a request head are lost in a handover.
            LosesUnread,
            /// A client over its byte budget is never read from again.
            NeverResumes,
            /// A close that the peer does not finish never ends.
            NeverEndsClose,
            /// A drain ends with connections that are open.
            DrainsTooEarly,
            /// A native player whose frame was skipped gets the changes since, instead of the whole state.
            ForgetsSkipped,
            /// A Delta that waits is replaced by a later Delta.
            ReplacesDelta,
            /// Frames that are exempt from the lane's bound are counted by it.
            CountsExempt,
            /// A state frame that waits is kept, though a message has taken back something in it.
            KeepsOldState,
            /// State frames for a busy connection wait in its lane.
            QueuesState,
            /// Changes are sent to members that were not sent the frame before.
            TrustsFrames,
            /// Nobody asks for the whole state once a connection that was busy is free.
            ForgetsBusy,
            /// Whoever joins a game is not told its state.
            GreetsWithoutState,
            /// The position of a player that has gone is not taken back.
            HidesGonePlayer,
            /// If more events were missed than are kept, the kept ones are replayed.
            ReplaysPart,
            /// Whoever missed many frames is told the latest values of players only.
            TrustsOldKeys,
            /// What a player has set is kept when its seat is freed.
            KeepsKeysOfGone,
            /// A crowd is told who types.
            TypesInCrowd,
            /// Members of the topics of a shard that has ended stay members of them.
            KeepsEndedTopics,
            /// A turn reads everything that has come, however much it is.
            UnboundedTurn,
            /// What comes while messages wait to be read is read before them.
            OvertakesUnread,
        }

        /// Those that the oracle of interest (`tests/interest_oracle/`) finds.
        INTEREST {
            /// An entity counts in the next cell as soon as it is over the edge.
            CrossesAtTheEdge,
            /// Who comes into a view is told when it is due, not at once.
            DelaysArrivals,
            /// Who leaves a view for another cell is not taken back.
            HidesDepartures,
            /// That a seat's former player has gone is forgotten when the seat is taken again in the same tick.
            ForgetsReusedSeats,
            /// Who comes into a view is told without its keys.
            ForgetsOrigins,
            /// A Keyframe holds who was in the view before the last tick.
            KeyframesOfBefore,
            /// What changed a whole period ago is no longer told.
            NarrowsTheWindow,
            /// What changed under a former level is looked for within the present level's period only.
            KeepsTheWindow,
            /// Each ring is told as often as the one around it.
            CountsRingsFromOne,
            /// In a crowd, every other entity is never due.
            StarvesSome,
            /// A crowd does not make frames sparser.
            IgnoresTheBudget,
            /// A view stays sparse when its crowd has gone.
            KeepsLevels,
            /// A member that looks from another view goes on as in the former one.
            ContinuesViews,
            /// A view that was dropped and comes again is the same one.
            RevivesViews,
            /// A member's view follows it at once, however often.
            IgnoresTheHold,
            /// Objects that all see are told when they are due, not at once.
            DecaysEverywhere,
            /// An object that all saw, and that is now in one cell, is not taken back elsewhere.
            KeepsEverywhere,
            /// The game stops ticking before everything was told.
            SettlesTooEarly,
        }
    }

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// From now on this thread's shards have this bug, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this thread's shards have this bug.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}
