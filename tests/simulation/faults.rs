//! What may go wrong in a run, how often it does, and which rare branches it led to.
//!
//! Each seed draws which faults are on, and how likely each is (swarm testing): a run with everything at once never gets far
//! enough to meet what needs a long calm and one reset.

use std::fmt::Write;

use super::random::Random;

/// Defines a closed enum of things that are counted.
macro_rules! counted {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($variant,)+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            pub const COUNT: usize = Self::ALL.len();

            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

counted! {
    /// What the network, the kernel, the clients and the operator do to the relay.
    Fault {
        CutSegment = "a segment is cut anywhere",
        LateBytes = "a client's bytes come late",
        StuckReader = "a client stops reading",
        SlowReader = "a client reads a few bytes at a time",
        LateSent = "a send completes late",
        Reset = "a connection is reset at any byte",
        EndOfStream = "a stream ends without a close frame",
        Vanish = "a client is gone and the relay hears nothing",
        TakeOver = "a client comes back while its old connection lives",
        Freeze = "a client stands still",
        FullMailbox = "a letter waits behind a full mailbox",
        RefusedForward = "too many letters wait and one is refused",
        LateHandOver = "a descriptor comes later than its letter",
        RefusedHandOver = "the kernel refuses a handover",
        ShortTurn = "a turn ends at its bound",
        StandStill = "a shard stands still",
        AllStandStill = "the relay stands still",
        ShardEnd = "a shard ends, and the others go on",
        Kick = "an operator kicks a user",
        LostAnswer = "a question to a shard, or its answer, is lost",
        Drain = "the relay drains, and another one is started",
        SlowStore = "the store takes its time",
        StoreRefuses = "the store refuses",
        StoreConflicts = "the store says that another has written to a document",
        Crash = "the relay is killed, and another one is started",
    }
}

counted! {
    /// What the relay and its clients are rarely brought to.
    Branch {
        SlowClose = "a client is closed as slow",
        IdleClose = "a client is closed as idle",
        ReplacedClose = "a client is closed as replaced",
        KickedClose = "a client is closed as kicked",
        KickAnswered = "every shard has answered to a kick",
        KickUnanswered = "a kick closes without every answer",
        DrainClose = "a client is closed for the drain",
        ClientsClose = "a client says goodbye",
        Refused = "an upgrade is refused",
        GivenUp = "a member is given up",
        ReplacedChannel = "a channel closes because its seat was taken",
        SupersededJoin = "a topic is joined anew on the same connection",
        JoinOverload = "a join is refused for overload",
        PushOverload = "a push is refused for overload",
        GameFull = "a game is full",
        StaleFrame = "a state frame is skipped",
        StaleMessage = "a message of a channel that is gone is dropped",
        Resumed = "a seat is resumed",
        ResumedByPreviousToken = "a seat is resumed by its previous token",
        SeatLost = "a seat was held in vain",
        CaughtUp = "missed events are caught up with",
        TooOld = "what was missed is too old",
        OtherEpoch = "what was missed is of another epoch",
        Ahead = "more was seen than there was",
        ListOff = "a list of presence stops",
        ListBack = "a list of presence comes back",
        RateLimited = "something is over a rate limit",
        Corrected = "a move is corrected",
        Paused = "a client is over its byte budget and not read from",
        Drained = "a relay has drained",
        Unread = "messages wait for the next turn",
        Said = "a message is said in a room",
        Edited = "a message is edited",
        Deleted = "a message is deleted",
        LeftOut = "an edit that was replaced is left out of what was missed",
        Unavailable = "the store could not do it",
        CutBeforeCommit = "the process ends before what was said is on disk",
        CutBehindCommit = "the process ends before it can tell what is on disk",
        Told = "an event is told",
        ToldAlone = "an event is told to one player alone",
        Typed = "somebody types",
        OperationMade = "an operation makes a version",
        OperationAgain = "an operation that has made a version is sent again",
        OperationGivenUp = "an operation is refused and given up",
        OperationsCaughtUp = "missed operations come back",
        OperationsPaged = "missed operations come in pages",
        StateInParts = "a text comes in parts",
        CursorMoved = "somebody moves its cursor",
        DocumentSaved = "a document is written anew",
    }
}

/// How often each fault and each branch happened.
#[derive(Clone, Debug)]
pub struct Counts {
    faults: [u64; Fault::COUNT],
    branches: [u64; Branch::COUNT],
}

impl Default for Counts {
    fn default() -> Self {
        Self { faults: [0; Fault::COUNT], branches: [0; Branch::COUNT] }
    }
}

impl Counts {
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub fn branch(&mut self, branch: Branch) {
        self.branches(branch, 1);
    }

    pub fn branches(&mut self, branch: Branch, times: u64) {
        self.branches[branch as usize] += times;
    }

    pub fn add(&mut self, other: &Self) {
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
        self.branches.iter_mut().zip(other.branches).for_each(|(sum, count)| *sum += count);
    }

    /// The faults and branches that never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let counts = self.rows();
        counts.into_iter().filter(|(_, count)| *count == 0).map(|(label, _)| label).collect()
    }

    pub fn table(&self) -> String {
        let mut table = String::new();
        for (label, count) in self.rows() {
            let _ = writeln!(table, "{count:>10}  {label}");
        }
        table
    }

    fn rows(&self) -> Vec<(&'static str, u64)> {
        let faults = Fault::ALL.iter().map(|fault| (fault.label(), self.faults[*fault as usize]));
        let branches = Branch::ALL.iter().map(|branch| (branch.label(), self.branches[*branch as usize]));
        faults.chain(branches).collect()
    }
}

/// How likely each fault is in a run, in permille of its opportunities.
#[derive(Clone, Debug)]
pub struct Plan([u32; Fault::COUNT]);

impl Plan {
    pub fn draw(random: &mut Random) -> Self {
        Self(std::array::from_fn(|index| match random.below(2) {
            0 => 0,
            _ => random.one_of(&Fault::ALL[index].levels()),
        }))
    }

    pub fn calm() -> Self {
        Self([0; Fault::COUNT])
    }

    pub fn of(&self, fault: Fault) -> u32 {
        self.0[fault as usize]
    }

    pub fn is_on(&self, fault: Fault) -> bool {
        self.of(fault) > 0
    }
}

impl Fault {
    /// How likely the fault may be. Opportunities are segments, sends, handovers, or steps of a run.
    fn levels(self) -> [u32; 3] {
        match self {
            Self::CutSegment | Self::LateBytes | Self::LateSent => [30, 200, 700],
            Self::LateHandOver | Self::RefusedHandOver => [50, 200, 500],
            Self::StuckReader | Self::SlowReader => [10, 50, 150],
            Self::Reset | Self::EndOfStream | Self::Vanish | Self::TakeOver => [5, 30, 100],
            Self::Freeze => [3, 15, 60],
            Self::StandStill => [3, 20, 60],
            Self::AllStandStill => [1, 5, 15],
            Self::Kick => [1, 5, 20],
            Self::LostAnswer => [30, 150, 500],
            Self::Drain | Self::ShardEnd | Self::Crash => [1, 3, 6],
            Self::SlowStore => [50, 300, 900],
            Self::StoreRefuses => [10, 60, 300],
            Self::StoreConflicts => [30, 150, 500],
            // These faults are bounds, drawn once a run.
            Self::FullMailbox | Self::RefusedForward | Self::ShortTurn => [1, 2, 3],
        }
    }
}
